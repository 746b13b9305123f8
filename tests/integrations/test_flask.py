from __future__ import annotations

import gzip
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, g, jsonify, request, session, stream_with_context
from flask.views import MethodView
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import TestResponse

import tiercache
from tests.servers import RedisServer
from tiercache import ConfigError, Policy, PurgeError, PurgeUnconfirmed, TierCache
from tiercache.config import Settings
from tiercache.integrations.flask import FlaskTierCache


@pytest.fixture(autouse=True)
def _no_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIERCACHE_DISABLED", raising=False)


def application(name: str = "shop", **config: Any) -> Flask:
    """An app whose every path answers with how often it was reached."""
    app = Flask(name)
    app.config.update(config, SECRET_KEY="k")
    app.calls = []  # type: ignore[attr-defined]

    @app.get("/p/<int:number>")
    @app.get("/open/<int:number>", endpoint="open")
    @app.get("/q", endpoint="q", defaults={"number": 0})
    def page(number: int) -> str:
        app.calls.append(request.path)  # type: ignore[attr-defined]
        return "x" * len(app.calls)  # type: ignore[attr-defined]

    return app


def twice(app: Flask, path: str, **options: Any) -> tuple[TestResponse, TestResponse]:
    http = app.test_client(use_cookies=False)
    # Buffered: read to its end, as a server does, before the next one is asked for.
    return http.get(path, buffered=True, **options), http.get(path, buffered=True, **options)


def said(response: TestResponse) -> str:
    return response.headers["Cache-Status"]


def is_hit(response: TestResponse) -> bool:
    return said(response).startswith("tiercache; hit")


# -- settings --------------------------------------------------------------------------------------------------------


def test_an_app_and_rules_in_its_configuration() -> None:
    app = application(TIERCACHE_ROUTES={"/p/{id}": {"ttl": "10m", "tags": ["product:{id}"]}})
    extension = FlaskTierCache(app)
    first, second = twice(app, "/p/1")
    assert said(first) == "tiercache; fwd=miss; stored"
    assert is_hit(second)
    extension.purge(tags="product:1")
    assert twice(app, "/p/1")[0].text == "xx"


def test_an_app_and_a_cache() -> None:
    cache = TierCache(namespace="given")
    cache.route("/p/{id}", ttl="10m")
    app = application()
    extension = FlaskTierCache(app, cache)
    assert is_hit(twice(app, "/p/1")[1])
    assert app.extensions["tiercache"] is extension.cache is cache


def test_every_setting_has_a_key() -> None:
    values = {
        "URL": "memcached://localhost:1",
        "LEDGER": "redis://localhost:1/0",
        "NAMESPACE": "shop",
        "APP": "flask-shop",
        "VERSION": "7",
        "L1_SIZE": "1MiB",
        "MAX_BODY": "10KiB",
        "L2_BUDGET": "20ms",
        "STALENESS_BOUND": "2s",
        "L2_SLOW": "20ms",
        "DRAIN_TIMEOUT": "1s",
        "ON_LOST_HISTORY": "stale",
        "STRONG_WAIT": "1s",
        "SESSION_SECRET": "correct horse battery",
        "PURGE_TIMEOUT": "3s",
        "LEASE_WAIT": 0,
        "POOL_SIZE": 3,
        "MAX_VARIANTS": 4,
        "CREDENTIAL_HEADERS": ["X-Mine"],
        "IGNORE_COOKIES": ["theme"],
        "TRUST_FORWARDED": ["X-Forwarded-Proto"],
        "TARGETS": ["CDN-Cache-Control"],
        "CACHE_STATUS": False,
        "AGE": False,
        "DEBUG": True,
        "ENABLED": False,
    }
    assert {name.lower() for name in values} == {row.name for row in Settings.settings()}
    extension = FlaskTierCache(application(**{f"TIERCACHE_{name}": value for name, value in values.items()}))
    written = {name.lower(): value for name, value in values.items()}
    assert extension.cache.settings == Settings(**written)


def test_settings_from_the_environment_by_way_of_flask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_TIERCACHE_NAMESPACE", "shop-eu")
    monkeypatch.setenv("FLASK_TIERCACHE_ROUTES", '{"/p/{id}": {"ttl": 60}}')
    app = application()
    app.config.from_prefixed_env()
    assert FlaskTierCache(app).cache.settings.namespace == "shop-eu"
    assert is_hit(twice(app, "/p/1")[1])


