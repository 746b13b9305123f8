from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiercache.core import routes
from tiercache.core.policy import Policy
from tiercache.core.routes import MEMO_ENTRIES, MEMO_PATH_LENGTH, Route, RouteTable, fill_tags
from tiercache.errors import ConfigError


def table(*templates: str) -> RouteTable:
    return RouteTable([Route(template) for template in templates])


def test_the_first_rule_that_matches_decides() -> None:
    rules = table("/products/new", "/products/{id:int}", "/{page}/{id}", "/products/{id}/{rest:path}", "/{rest:path}")
    for path, template in {
        "/products/new": "/products/new",
        "/products/7": "/products/{id:int}",
        "/products/x": "/{page}/{id}",
        "/products/x/y": "/products/{id}/{rest:path}",
        "/products/7/": "/products/{id}/{rest:path}",
        "/a/b/c": "/{rest:path}",
        "/": "/{rest:path}",
    }.items():
        assert rules.match(path).template == template
        # Once found, and once remembered.
        assert rules.match(path).template == template


def test_a_wide_rule_before_a_narrow_one_of_another_beginning() -> None:
    rules = table("/{page}/a-{id}", "/x/{id}")
    assert rules.match("/x/a-1").template == "/{page}/a-{id}"
    assert rules.match("/x/b").template == "/x/{id}"


def test_what_no_rule_matches_has_the_default_route() -> None:
    rules = table("/a")
    for path in ("/b", "", "*", "a", "//", "/a/"):
        assert rules.match(path) is rules.unmatched
        assert rules.params_for(path) == {}
    assert rules.unmatched.is_rule is False
    assert rules.unmatched.policy == Policy()
    assert rules.unmatched.tags_for({}) == ()
    assert rules.unmatched.match("/any") == {}
    assert RouteTable(unmatched=Policy(cache=False)).match("/").policy.cache is False


def test_parameters_are_the_text_of_what_the_app_gets() -> None:
    """A purge names the app's own value: another spelling of it in the path must not escape."""
    rules = RouteTable([Route.parse("/{shop}/p/{id:int}", {"tags": ["product:{id}", "{shop}:{id}", "all"]})])
    params = rules.params_for("/ä b/p/007")
    assert params == {"shop": "ä b", "id": "7"}
    assert rules.match("/ä b/p/007").tags_for(params) == ("product:7", "ä b:7", "all")
    assert Route("/u/{u:uuid}").params_for("/u/12345678-1234-1234-1234-1234567890AB") == {
        "u": "12345678-1234-1234-1234-1234567890ab"
    }
    assert Route("/x/{x:float}").params_for("/x/01.50") == {"x": "1.5"}
    huge = "9" * 5000
    assert Route("/n/{n:int}").params_for(f"/n/{huge}") == {"n": huge}


def test_tags_cannot_be_reached_into_by_a_path() -> None:
    route = Route.parse("/{id}", {"tags": ["t:{id}"]})
    assert route.tags_for(route.params_for("/{id.__class__}")) == ("t:{id.__class__}",)


def test_tags_without_parameters_are_ready() -> None:
    route = Route.parse("/{id}", {"tags": ["a", "b"], "invalidates": ["a", "c:{id}"]})
    assert route.tags_for({}) is route.tags_for({"id": "1"})
    assert route.tags_for({}) == ("a", "b")
    assert route.invalidates_for({"id": "1"}) == ("a", "c:1")


def test_filling_a_tag_without_its_parameter_is_an_error() -> None:
    assert fill_tags(["a:{x}", "b", "a:{x}"], {"x": "1"}) == ("a:1", "b")
    with pytest.raises(KeyError):
        fill_tags(["a:{x}"], {})


