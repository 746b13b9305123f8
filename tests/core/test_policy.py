from __future__ import annotations

from typing import Any, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercache.core.policy import Policy
from tiercache.core.policy_settings import PolicySettings
from tiercache.errors import ConfigError

EXPLICIT: dict[str, Any] = {
    "cache": True,
    "ttl": "10m",
    "browser_ttl": 30,
    "cdn_ttl": "1d",
    "tags": ["product:{id}", "catalog"],
    "tiers": ["l2", "l1"],
    "query": ["range"],
    "headers": ["Accept-Language"],
    "cookies": "ignore",
    "drop_cookies": ["seen"],
    "ttl_by_status": {404: "10s", "410": 60},
    "isolated_ttl": 0,
    "consistency": "strong",
    "max_body": "2MiB",
    "invalidates": ["catalog"],
    "invalidates_target": False,
    "stale_while_revalidate": "1m",
    "stale_if_error": "1h",
    "early_refresh": 0.8,
    "jitter": 0.1,
    "coalesce": "fleet",
    "serve_stale_after": "300ms",
    "fill_timeout": "5s",
    "retry_after_error": "2s",
    "max_fills": 20,
    "etag": "strong",
    "client_directives": True,
    "normalize": ["Accept-Encoding"],
    "follow_data": False,
    "heuristic": 0.1,
}
PARSED: dict[str, Any] = {
    **EXPLICIT,
    "ttl": 600.0,
    "browser_ttl": 30.0,
    "cdn_ttl": 86400.0,
    "tags": ("product:{id}", "catalog"),
    "tiers": ("l1", "l2"),
    "query": ("range",),
    "headers": ("accept-language",),
    "cookies": "ignore",
    "drop_cookies": ("seen",),
    "ttl_by_status": {404: 10.0, 410: 60.0},
    "isolated_ttl": 0.0,
    "consistency": "strong",
    "max_body": 2 * 2**20,
    "invalidates": ("catalog",),
    "stale_while_revalidate": 60.0,
    "stale_if_error": 3600.0,
    "serve_stale_after": 0.3,
    "fill_timeout": 5.0,
    "retry_after_error": 2.0,
    "normalize": ("accept-encoding",),
}
EARLY = (
    *("query", "headers", "cookies", "consistency", "invalidates", "client_directives", "normalize"),
    "invalidates_target",
    *("coalesce", "serve_stale_after", "fill_timeout", "retry_after_error", "max_fills"),
)
LATE = [row.name for row in Policy.settings() if row.name not in EARLY]


def refused(settings: dict[str, Any], where: str = "") -> ConfigError:
    with pytest.raises(ConfigError) as raised:
        Policy.parse(settings, where)
    error = raised.value
    assert str(error) == f"{error.setting}: {error.value!r} is not accepted; accepted: {error.accepted}"
    return error


def test_every_setting_is_parsed_kept_and_known_as_given() -> None:
    policy = Policy(**EXPLICIT)
    assert {name: getattr(policy, name) for name in PARSED} == PARSED
    assert policy.given == frozenset(EXPLICIT) == {row.name for row in Policy.settings()}


def test_defaults() -> None:
    policy = Policy()
    assert policy.given == frozenset()
    assert policy.cache is True
    assert policy.tiers == ("l1", "l2")
    assert policy.isolated_ttl == 10.0
    assert policy.etag == "weak"
    assert policy.client_directives is False
    for name in ("ttl", "browser_ttl", "cdn_ttl", "query", "cookies", "max_body", "heuristic"):
        assert getattr(policy, name) is None
    for name in ("tags", "headers", "drop_cookies", "invalidates"):
        assert getattr(policy, name) == ()


def test_the_table_documents_every_setting_and_the_types_list_the_same() -> None:
    rows = Policy.settings()
    assert all(row.doc.endswith(".") and row.kind.accepted for row in rows)
    assert set(get_type_hints(PolicySettings)) == {row.name for row in rows}
    assert all("in seconds" in row.doc for row in rows if "_ttl" in row.name or row.name.startswith("stale"))


