"""Which policy a path has: routes, and the table that finds the first that matches."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final, Self
from uuid import UUID

from tiercache.core.named_policies import Layers, NamedPolicies
from tiercache.core.policy import UNITED, Policy, parse_duration
from tiercache.core.policy_kinds import placeholders
from tiercache.core.template_tree import TemplateTree
from tiercache.core.templates import ACCEPTED, Template, covers
from tiercache.core.validation import redacted
from tiercache.errors import ConfigError

_CONVERTED: Final[Mapping[str, Callable[[str], object]]] = {"int": int, "float": float, "uuid": UUID}
MEMO_ENTRIES: Final = 4096
MEMO_PATH_LENGTH: Final = 256
"""Longer paths are matched anew each time, so that the memo's memory is bounded, not only its length."""


def fill_tags(templates: Iterable[str], params: Mapping[str, str]) -> tuple[str, ...]:
    """Tag templates with their parameters filled in; `KeyError` if one names a parameter that is not there."""
    return tuple(dict.fromkeys(template.format_map(params) if "{" in template else template for template in templates))


class Route:
    """A template and its policy.

    `template` is matched against the decoded path that the app sees (mount point included, no query).
    Raises `ConfigError` for a template that cannot be read, and for a tag that names a parameter it does not have.
    """

    __slots__ = (
        "_regex", "_tags", "configured", "is_rule", "layers", "literal", "named", "params", "parsed", "policy",
        "template",
    )  # fmt: skip

    parsed: Template | None
    """None for the route of what no rule matches."""
    params: tuple[str, ...]
    is_rule: bool
    """False only for the route of what no rule matches: `RouteTable.unmatched`."""
    literal: bool
    """One path and no other."""
    named: str
    """How errors and reports name it."""
    layers: Layers
    """Where each part of the policy was written, the strongest first."""
    configured: bool
    """It stands in a configuration file and nowhere in code."""

    def __init__(
        self,
        template: str,
        policy: Policy | None = None,
        *,
        named: str = "",
        layers: Layers = (),
        configured: bool = False,
    ) -> None:
        self.template = template
        self.named = named or where(template)
        self.configured = configured
        self.parsed = Template(template, self.named)
        self.params = self.parsed.params
        self.literal = self.parsed.literal
        self._regex: re.Pattern[str] | None = self.parsed.regex
        self.is_rule = True
        if layers:
            policy = Policy.layered(layers, self.named)
        self._apply(policy := Policy() if policy is None else policy)
        self.layers = layers or ((IN_CODE, policy),)
        for setting in ("tags", "invalidates"):
            for tag in getattr(self.policy, setting):
                if not placeholders(tag) <= set(self.params):
                    raise ConfigError(
                        f"{self.named}: {setting}",
                        tag,
                        f"tag templates with the parameters of the route ({', '.join(self.params) or 'it has none'})",
                        code="tag-without-value",
                    )

    @classmethod
    def parse(cls, template: str, settings: Mapping[str, Any]) -> Self:
        """A route from its settings as users write them; errors name them as `route '/x': setting`."""
        if not isinstance(template, str):
            raise ConfigError("route", template, ACCEPTED)
        return cls(template, Policy.parse(settings, where(template)))

    @classmethod
    def of(
        cls, template: str, policy: object, settings: Mapping[str, Any], policies: NamedPolicies | None = None
    ) -> Self:
        """A rule as users give it: `settings` over `policy`, which may be the name of one of `policies`.

        Raises:
            ConfigError: as above; `policy` is none, or no policy has that name; or the rule sets nothing.
        """
        route = cls.parse(template, settings)
        own: Layers = ((IN_CODE, route.policy),) if route.policy.given else ()
        below: Layers = ()
        if isinstance(policy, str) and policies is not None:
            if policy not in policies.layers() and _is_duration(policy):
                accepted = f"the name of a policy; a lifetime is given by name, ttl={policy!r}"
                raise ConfigError(f"{where(template)}: policy", policy, accepted, code="unknown-policy")
            below = policies.find(policy, where(template))
        elif isinstance(policy, Policy):
            below = ((IN_CODE, policy),) if policy.given else ()
        elif policy is not None:
            accepted = (
                "a Policy, the name of one given by cache.policy(name, …), or None; settings are given by name, e.g. "
                "ttl='10m', or **{'ttl': '10m'}"
            )
            raise ConfigError(f"{where(template)}: policy", redacted(policy), accepted)
        if not own and not below:
            accepted = "a rule with at least one setting, e.g. ttl='10m', cache=False, or ttl=None to let the app say"
            raise ConfigError(where(template), None, accepted, code="rule-empty")
        return cls(template, layers=(*own, *below))

    def under(self, stronger: Route) -> Route:
        """This rule with the settings of a stronger one, of the same template, over it."""
        return Route(self.template, named=stronger.named, layers=(*stronger.layers, *self.layers))

    def source(self, setting: str) -> str:
        """Where a setting was written that has not its default."""
        return " and ".join(
            [source for source, policy in self.layers if setting in policy.given][: None if setting in UNITED else 1]
        )

    @classmethod
    def of_unmatched(cls, policy: Policy) -> Self:
        """The route of all that no rule matches: it has no template, no parameters and no tags."""
        route = cls.__new__(cls)
        route.template, route.parsed, route.params, route._regex = "", None, (), None
        route.literal = route.is_rule = route.configured = False
        route.named, route.layers = "no rule", ()
        route._apply(policy)
        return route

    def _apply(self, policy: Policy) -> None:
        self.policy = policy
        # Most routes have tags without parameters, or none: nothing is left to do per request.
        constant = not any(placeholders(tag) for tag in policy.tags)
        self._tags = fill_tags(policy.tags, {}) if constant else None

    def match(self, path: str) -> dict[str, str] | None:
        """The parameters of a path, as raw text, or None if it does not match; {} from the unmatched route."""
        if self._regex is None:
            return {}
        found = self._regex.fullmatch(path)
        return None if found is None else found.groupdict()

    def matches(self, path: str) -> bool:
        return self._regex is None or self._regex.fullmatch(path) is not None

    def params_for(self, path: str) -> dict[str, str]:
        """The parameters of a path that is known to match, as text of what the app gets: 7 for `007` under `{id:int}`,
        so that a purge by the app's own value reaches every spelling. {} if it does not match.
        """
        params = self.match(path) or {}
        if self.parsed is not None:
            for node in self.parsed.nodes:
                if not isinstance(node, str) and node[1] in _CONVERTED and node[0] in params:
                    with suppress(ValueError):  # more digits than Python reads: the text will do
                        params[node[0]] = str(_CONVERTED[node[1]](params[node[0]]))
        return params

    def tags_for(self, params: Mapping[str, str]) -> tuple[str, ...]:
        """The policy's tags for these parameters."""
        return self._tags if self._tags is not None else fill_tags(self.policy.tags, params)

    def invalidates_for(self, params: Mapping[str, str]) -> tuple[str, ...]:
        """The tags that a successful unsafe request with these parameters purges."""
        return fill_tags(self.policy.invalidates, params)

    def __repr__(self) -> str:
        return f"Route({self.template!r}, {self.policy!r})" if self.is_rule else f"Route.of_unmatched({self.policy!r})"


