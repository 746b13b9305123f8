from __future__ import annotations

import re
from itertools import product
from uuid import UUID

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tiercache.core.templates import Template, contains, covers, meeting
from tiercache.errors import ConfigError

MEMBERS = {
    "str": ["a", "1", "-", ".", "a1", "1.5", "0" * 32, "x\n", "é", "a-b", "1.html"],
    "int": ["0", "1", "42", "007"],
    "float": ["1", "1.5", "0.0"],
    "uuid": ["0" * 32, str(UUID(int=7)), "ABCDEFab-0000-00000000-000000000000"],
    "path": ["", "a", "a/b", "/", "1", "1.5", "a-1.html", "\n", "0" * 32],
}


def template(text: str) -> Template:
    return Template(text, f"route {text!r}")


def members(parsed: Template) -> list[str]:
    """A few hundred of the paths that it matches, without asking its regular expression."""
    choices = [[node] if isinstance(node, str) else MEMBERS[node[1]] for node in parsed.nodes]
    return ["".join(parts) for parts, _ in zip(product(*choices), range(400), strict=False)]


segments = st.lists(
    st.sampled_from(["a", "1", "-", ".", "4.2", "{str}", "{int}", "{float}", "{uuid}", "{path}", "0a"]),
    min_size=1,
    max_size=3,
)


@st.composite
def templates(draw: st.DrawFn) -> Template:
    text = ""
    for segment in draw(st.lists(segments, min_size=1, max_size=3)):
        text += "/" + "".join(segment)
    numbers = iter(range(100))
    text = re.sub(r"\{([a-z]+)\}", lambda found: f"{{p{next(numbers)}:{found[1]}}}", text)
    assume("}{" not in text)
    assume(text.count(":path}") < 2)
    return template(text)


@pytest.mark.parametrize(
    ("text", "path", "params"),
    [
        ("/products/{id}", "/products/1", {"id": "1"}),
        ("/products/{id}", "/products/a b.html", {"id": "a b.html"}),
        ("/products/{id}", "/products/", None),
        ("/products/{id}", "/products/1/2", None),
        ("/products/{id}", "/products/1/", None),
        ("/products/{id}", "x/products/1", None),
        ("/products/{id:str}", "/products/x", {"id": "x"}),
        ("/p/{id:int}", "/p/007", {"id": "007"}),
        ("/p/{id:int}", "/p/-7", None),
        ("/p/{id:int}", "/p/٣", None),
        ("/p/{id:int}", "/p/7\n", None),
        ("/p/{x:float}", "/p/1.50", {"x": "1.50"}),
        ("/p/{x:float}", "/p/1", {"x": "1"}),
        ("/p/{x:float}", "/p/1.", None),
        ("/p/{x:uuid}", "/p/" + "0" * 32, {"x": "0" * 32}),
        ("/p/{x:uuid}", "/p/" + "0" * 31, None),
        ("/account/{rest:path}", "/account/", {"rest": ""}),
        ("/account/{rest:path}", "/account/a/b\nc", {"rest": "a/b\nc"}),
        ("/account/{rest:path}", "/account", None),
        ("/a-{x}.html", "/a-1.html", {"x": "1"}),
        ("/a-{x}.html", "/a-1xhtml", None),
        ("/{a}-{b:int}", "/x-y-7", {"a": "x-y", "b": "7"}),
        ("/a.b(c)", "/a.b(c)", {}),
        ("/a.b", "/axb", None),
        ("/", "/", {}),
    ],
)
def test_matching(text: str, path: str, params: dict[str, str] | None) -> None:
    found = template(text).regex.fullmatch(path)
    assert (found and found.groupdict()) == params


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "does not start with '/'"),
        ("products", "does not start with '/'"),
        ("{id}", "does not start with '/'"),
        (None, "does not start with '/'"),
        ("/{id", "braces do not balance"),
        ("/id}", "braces do not balance"),
        ("/{{id}}", "braces do not balance"),
        ("/{}", "braces do not balance"),
        ("/{1a}", "braces do not balance"),
        ("/{a b}", "braces do not balance"),
        ("/{id:}", "braces do not balance"),
        ("/{id:number}", "no convertor 'number'"),
        ("/{id}/{id}", "{id} occurs twice"),
        ("/{a}{b}", "nothing tells where {a} ends and {b} begins"),
        ("/{a:path}/x/{b:path}", "only one parameter may be a path"),
        ("/search?q={q}", "the setting `query`"),
        ("/a#b", "no query or fragment"),
        ("/caf%C3%A9", "decoded path"),
        ("/static/*", "write {rest:path} for *"),
    ],
)
def test_a_bad_template_is_named_with_what_is_accepted(text: str, why: str) -> None:
    with pytest.raises(ConfigError) as raised:
        template(text)
    error = raised.value
    assert (error.setting, error.value) == (f"route {text!r}", text)
    assert error.accepted.startswith("a path that starts with '/', with parameters {name} or {name:convertor}")
    assert "convertors: str, int, float, uuid, path" in error.accepted
    assert why in error.accepted


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("/a", "/a"),
        ("/{id}", "/a"),
        ("/{id}", "/{other}"),
        ("/{id}", "/{id:int}"),
        ("/{id}", "/{id:float}"),
        ("/{id}", "/{id:uuid}"),
        ("/{x:float}", "/{x:int}"),
        ("/{x:float}", "/{a:int}.{b:int}"),
        ("/{x:int}", "/7{y:int}"),
        ("/{id}", "/a-{x}.html"),
        ("/{a}-{b}", "/{a}-{b}-{c}"),
        ("/{a}.html", "/a-{x}.html"),
        ("/{a}-{b:int}", "/{x:uuid}-{n:int}"),
        ("/x/{rest:path}", "/x/"),
        ("/x/{rest:path}", "/x/{id}/y/{z:int}"),
        ("/x/{rest:path}", "/x/y/{rest:path}"),
        ("/{rest:path}", "/a{b}"),
        ("/{rest:path}/z", "/{a}/{b}/z"),
        ("/{rest:path}", "/{a}/{b:uuid}"),
    ],
)
def test_shadowed(earlier: str, later: str) -> None:
    assert covers(template(earlier), template(later))
    assert contains(template(earlier), template(later))


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("/a", "/b"),
        ("/a", "/{id}"),
        ("/{id:int}", "/{id}"),
        ("/{id:int}", "/{x:float}"),
        ("/{id:int}", "/{x:uuid}"),
        ("/{id}", "/{a}/{b}"),
        ("/{id}", "/{rest:path}"),
        ("/x/{rest:path}", "/x"),
        ("/x/{rest:path}", "/{a}/{rest:path}"),
        ("/{a}-{b}-{c}", "/{a}-{b}"),
        ("/a-{x}.html", "/a-{x}"),
        ("/a-{x}.html", "/{a}.html"),
        ("/{a}.{b}", "/{x:float}"),
        ("/{a}/x", "/{rest:path}/x"),
        ("/{a}-{b}", "/{a}-/{b}"),
        ("/{a}", "/{a}/"),
        ("/{n:int}.{m:int}", "/{x:float}"),
        ("/{n:int}-{m:int}", "/{n:int}.{m:int}"),
        ("/0{s}", "/{n:int}"),
        ("/{r:path}0", "/{r:path}"),
        ("/7{y:int}", "/{x:int}"),
        ("/{p:path}~-{q}", "/{s}-b{t}"),  # the samples agree, and no beginning of a path tells them apart
    ],
)
def test_not_shadowed(earlier: str, later: str) -> None:
    assert not covers(template(earlier), template(later))
    assert not contains(template(earlier), template(later))