@pytest.mark.parametrize(
    ("name", "value", "shown", "accepted"),
    [
        ("cache", 1, 1, "True or False"),
        ("cache", "yes", "yes", "True or False"),
        ("ttl", "10 min", "10 min", "'10m'"),
        ("ttl", -1, -1, "0 to 2147483648 s"),
        ("browser_ttl", -1, -1, "0 to 2147483648 s"),
        ("cdn_ttl", "never", "never", "'1h'"),
        ("isolated_ttl", None, None, "'5s'"),
        ("tags", "catalog", "catalog", "a list of tag templates"),
        ("tags", ["a", "b:{id"], "b:{id", "balanced braces"),
        ("tags", ["b:id}"], "b:id}", "balanced braces"),
        ("tags", ["{}"], "{}", "parameter names"),
        ("tags", ["{a b}"], "{a b}", "parameter names"),
        ("tags", ["{{id}}"], "{{id}}", "balanced braces"),
        ("tags", ["{id!r}"], "{id!r}", "parameter names"),
        ("tags", ["{id.x}"], "{id.x}", "parameter names"),
        ("tags", ["a\nb"], "a\nb", "printable"),
        ("tags", [""], "", "tag templates"),
        ("tags", [7], 7, "tag templates"),
        ("invalidates", ["x{"], "x{", "tag templates"),
        ("tiers", [], [], "at least one of 'l1', 'l2'"),
        ("tiers", "l1", "l1", "at least one of 'l1', 'l2'"),
        ("tiers", ["l1", "l3"], "l3", "at least one of 'l1', 'l2'"),
        ("query", "all", "all", "'ignore', or a list of at least one query parameter name; or None"),
        ("query", [], [], "at least one query parameter name"),
        ("query", [""], "", "query parameter name"),
        ("headers", "accept", "accept", "header field names"),
        ("headers", ["a b"], "a b", "header field names"),
        ("headers", ["x-*"], "x-*", "header field names"),
        ("cookies", "all", "all", "'ignore', or a list of at least one cookie name; or None"),
        ("cookies", ["a;b"], "a;b", "cookie name"),
        ("cookies", ["a=b"], "a=b", "cookie name"),
        ("drop_cookies", ["*"], "*", "cookie names"),
        ("ttl_by_status", [404], [404], "a table from status to duration"),
        ("ttl_by_status", {404: "x"}, {404: "x"}, "a table from status to duration"),
        ("ttl_by_status", {"4xx": 1}, {"4xx": 1}, "a table from status to duration"),
        ("ttl_by_status", {True: 1}, {True: 1}, "a table from status to duration"),
        ("ttl_by_status", {100: 1}, {100: 1}, "from 200 to 599"),
        ("ttl_by_status", {206: 1}, {206: 1}, "except 206, 304, 400"),
        ("ttl_by_status", {501: 1}, {501: 1}, "431, 501"),
        ("max_body", 0, 0, "above 0"),
        ("max_body", "1 MB", "1 MB", "'64MiB'"),
        ("stale_while_revalidate", "x", "x", "'1h'"),
        ("stale_if_error", True, True, "'1h'"),
        ("etag", True, True, "one of 'weak', 'strong', False"),
        ("etag", 0, 0, "one of 'weak', 'strong', False"),
        ("etag", None, None, "one of 'weak', 'strong', False"),
        ("client_directives", "no", "no", "True or False"),
        ("heuristic", 0, 0, "a fraction above 0 and up to 1"),
        ("heuristic", 1.5, 1.5, "a fraction above 0 and up to 1"),
        ("heuristic", True, True, "a fraction above 0 and up to 1"),
        ("heuristic", float("nan"), None, "a fraction above 0 and up to 1"),
    ],
)
def test_a_bad_value_names_the_setting_the_value_and_what_is_accepted(
    name: str, value: object, shown: object, accepted: str
) -> None:
    error = refused({name: value}, "route '/products/{id}'")
    assert error.setting == f"route '/products/{{id}}': {name}"
    assert error.value == shown or error.value != error.value
    assert accepted in error.accepted


