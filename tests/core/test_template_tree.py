from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiercache.core.routes import Route, RouteTable
from tiercache.core.template_tree import TemplateTree
from tiercache.core.templates import Template, covers
from tiercache.errors import ConfigError


def tree(*templates: str) -> TemplateTree[str]:
    made: TemplateTree[str] = TemplateTree()
    for template in templates:
        made.add(Template(template, "test"), template)
    return made


@pytest.mark.parametrize(
    ("template", "near", "far"),
    [
        ("/a", ["/a"], ["/", "/b", "/a/", "/a/b", "a", ""]),
        ("/a/{x}", ["/a/1", "/a/"], ["/b/1", "/a", "/a/1/2"]),
        ("/{x}/r", ["/1/r", "//r"], ["/1/s", "/1", "/1/r/"]),
        ("/item-{x}.html", ["/item-1.html", "/item-"], ["/item", "/ite", "/other-1.html", "/item-1.html/"]),
        ("/{x}-item", ["/1-item", "/x"], ["/1/item"]),
        ("/a/{rest:path}", ["/a/", "/a/b", "/a/b/c/d/e/f"], ["/a", "/b/c"]),
        ("/a/{rest:path}/end", ["/a/b/end", "/a/x"], ["/b/x/end"]),
        ("/a/{x}/{rest:path}", ["/a/1/", "/a/1/2/3"], ["/a/1", "/b/1/2"]),
        ("/{rest:path}", ["/", "/a/b"], ["", "*"]),
        ("/a//b", ["/a//b"], ["/a/b", "/a/x/b"]),
    ],
)
def test_a_path_is_near_the_templates_of_its_shape(template: str, near: list[str], far: list[str]) -> None:
    # Deeper and wider ones beside it, so that neither depth nor lengths are those of this template alone.
    made = tree(template, "/q/w/e/r/t/y", "/prefix-of-another-length{x}/q")
    assert [path for path in near if template not in made.near(path)] == []
    assert [path for path in far if template in made.near(path)] == []


@pytest.mark.parametrize(
    "shape", ["/r{n}/{{id}}", "/{{shop}}/r{n}/{{id}}", "/{{id}}/r{n}", "/{{a}}/r{n}/{{rest:path}}"]
)
def test_few_of_many_rules_are_near(shape: str) -> None:
    made = tree(*(shape.format(n=n) for n in range(1000)))
    for path in ("/r7/r7/r7", "/r7/r8", "/x/r999", "/x/y/z"):
        assert len(made.near(path)) <= 1


def test_rules_with_different_beginnings_of_a_segment_are_told_apart() -> None:
    made = tree(*(f"/kind{n}-{{id}}" for n in range(1000)))
    assert made.near("/kind7-1") == ["/kind7-{id}"]


def test_a_long_path_is_not_taken_apart_further_than_templates_are_deep() -> None:
    made = tree("/a/{x}")
    assert made.near("/a" + "/b" * 100_000) == []


parts = st.sampled_from(
    ["a", "b", "a-{x}", "ab{x}c", "{n:int}", "{s}", "{x:float}.h", "{u:uuid}", "{r:path}", "b-{r:path}"]
)


def template_of(found: list[str]) -> Template | None:
    try:
        return Template("/" + "/".join(f.replace("{", f"{{p{i}") for i, f in enumerate(found)), "test")
    except ConfigError:
        return None


templates = st.lists(parts, max_size=4).map(template_of)


@settings(max_examples=300)
@given(st.lists(templates, max_size=10), templates)
def test_what_covers_a_template_is_near_its_sample(earlier: list[Template | None], later: Template | None) -> None:
    made: TemplateTree[Template] = TemplateTree()
    present = [template for template in earlier if template is not None]
    for template in present:
        made.add(template, template)
    if later is None:
        return
    for sample in later.samples:
        near = made.near(sample)
        assert [template for template in present if covers(template, later) and template not in near] == []
        assert [template for template in present if template.regex.fullmatch(sample) and template not in near] == []


def test_the_first_of_several_that_cover_a_rule_is_named() -> None:
    rules = RouteTable([Route("/x/{a:int}"), Route("/x/{a}"), Route("/{a}/{b}")])
    with pytest.raises(ConfigError, match=r"'/x/\{a:int\}' comes first"):
        rules.add(Route("/x/7"))