@pytest.mark.parametrize(
    ("config", "setting", "hint"),
    [
        ({"TIERCACHE_NAMESPCE": "shop"}, "TIERCACHE_NAMESPCE", "did you mean 'TIERCACHE_NAMESPACE'"),
        ({"TIERCACHE_ROUTE": {}}, "TIERCACHE_ROUTE", "did you mean 'TIERCACHE_ROUTES'"),
        ({"TIERCACHE_DISABLED": "1"}, "TIERCACHE_DISABLED", "did you mean 'TIERCACHE_ENABLED'"),
        ({"TIERCACHE_TTL": "5m"}, "TIERCACHE_TTL", "TIERCACHE_ROUTES = {'/products/{id}': {'ttl': '5m'}}"),
        ({"TIERCACHE_ROUTES": {"/p/<int:id>": {"ttl": 1}}}, "route '/p/<int:id>'", "write {id:int} for <int:id>"),
        ({"TIERCACHE_ROUTES": {"/p": {}}}, "route '/p'", "at least one setting"),
        ({"TIERCACHE_L1_SIZE": "lots"}, "TIERCACHE_L1_SIZE", "64MiB"),
        ({"TIERCACHE_NAMESPACE": "a b"}, "TIERCACHE_NAMESPACE", "letters, digits"),
        ({"TIERCACHE_ROUTES": ["/p"]}, "TIERCACHE_ROUTES", "a dict from templates"),
        ({"TIERCACHE_ROUTES": {"/p": "10m"}}, "TIERCACHE_ROUTES", "a dict from templates"),
        ({"TIERCACHE_ROUTES": {"/p": {"tll": "10m"}}}, "route '/p': tll", "did you mean 'ttl'"),
        ({"TIERCACHE_ROUTES": {"/p/{id": {"ttl": 1}}}, "route '/p/{id'", "braces do not balance"),
    ],
)
def test_bad_configuration(config: dict[str, Any], setting: str, hint: str) -> None:
    app = application(**config)
    inside = app.wsgi_app
    with pytest.raises(ConfigError) as raised:
        FlaskTierCache(app)
    assert raised.value.setting.startswith(setting)
    assert hint in str(raised.value)
    assert app.wsgi_app == inside
    assert "tiercache" not in app.extensions


def test_a_password_is_not_shown() -> None:
    for config in ({"TIERCACHE_URI": "redis://u:secret@h"}, {"TIERCACHE_URL": b"redis://u:secret@h"}):
        with pytest.raises(ConfigError) as raised:
            FlaskTierCache(application(**config))
        assert "secret" not in str(raised.value)
    with pytest.raises(ConfigError) as raised:
        FlaskTierCache(application(), "redis://u:secret@h")  # type: ignore[arg-type]
    assert "secret" not in str(raised.value)


def test_settings_beside_a_given_cache_are_refused() -> None:
    extension = FlaskTierCache(cache=TierCache())
    with pytest.raises(ConfigError, match="TIERCACHE_URL"):
        extension.init_app(application(TIERCACHE_URL="redis://localhost/0"))
    app = application(TIERCACHE_ROUTES={"/p/{id}": {"ttl": 5}})
    extension.init_app(app)
    assert is_hit(twice(app, "/p/1")[1])


def test_an_app_is_wrapped_once() -> None:
    app = application()
    extension = FlaskTierCache(app)
    for again in (extension, FlaskTierCache()):
        with pytest.raises(ConfigError, match="has one already"):
            again.init_app(app)
    assert said(twice(app, "/p/1")[0]).count("tiercache") == 1


# -- several apps, and before any ------------------------------------------------------------------------------------


def test_rules_and_decorators_before_init_app() -> None:
    extension = FlaskTierCache()
    extension.route("/p/{id}", ttl="10m", tags=["product:{id}"])
    blueprint = Blueprint("other", __name__, url_prefix="/other")

    @blueprint.get("/<name>")
    @extension.cached(ttl="5m", tags=["other:{name}"])
    def other(name: str) -> str:
        g.count = getattr(g, "count", 0) + 1
        return name

    app = application(TIERCACHE_ROUTES={"/q": {"ttl": "1m"}})
    extension.init_app(app)
    app.register_blueprint(blueprint)
    for path in ("/p/1", "/q", "/other/tea"):
        assert is_hit(twice(app, path)[1]), path
    extension.purge(tags=["product:1", "other:tea"])
    assert not is_hit(twice(app, "/p/1")[0])
    assert not is_hit(twice(app, "/other/tea")[0])
    assert is_hit(twice(app, "/q")[0])