def test_an_unknown_setting_is_refused_with_the_closest() -> None:
    error = refused({"stale_while_revalidat": "1m"}, "route '/x'")
    assert error.setting == "route '/x': stale_while_revalidat"
    assert error.value == "1m"
    assert error.accepted.startswith("only settings that exist (did you mean 'stale_while_revalidate'?): ")
    assert all(row.name in error.accepted for row in Policy.settings())


FINE_UNCACHED = {"cache", "invalidates", "invalidates_target", "tiers", "query", "etag"}


@pytest.mark.parametrize("name", sorted(set(EXPLICIT) - FINE_UNCACHED))
def test_nothing_about_storing_goes_beside_cache_false(name: str) -> None:
    error = refused({"cache": False, name: EXPLICIT[name]})
    assert error.setting == name
    assert error.value == PARSED[name]
    assert "cache=False" in error.accepted


def test_a_route_that_stores_nothing_may_still_purge() -> None:
    assert Policy(cache=False, invalidates=["catalog"]).invalidates == ("catalog",)


def test_a_ttl_of_nothing_needs_a_stale_use() -> None:
    error = refused({"ttl": 0})
    assert (error.setting, error.value) == ("ttl", 0.0)
    assert "stale_while_revalidate" in error.accepted
    assert "cache=False" in error.accepted
    assert Policy(ttl=0, stale_while_revalidate="1m").ttl == 0.0
    assert Policy(ttl=0, stale_if_error="1m").ttl == 0.0


def test_a_policy_is_frozen_and_has_no_other_attributes() -> None:
    policy = Policy(ttl=5)
    with pytest.raises(AttributeError, match="frozen"):
        policy.ttl = 6.0
    with pytest.raises(AttributeError, match="frozen"):
        del policy.ttl
    with pytest.raises(TypeError):
        policy.ttl_by_status[404] = 1.0  # type: ignore[index]
    assert not hasattr(policy, "__dict__")


def test_equality_looks_at_values_and_at_what_was_given() -> None:
    assert Policy(ttl="10m") == Policy(ttl=600)
    assert hash(Policy(ttl="10m")) == hash(Policy(ttl=600))
    assert Policy(ttl=5) != Policy(ttl=6)
    assert Policy(ttl=None) != Policy()
    assert repr(Policy(ttl="10m", tags=["a"])) == "Policy(ttl=600.0, tags=('a',))"


def test_what_the_engine_asks_of_every_request_is_worked_out_beforehand() -> None:
    policy = Policy(query=["b", "a"], headers=["X-B", "x-a", "X-A"], cookies=["t", "T"], drop_cookies=["d"])
    assert policy.query_names == (b"b", b"a")
    assert policy.header_list == (b"x-b", b"x-a")
    assert policy.header_names == {b"x-a", b"x-b"}
    assert policy.cookie_names == (b"t", b"T")
    assert policy.drop_names == {b"d"}
    assert policy.plain_key is False


@pytest.mark.parametrize(
    ("settings", "plain"),
    [
        ({}, True),
        ({"ttl": 5}, True),
        ({"cookies": "ignore"}, True),
        ({"cookies": ["a"]}, False),
        ({"headers": ["a"]}, False),
        ({"query": "ignore"}, False),
        ({"query": ["a"]}, False),
    ],
)
def test_the_key_is_plain_where_no_setting_picks_its_parts(settings: dict[str, Any], plain: bool) -> None:
    assert Policy.parse(settings).plain_key is plain


@pytest.mark.parametrize(
    ("settings", "l1", "l2"),
    [
        ({}, True, True),
        ({"tiers": ["l1"]}, True, False),
        ({"tiers": ["l2"]}, False, True),
        ({"cache": False}, False, False),
    ],
)
def test_the_tiers_in_use(settings: dict[str, Any], l1: bool, l2: bool) -> None:
    policy = Policy.parse(settings)
    assert (policy.l1, policy.l2) == (l1, l2)