IN_CODE: Final = "code"


def _is_duration(text: str) -> bool:
    try:
        parse_duration("", text)
    except ConfigError:
        return False
    return True


def where(template: object) -> str:
    """How errors name a route."""
    return f"route {template!r}"


class _Index:
    """Rules prepared for finding: replaced as a whole when one is added, so that readers need no lock.

    Rules without parameters are looked up in a dict; of the others, those that have the shape of the path are tried.
    """

    __slots__ = ("_literal", "_older", "_rank", "_tree", "_unmatched", "memo")

    def __init__(self, routes: tuple[Route, ...], tree: TemplateTree[Route], unmatched: Route) -> None:
        self._unmatched = unmatched
        self._tree = tree
        # What the tree has beside these is shadowed, replaced, or added meanwhile; the last brings an index of its own.
        self._rank = {route: rank for rank, route in enumerate(routes)}
        # A literal rule that an earlier one matches is refused, so that it is always the first to match its path.
        self._literal = {route.template: route for route in routes if route.literal}
        self.memo = dict(self._literal)
        self._older: dict[str, Route] = {}
        """The memo before this one, so that paths that are asked for again and again outlive any number of others."""

    def find(self, path: str) -> Route:
        """The first rule that matches; the memo is asked before, and holds every literal rule."""
        route = self._older.get(path) or self._first(path)
        if len(path) <= MEMO_PATH_LENGTH:
            if len(self.memo) >= MEMO_ENTRIES // 2 + len(self._literal):
                self._older, self.memo = self.memo, dict(self._literal)
            self.memo[path] = route
        return route

    def _first(self, path: str) -> Route:
        route = self._unmatched
        first = len(self._rank)
        for near in self._tree.near(path):
            rank = self._rank.get(near, first)
            if rank < first and near.matches(path):
                route, first = near, rank
        return route