def test_each_app_has_its_own_cache_unless_one_is_given() -> None:
    extension = FlaskTierCache()
    extension.route("/p/{id}", ttl="10m", tags=["product:{id}"])
    one, two = application("one"), application("two")
    extension.init_app(one)
    extension.init_app(two)
    assert one.extensions["tiercache"] is not two.extensions["tiercache"]
    assert is_hit(twice(one, "/p/1")[1])
    assert not is_hit(twice(two, "/p/1")[0])
    with one.app_context():
        assert extension.cache is one.extensions["tiercache"]
        extension.purge(tags="product:1")
    assert not is_hit(twice(one, "/p/1")[0])
    assert is_hit(twice(two, "/p/1")[0])
    with pytest.raises(ConfigError, match="app_context"):
        extension.purge(tags="product:1")


def test_before_init_app_there_is_nothing_to_purge() -> None:
    with pytest.raises(ConfigError, match="init_app"):
        FlaskTierCache().purge(everything=True)


def test_events_before_and_after_init_app() -> None:
    extension = FlaskTierCache()
    extension.route("/p/{id}", ttl="10m", tags=["product:{id}"])
    extension.on("product.updated", tags=["product:{id}"])
    app = application()
    extension.init_app(app)
    extension.on("product.moved", tags=["product:{old}"])
    for event, arguments in (("product.updated", {"id": 1}), ("product.moved", {"old": 1})):
        assert is_hit(twice(app, "/p/1")[1])
        assert extension.emit(event, **arguments).members == ("t:product:1",)
        assert not is_hit(twice(app, "/p/1")[0])
    with pytest.raises(ConfigError, match="soft"):
        FlaskTierCache().on("product.updated", prefix="/p/", soft=True)
    with pytest.raises(ConfigError, match="init_app"):
        FlaskTierCache().emit("product.updated", id=1)


async def test_events_from_async_views_and_of_a_given_cache() -> None:
    cache = TierCache()
    extension = FlaskTierCache(application(), cache)
    extension.on("product.updated", tags=["product:{id}"])
    assert (await extension.aemit("product.updated", id=1)).members == ("t:product:1",)
    assert [rule.event for rule in cache.events] == ["product.updated"]


def test_what_only_a_cache_has_is_named() -> None:
    with pytest.raises(AttributeError, match=r"FlaskTierCache\(app, cache\) and cache.memoize"):
        FlaskTierCache().memoize  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(AttributeError, match=r"^FlaskTierCache has no 'memoise'$"):
        FlaskTierCache().memoise  # type: ignore[attr-defined]  # noqa: B018


def test_bad_rules_are_refused_where_they_stand() -> None:
    extension = FlaskTierCache()
    with pytest.raises(ConfigError, match="tll"):
        extension.route("/p", tll="10m")  # type: ignore[call-arg]
    extension.route("/p/{id}", Policy(ttl="10m"), browser_ttl="5s")
    with pytest.raises(ConfigError, match="comes first"):
        extension.route("/p/{name}", ttl="1m")
    with pytest.raises(ConfigError, match="query"):
        extension.cached(ttl="1m", query="ignore")
    app = application()
    extension.init_app(app)
    assert is_hit(twice(app, "/p/1")[1])
    assert twice(app, "/p/1")[0].headers["Cache-Control"].endswith("max-age=5")


def test_rules_after_init_app_reach_the_apps_that_there_are() -> None:
    extension = FlaskTierCache(app := application())
    extension.route("/p/{id}", ttl="10m")
    assert is_hit(twice(app, "/p/1")[1])
    given = FlaskTierCache(other := application(), TierCache())
    given.route("/p/{id}", ttl="10m")
    assert is_hit(twice(other, "/p/1")[1])


# -- views -----------------------------------------------------------------------------------------------------------


def test_the_decorator_takes_tags_from_the_arguments_of_the_view() -> None:
    app = application()
    cache = FlaskTierCache(app)

    @app.get("/d/<int:number>/<name>")
    @cache.cached(ttl="10m", tags=["number:{number}", "name:{name}"])
    def decorated(number: int, name: str) -> Response:
        return jsonify(number=number, name=name)

    first, second = twice(app, "/d/4/tea")
    assert is_hit(second)
    assert first.json == second.json == {"number": 4, "name": "tea"}
    assert first.content_type == second.content_type == "application/json"
    for tag, hit in (("number:5", True), ("number:4", False), ("name:tea", False)):
        cache.purge(tags=tag)
        assert is_hit(twice(app, "/d/4/tea")[0]) == hit
    with app.test_request_context():
        assert decorated(4, "tea").json == decorated(number=4, name="tea").json