@pytest.mark.parametrize("setting", ["tags", "invalidates"])
def test_a_tag_needs_the_parameters_of_its_route(setting: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Route.parse("/products/{id}", {setting: ["fine:{id}", "product:{sku}"]})
    error = raised.value
    assert (error.setting, error.value) == (f"route '/products/{{id}}': {setting}", "product:{sku}")
    assert error.accepted == "tag templates with the parameters of the route (id)"
    with pytest.raises(ConfigError, match="it has none"):
        Route.parse("/products", {setting: ["product:{id}"]})


def test_errors_name_the_route_and_the_setting() -> None:
    with pytest.raises(ConfigError) as raised:
        Route.parse("/products/{id}", {"ttl": "soon"})
    assert (raised.value.setting, raised.value.value) == ("route '/products/{id}': ttl", "soon")
    with pytest.raises(ConfigError, match="starts with '/'"):
        Route.parse(7, {})  # type: ignore[arg-type]


def test_a_shadowed_rule_is_refused_and_both_are_named() -> None:
    rules = table("/a", "/products/{id}")
    with pytest.raises(ConfigError) as raised:
        rules.add(Route("/products/{sku:int}"))
    error = raised.value
    assert (error.setting, error.value) == ("route '/products/{sku:int}'", "/products/{sku:int}")
    assert "'/products/{id}' comes first" in error.accepted
    assert "put the narrower rule before it" in error.accepted
    assert [route.template for route in rules] == ["/a", "/products/{id}"]
    assert len(rules) == 2


@pytest.mark.parametrize("template", ["/a", "/products/{id}"])
def test_the_same_template_twice_is_shadowed(template: str) -> None:
    with pytest.raises(ConfigError, match="comes first"):
        table(template, template)


def test_the_route_of_the_unmatched_cannot_be_a_rule() -> None:
    with pytest.raises(ConfigError, match="starts with '/'"):
        RouteTable().add(Route.of_unmatched(Policy()))


def test_a_rule_added_later_is_seen() -> None:
    rules = table("/a")
    assert rules.match("/b") is rules.unmatched
    added = rules.add(Route("/b"))
    assert rules.match("/b") is added


def remembered(rules: RouteTable) -> dict[str, Route]:
    index = rules._index
    assert index is not None
    return {**index._older, **index.memo}


def test_a_flood_of_paths_leaves_the_memory_bounded_and_the_answers_right() -> None:
    rules = table("/about", "/p/{id}")
    for number in range(3 * MEMO_ENTRIES):
        assert rules.match(f"/p/{number}").is_rule
    assert 0 < len(remembered(rules)) <= MEMO_ENTRIES + 1
    assert rules.match("/about").literal
    long = "/p/" + "x" * MEMO_PATH_LENGTH
    assert rules.match(long).is_rule
    assert long not in remembered(rules)


def test_a_path_that_is_asked_for_again_and_again_outlives_a_flood_of_others() -> None:
    rules = table("/p/{id}", "/q/{id}")
    usual = rules.match("/q/usual")
    for number in range(3 * MEMO_ENTRIES):
        rules.match(f"/p/{number}")
        if number % (MEMO_ENTRIES // 4) == 0:
            assert remembered(rules)["/q/usual"] is usual
            assert rules.match("/q/usual") is usual
    assert "/p/0" not in remembered(rules)


def test_a_path_is_matched_once() -> None:
    rules = table("/p/{id}")
    rules.match("/p/1")
    assert rules._index is not None
    assert "/p/1" in rules._index.memo
    rules.match("/nothing")
    assert rules._index.memo["/nothing"] is rules.unmatched


def test_literal_rules_are_known_from_the_start() -> None:
    rules = table("/a", "/b/{x}")
    rules.match("/")
    assert rules._index is not None
    assert "/a" in rules._index.memo


def test_hundreds_of_rules_are_told_apart() -> None:
    templates = [t for n in range(300) for t in (f"/api/v1/r{n}/{{id:int}}", f"/api/v1/r{n}/{{id}}", f"/static{n}")]
    rules = table(*templates)
    for n in range(300):
        assert rules.match(f"/api/v1/r{n}/7").template == f"/api/v1/r{n}/{{id:int}}"
        assert rules.match(f"/api/v1/r{n}/x").template == f"/api/v1/r{n}/{{id}}"
        assert rules.match(f"/static{n}").template == f"/static{n}"
    assert not rules.match("/api/v1/r300/7").is_rule


def test_rules_may_be_added_while_others_read() -> None:
    rules = table("/p/{id}")
    stop = threading.Event()
    wrong: list[Any] = []

    def read() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            if rules.match(f"/p/{number % 5000}").template != "/p/{id}":
                wrong.append(number)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for n in range(50):
            added = rules.add(Route(f"/new{n}/{{x}}"))
            assert rules.match(f"/new{n}/1") is added
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert wrong == []
    assert all(rules.match(f"/new{n}/1").is_rule for n in range(50))


def test_a_rule_added_while_the_index_is_made_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = table("/a")
    made = []

    class Slow(routes._Index):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            if not made:
                made.append(rules.add(Route("/b")))

    monkeypatch.setattr(routes, "_Index", Slow)
    assert rules.match("/b") is made[0]


parts = st.sampled_from(
    ["a", "b", "a-{x}", "a{x}-b", "{n:int}", "{s}", "{x:float}.h", "{r:path}", "a-{r:path}", "a.b"]
)
pieces = st.sampled_from(["", "a", "b", "a-", "a-1", "a1-b", "7", "1.5.h", "a.b", "\n", "a\nb"])
paths = st.lists(pieces, max_size=4).map(lambda found: "/" + "/".join(found))


def route_of(found: list[str]) -> Route | None:
    try:
        return Route("/" + "/".join(f.replace("{", f"{{p{i}") for i, f in enumerate(found)))
    except ConfigError:
        return None


@settings(max_examples=200)
@given(st.lists(st.lists(parts, max_size=3).map(route_of), max_size=8), st.lists(paths, max_size=12))
def test_the_table_agrees_with_asking_each_rule_in_turn(added: list[Route | None], asked: list[str]) -> None:
    rules = RouteTable()
    for route in added:
        if route is not None:
            try:
                rules.add(route)
            except ConfigError:
                continue
    for path in (*asked, *asked):
        expected = next((route for route in rules if route.match(path) is not None), rules.unmatched)
        assert rules.match(path) is expected
        assert rules.params_for(path) == expected.match(path)