def test_merging_takes_the_stronger_setting_by_setting() -> None:
    rule = Policy(ttl="10m", tags=["a", "b"], tiers=["l1"], query=None)
    decorator = Policy(ttl="1h", stale_if_error="1d", tags=["b", "c"], etag="strong", query="ignore")
    merged = Policy.merge(rule, decorator)
    assert merged.ttl == 600.0
    assert merged.stale_if_error == 86400.0
    assert merged.tags == ("a", "b", "c")
    assert merged.etag == "strong"
    assert merged.query is None
    assert merged.given == rule.given | decorator.given
    assert (merged.l1, merged.l2) == (True, False)


def test_a_none_that_was_written_down_overrides_and_one_that_was_not_does_not() -> None:
    weaker = Policy(ttl=5)
    assert Policy.merge(Policy(ttl=None), weaker).ttl is None
    assert Policy.merge(Policy(browser_ttl=1), weaker).ttl == 5.0


def test_merging_works_out_anew_what_follows_from_the_settings() -> None:
    merged = Policy.merge(Policy(ttl=5), Policy(cache=False))
    assert (merged.cache, merged.l1, merged.l2) == (False, False, False)


def test_merging_with_an_empty_policy_changes_nothing() -> None:
    policy = Policy(ttl=5, tags=["a"])
    assert Policy.merge(policy, Policy()) is policy
    assert Policy.merge(Policy(), policy) is policy


def test_purges_are_united_in_a_merge() -> None:
    assert Policy.merge(Policy(invalidates=["a"]), Policy(invalidates=["b"])).invalidates == ("a", "b")


@pytest.mark.parametrize("name", EARLY)
def test_a_decorator_cannot_give_what_is_needed_before_the_view(name: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Policy.declared(**{name: EXPLICIT[name]})
    error = raised.value
    assert (error.setting, error.value) == (f"decorator: {name}", EXPLICIT[name])
    assert f"cache.route(template, {name}=…)" in error.accepted
    assert "looked up before the view is reached" in error.accepted
    assert error.accepted.partition("beside a view: ")[2].split(", ") == LATE


def test_a_decorator_is_validated_like_a_rule() -> None:
    with pytest.raises(ConfigError, match=r"^decorator: ttl: 'x' is not accepted"):
        Policy.declared(ttl="x")
    with pytest.raises(ConfigError, match=r"^decorator: tll: 1 is not accepted; accepted: .* \(did you mean 'ttl'\?\)"):
        Policy.declared(tll=1)  # type: ignore[call-arg]
    assert Policy.declared(cache=False).cache is False


def test_what_a_decorator_declares_survives_msgpack() -> None:
    policy = Policy.declared(**{name: EXPLICIT[name] for name in LATE})
    sent = msgspec.msgpack.decode(msgspec.msgpack.encode(policy.to_declared()))
    assert Policy.from_declared(sent) == policy


def test_only_what_was_given_is_kept() -> None:
    assert Policy.declared(ttl="5s", tags=["a"]).to_declared() == {"ttl": 5.0, "tags": ["a"]}


junk_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*EXPLICIT, "other"]) | st.integers(), junk_values, max_size=4) | junk_values)
def test_junk_in_a_stored_entry_never_raises(junk: Any) -> None:
    policy = Policy.from_declared(junk)
    assert policy is None or (policy.given == set(junk) and not policy.given & set(EARLY))


@pytest.mark.parametrize(
    "junk", [None, [], "ttl", {"ttl": "soon"}, {"newer": 1}, {"query": "ignore"}, {1: 2}, {"cache": False, "ttl": 5}]
)
def test_what_this_version_cannot_read_is_none(junk: object) -> None:
    assert Policy.from_declared(junk) is None


def test_a_cdn_lifetime_is_refused_beside_cookies_in_the_key() -> None:
    with pytest.raises(ConfigError, match=r"cdn_ttl: 60\.0 .* what differs by cookie is for one visitor"):
        Policy(ttl="10m", cookies=["session"], cdn_ttl="1m")