def test_the_decorator_beside_a_method_view() -> None:
    app = application()
    cache = FlaskTierCache(app)

    class Item(MethodView):
        @cache.cached(ttl="10m", tags=["item:{number}"])
        def get(self, number: int) -> str:
            return str(number)

        def post(self, number: int) -> str:
            return "done"

    app.add_url_rule("/i/<int:number>", view_func=Item.as_view("item"))
    assert is_hit(twice(app, "/i/4")[1])
    cache.purge(tags="item:4")
    assert not is_hit(twice(app, "/i/4")[0])
    assert app.test_client().post("/i/4", buffered=True).text == "done"
    assert not is_hit(twice(app, "/i/4")[0])


def test_what_a_view_says() -> None:
    app = application(TIERCACHE_ROUTES={"/s/{what}": {"ttl": "10m"}})
    cache = FlaskTierCache(app)
    says: dict[str, Callable[[], None]] = {
        "tag": lambda: tiercache.tag("a", "b"),
        "no_store": lambda: tiercache.no_store("per-user price"),
        "ttl": lambda: tiercache.ttl("90s"),
    }

    @app.get("/s/<what>")
    def says_so(what: str) -> str:
        says[what]()
        return what

    assert is_hit(twice(app, "/s/tag")[1])
    cache.purge(tags="b")
    assert not is_hit(twice(app, "/s/tag")[0])
    assert said(twice(app, "/s/no_store")[1]) == "tiercache; fwd=miss; detail=view"
    _, second = twice(app, "/s/ttl")
    assert said(second).removesuffix("; detail=l1") in ("tiercache; hit; ttl=89", "tiercache; hit; ttl=90")


def test_a_tag_said_while_the_body_streams() -> None:
    app = application(TIERCACHE_ROUTES={"/stream": {"ttl": "10m"}})
    cache = FlaskTierCache(app)

    @app.get("/stream")
    def stream() -> Response:
        def body() -> Iterator[str]:
            yield "a"
            tiercache.tag("late")
            yield request.path

        return Response(stream_with_context(body()))

    first, second = twice(app, "/stream")
    assert first.text == second.text == "a/stream"
    assert is_hit(second)
    cache.purge(tags="late")
    assert not is_hit(twice(app, "/stream")[0])


def test_a_post_that_updates_and_purges() -> None:
    app = application(TIERCACHE_ROUTES={"/price": {"ttl": "10m", "tags": ["price"]}})
    cache = FlaskTierCache(app)
    prices = [1]

    @app.get("/price")
    def price() -> str:
        return str(prices[-1])

    @app.post("/update/<int:value>")
    def update(value: int) -> str:
        prices.append(value)
        return str(cache.purge(tags="price").number)

    assert [r.text for r in twice(app, "/price")] == ["1", "1"]
    assert app.test_client().post("/update/7", buffered=True).status_code == 200
    first, second = twice(app, "/price")
    assert [first.text, second.text, is_hit(first), is_hit(second)] == ["7", "7", False, True]


async def test_purge_in_async_code() -> None:
    app = application(TIERCACHE_ROUTES={"/p/{id}": {"ttl": "10m", "tags": ["p"]}})
    cache = FlaskTierCache(app)
    twice(app, "/p/1")
    with pytest.raises(PurgeError, match="apurge"):
        cache.purge(tags="p")
    await cache.apurge(tags="p")
    assert not is_hit(twice(app, "/p/1")[0])


# -- sessions, errors, neighbours ------------------------------------------------------------------------------------


def test_what_sets_a_session_cookie_is_not_stored() -> None:
    app = application(TIERCACHE_ROUTES={"/{rest:path}": {"ttl": "10m"}})
    FlaskTierCache(app)

    @app.get("/login")
    def login() -> str:
        session["user"] = "ada"
        return "welcome"

    for response in twice(app, "/login"):
        assert "session=" in response.headers["Set-Cookie"]
        assert said(response) == "tiercache; fwd=miss; detail=set-cookie"