class RouteTable:
    """The rules in order; the first that matches a path decides.

    Rules of a configuration file come first, except that one with the template of a rule in code stands where that one
    does, and its settings are put over the code's.

    Reads take no lock and may run while a rule is added; rules are added by one thread at a time.
    What was found is remembered for a bounded number of paths, so that a flood of different ones costs each a
    regular expression or two, and no memory, however many rules there are.
    """

    __slots__ = ("_index", "_routes", "_tree", "unmatched")

    unmatched: Route
    """What decides where no rule matches: by default the app's own headers alone."""

    def __init__(self, routes: Iterable[Route] = (), *, unmatched: Policy | None = None) -> None:
        self.unmatched = Route.of_unmatched(Policy() if unmatched is None else unmatched)
        self._routes: tuple[Route, ...] = ()
        self._tree: TemplateTree[Route] = TemplateTree()
        self._index: _Index | None = None
        for route in routes:
            self.add(route)

    def add(self, route: Route) -> Route:
        """Append a rule; the one that is in force, with what a configuration file says of its template.

        Raises:
            ConfigError: an earlier rule from the same place, code or file, matches every path that it could match.
        """
        later = route.parsed
        if later is None:
            raise ConfigError("route", route.template, ACCEPTED)
        earlier = self._covering(later, configured=route.configured)
        if earlier is not None:
            raise ConfigError(
                route.named,
                route.template,
                f"a rule that no earlier one matches entirely; {earlier.template!r} comes first and decides "
                "for every such path, so put the narrower rule before it",
                code="rule-shadowed",
            )
        stronger = None if route.configured else self.configured(route.template)
        if stronger is not None:
            route = route.under(stronger)
        kept = tuple(one for one in self._routes if one is not stronger)
        self._tree.add(later, route)
        self._routes = (*kept, route)
        self._index = None
        return route

    def _covering(self, later: Template, *, configured: bool) -> Route | None:
        """The first rule from that place, code or file, that matches every path that a template could match."""
        # It matches the samples of the template as well, so it is near them.
        near = {one for one in self._tree.near(later.samples[0]) if one.configured == configured}
        covering = {one for one in near if one.parsed is not None and covers(one.parsed, later)}
        return next((one for one in self._routes if one in covering), None) if covering else None

    def configured(self, template: str) -> Route | None:
        """The rule of a configuration file for a template that no rule in code has."""
        return next((one for one in self._routes if one.configured and one.template == template), None)

    def shadowed(self) -> dict[Route, Route]:
        """The rules in code that decide for no path, each with the rule of a configuration file before it."""
        if not any(one.configured for one in self._routes):
            return {}
        found = {}
        for later in self._routes:
            if not later.configured and later.parsed is not None:
                earlier = self._covering(later.parsed, configured=True)
                if earlier is not None:
                    found[later] = earlier
        return found

    def match(self, path: str) -> Route:
        """The first rule that matches the path, else `unmatched`. Its parameters: `params_for` of the route."""
        index = self._index or self._reindex()
        try:
            return index.memo[path]
        except KeyError:
            return index.find(path)

    def params_for(self, path: str) -> dict[str, str]:
        """The parameters of the path by the rule that matches it, as raw text; {} if none does."""
        return self.match(path).params_for(path)

    def _reindex(self) -> _Index:
        while True:
            routes = self._routes
            shadowed = self.shadowed()
            self._index = index = _Index(
                tuple(one for one in self if one not in shadowed), self._tree, self.unmatched
            )
            # A rule added meanwhile has already discarded the index before this one: look again, or it is lost.
            if self._routes is routes:
                return index

    def __iter__(self) -> Iterator[Route]:
        routes = self._routes
        return iter([*(one for one in routes if one.configured), *(one for one in routes if not one.configured)])

    def __len__(self) -> int:
        return len(self._routes)