@given(templates())
def test_a_template_matches_what_it_is_made_of(parsed: Template) -> None:
    assert all(parsed.regex.fullmatch(path) for path in (*members(parsed), *parsed.samples))
    assert all(path.startswith(parsed.prefix) for path in members(parsed))


@settings(max_examples=300)
@given(templates(), templates())
def test_containment_agrees_with_trying(earlier: Template, later: Template) -> None:
    covered = contains(earlier, later)
    assert covers(earlier, later) is covered
    if covered:
        assert all(earlier.regex.fullmatch(path) for path in members(later))


@settings(max_examples=300)
@given(templates(), st.data())
def test_a_narrower_template_is_found_to_be_covered(earlier: Template, data: st.DataObject) -> None:
    """Narrow each parameter to something it matches: the wider template must then be seen to cover the result."""
    assume(not re.search(r"[0-9a-f]\{p\d+:uuid", earlier.text))
    narrower = {
        "str": ["{p:str}", "{p:int}", "{p:float}", "{p:uuid}", "a", "x-{p:str}.y", "{p:int}.{q:str}"],
        "int": ["{p:int}", "7", "4{p:int}"],
        "float": ["{p:float}", "{p:int}", "{p:int}.5", "2.{p:int}"],
        "uuid": ["{p:uuid}", "0" * 32],
        "path": ["{p:path}", "{p:str}", "{p:str}/{q:int}", "", "a/{p:path}", "{p:uuid}"],
    }
    text = ""
    for index, node in enumerate(earlier.nodes):
        part = node if isinstance(node, str) else data.draw(st.sampled_from(narrower[node[1]]))
        text += (
            re.sub(r"\{([pq]):", lambda found, index=index: f"{{{found[1]}{index}n:", part) if node != part else part
        )
    assert covers(earlier, template(text)), (earlier.text, text)


def test_a_comparison_that_would_take_long_is_given_up() -> None:
    assert not covers(template("/{n:int}1{u:uuid}"), template("/7{n:int}1{u:uuid}"))


@given(templates())
def test_every_template_covers_itself(parsed: Template) -> None:
    assume(not re.search(r"[0-9a-f]\{p\d+:uuid", parsed.text))
    assert covers(parsed, template(parsed.text))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("/{a}/x", "/y/{b}", "/y/x"),
        ("/{a}/x", "/{a}/y", None),
        ("/{n:int}", "/{u:float}", "/0"),
        ("/a-{x}.html", "/{y}-b.html", "/a-b.html"),
        ("/{rest:path}/end", "/start/{x}", "/start/end"),
        ("/{n:int}/a", "/x/{b}", None),
        ("/a/{x}", "/b/{x}", None),
    ],
)
def test_a_path_that_two_templates_match(one: str, other: str, expected: str | None) -> None:
    first, second = Template(one, "x"), Template(other, "x")
    for path in (meeting(first, second), meeting(second, first)):
        assert path == expected
        if path is not None:
            assert first.regex.fullmatch(path)
            assert second.regex.fullmatch(path)