def test_with_a_session_the_app_is_asked_unless_the_rule_ignores_cookies() -> None:
    routes = {"/open/{id}": {"ttl": "10m", "cookies": "ignore"}, "/{rest:path}": {"ttl": "10m"}}
    app = application(TIERCACHE_ROUTES=routes)
    FlaskTierCache(app)

    @app.get("/me")
    def me() -> str:
        return str(session.get("user"))

    http = app.test_client()
    with http.session_transaction() as mine:
        mine["user"] = "ada"
    for _ in range(2):
        response = http.get("/me", buffered=True)
        assert response.text == "ada"
        assert said(response) == "tiercache; fwd=bypass; detail=cookie"
    assert [r.text for r in twice(app, "/me")] == ["None", "None"]
    twice(app, "/open/1")
    assert is_hit(http.get("/open/1", buffered=True))


def test_an_exception_in_a_view_is_answered_and_not_stored() -> None:
    app = application(TIERCACHE_ROUTES={"/{rest:path}": {"ttl": "10m"}})
    FlaskTierCache(app)
    broken = [True, False]

    @app.get("/fail")
    def fail() -> str:
        if broken.pop(0):
            raise ValueError
        return "well"

    first, second = twice(app, "/fail")
    assert (first.status_code, second.status_code) == (500, 200)
    assert said(second) == "tiercache; fwd=miss; stored"
    assert is_hit(twice(app, "/fail")[0])


def test_an_exception_that_flask_hands_on_reaches_the_server() -> None:
    app = application(TIERCACHE_ROUTES={"/fail": {"ttl": "10m"}}, PROPAGATE_EXCEPTIONS=True)
    FlaskTierCache(app)

    @app.get("/fail")
    def fail() -> str:
        raise ValueError("no product")

    for _ in range(2):
        with pytest.raises(ValueError, match="no product"):
            app.test_client().get("/fail", buffered=True)


def test_an_error_page_is_stored_only_by_its_status() -> None:
    app = application(TIERCACHE_ROUTES={"/a/{id}": {"ttl": "10m", "ttl_by_status": {404: "5s"}}, "/b/{id}": {"ttl": 9}})
    FlaskTierCache(app)
    assert [is_hit(twice(app, path)[1]) for path in ("/a/1", "/b/1")] == [True, False]


def test_hooks_run_on_a_miss_and_not_on_a_hit() -> None:
    app = application(TIERCACHE_ROUTES={"/p/{id}": {"ttl": "10m"}})
    FlaskTierCache(app)
    log: list[str] = []
    app.before_request(lambda: log.append("before"))

    @app.after_request
    def after(response: Response) -> Response:
        log.append("after")
        return response

    @app.teardown_request
    def torn_down(error: BaseException | None) -> None:
        log.append("teardown")

    twice(app, "/p/1")
    assert log == ["before", "after", "teardown"]


def _gzip(app: Any) -> Any:
    """What a compressing WSGI middleware does."""

    def compressing(environ: dict[str, Any], start_response: Any) -> Any:
        if "gzip" not in environ.get("HTTP_ACCEPT_ENCODING", ""):
            return app(environ, lambda s, h, e=None: start_response(s, [*h, ("Vary", "Accept-Encoding")], e))
        kept: list[Any] = []
        body = app(environ, lambda s, h, e=None: kept.extend((s, h)))
        packed = gzip.compress(b"".join(body))
        getattr(body, "close", lambda: None)()
        status, headers = kept
        headers = [pair for pair in headers if pair[0].lower() != "content-length"]
        encoded = [("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding"), ("Content-Length", str(len(packed)))]
        start_response(status, [*headers, *encoded])
        return [packed]

    return compressing


@pytest.mark.parametrize("inside", [True, False])
def test_a_compressing_middleware_inside_or_outside(inside: bool) -> None:
    app = application(TIERCACHE_ROUTES={"/p/{id}": {"ttl": "10m"}})
    if inside:
        app.wsgi_app = _gzip(app.wsgi_app)  # type: ignore[method-assign]
    FlaskTierCache(app)
    if not inside:
        app.wsgi_app = _gzip(app.wsgi_app)  # type: ignore[method-assign]
    packed = twice(app, "/p/1", headers={"Accept-Encoding": "gzip"})
    plain = twice(app, "/p/1", headers={"Accept-Encoding": "identity"})
    assert [gzip.decompress(r.data) for r in packed] == [b"x", b"x"]
    assert [r.data for r in plain] == ([b"xx", b"xx"] if inside else [b"x", b"x"])
    assert [is_hit(r) for r in (*packed, *plain)] == [False, True, not inside, True]


def test_rules_match_the_whole_path_of_a_mounted_app() -> None:
    app = application(TIERCACHE_ROUTES={"/mounted/p/{id}": {"ttl": "10m", "tags": ["product:{id}"]}})
    cache = FlaskTierCache(app)
    outer = Flask("outer")
    outer.wsgi_app = DispatcherMiddleware(  # type: ignore[method-assign]
        outer.wsgi_app, {"/mounted": app.wsgi_app, "/again": app.wsgi_app}
    )
    assert is_hit(twice(outer, "/mounted/p/1")[1])
    assert not is_hit(twice(outer, "/again/p/1")[1])
    cache.purge(tags="product:1")
    assert not is_hit(twice(outer, "/mounted/p/1")[0])


# -- Redis -----------------------------------------------------------------------------------------------------------


def _two(url: str, namespace: str, *apps_by_name: str) -> list[Flask]:
    routes = {"/p/{id}": {"ttl": "10m", "tags": ["product:{id}"]}}
    apps = []
    for name in apps_by_name:
        # A budget that no busy machine exceeds.
        names = {"TIERCACHE_NAMESPACE": namespace, "TIERCACHE_APP": name, "TIERCACHE_L2_BUDGET": "20s"}
        app = application(TIERCACHE_URL=url, TIERCACHE_ROUTES=routes, **names)
        FlaskTierCache(app)
        apps.append(app)
    return apps


def test_two_processes_share_through_redis(redis_server: RedisServer) -> None:
    one, two = _two(redis_server.url, "two", "shop", "shop")
    try:
        twice(one, "/p/1")
        first, second = twice(two, "/p/1")
        assert said(first).endswith("detail=l2")
        assert said(second).endswith("detail=l1")
        assert two.calls == []  # type: ignore[attr-defined]
    finally:
        for app in (one, two):
            app.extensions["tiercache"].close()


def test_apps_of_one_namespace_do_not_share_bodies(redis_server: RedisServer) -> None:
    one, two = _two(redis_server.url, "two", "shop", "api")
    try:
        twice(one, "/p/1")
        assert [is_hit(r) for r in twice(two, "/p/1")] == [False, True]
        assert one.extensions["tiercache"].purge(tags="product:1").shared
    finally:
        for app in (one, two):
            app.extensions["tiercache"].close()


def test_a_purge_that_redis_cannot_confirm_holds_here_and_raises() -> None:
    app = application(
        TIERCACHE_URL="redis://127.0.0.1:1/0", TIERCACHE_ROUTES={"/p/{id}": {"ttl": "10m", "tags": ["product:{id}"]}}
    )
    cache = FlaskTierCache(app)
    try:
        assert is_hit(twice(app, "/p/1")[1])
        with pytest.raises(PurgeUnconfirmed):
            cache.purge(tags="product:1")
        first, second = twice(app, "/p/1")
        assert (first.status_code, first.text) == (200, "xx")
        assert second.text == "xx"
    finally:
        app.extensions["tiercache"].close()


# -- mistakes --------------------------------------------------------------------------------------------------------


def test_a_decorator_that_stands_above_the_path_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    cache = FlaskTierCache(app := application())
    with caplog.at_level(logging.WARNING, "tiercache"):

        @app.get("/below")
        @cache.cached(ttl="1m")
        def below() -> str:
            return "below"

        assert caplog.text == ""

        @cache.cached(ttl="1m")
        @app.get("/above")
        def above() -> str:
            return "above"

    assert "above has been registered already" in caplog.text
    assert is_hit(twice(app, "/below")[1])
    assert not is_hit(twice(app, "/above")[1])


def test_events_may_be_given_by_a_generator() -> None:
    extension = FlaskTierCache()
    extension.on("changed", tags=(f"{kind}:{{id}}" for kind in ("a", "b")))
    for name in ("one", "two"):
        extension.init_app(app := application(name))
        assert app.extensions["tiercache"].emit("changed", id=1).members == ("t:a:1", "t:b:1")


@pytest.mark.parametrize("first", [TierCache(), "shop", object()])
def test_what_is_no_app_is_refused(first: Any) -> None:
    with pytest.raises(ConfigError, match=r"FlaskTierCache: app: .* FlaskTierCache\(app, cache\)"):
        FlaskTierCache(first)
