"""What a route wants of the cache: the frozen, validated `Policy` made from the table of its settings."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self, Unpack, cast

from tiercache.core.kinds import DURATION
from tiercache.core.policy_settings import BOUNDED, FLEET, ROWS, PolicySettings
from tiercache.core.validation import Setting, Validated, qualified, refuse_unknown
from tiercache.errors import ConfigError


def parse_duration(setting: str, value: object) -> float:
    """A duration as users write it, in seconds; `ConfigError` naming `setting` if it is none."""
    return float(DURATION(setting, value))


_DERIVED = (
    "attentive",
    "cookie_names",
    "drop_names",
    "header_list",
    "header_names",
    "l1",
    "l2",
    "normal_names",
    "picks",
    "plain_key",
    "query_names",
)
UNITED = ("tags", "invalidates")
_FINE_UNCACHED = frozenset({"cache", "invalidates", "invalidates_target"})


class Policy(Validated):
    """What a route wants of the cache. Frozen; attributes are parsed values: seconds, bytes, tuples of names.

    `given` holds the names of the settings that were written down, None included: `ttl=None` says "what the app
    states" and overrides a weaker policy's `ttl`, while leaving it out does not.
    Raises `ConfigError` for an unknown setting, a value that is not accepted, and settings that contradict.
    """

    __slots__ = (*(row.name for row in ROWS), *_DERIVED)
    _table: ClassVar[Mapping[str, Setting]] = MappingProxyType({row.name: row for row in ROWS})

    cache: bool
    ttl: float | None
    browser_ttl: float | None
    cdn_ttl: float | None
    tags: tuple[str, ...]
    tiers: tuple[str, ...]
    query: Literal["ignore"] | tuple[str, ...] | None
    headers: tuple[str, ...]
    cookies: Literal["ignore"] | tuple[str, ...] | None
    drop_cookies: tuple[str, ...]
    ttl_by_status: Mapping[int, float]
    isolated_ttl: float
    consistency: Literal["bounded", "strong", "session"]
    max_body: int | None
    invalidates: tuple[str, ...]
    invalidates_target: bool
    stale_while_revalidate: float | None
    stale_if_error: float | None
    early_refresh: float | Literal["probabilistic"] | None
    jitter: float | None
    coalesce: Literal["process", "fleet", False]
    serve_stale_after: float | None
    fill_timeout: float | None
    retry_after_error: float
    max_fills: int | None
    etag: Literal["weak", "strong", False]
    client_directives: bool
    normalize: tuple[str, ...]
    follow_data: bool
    heuristic: float | None

    attentive: bool
    """Whether a request is to be looked at more closely than its key, before L1 answers it."""
    l1: bool
    l2: bool
    """Whether the tier is used: both False where nothing is cached."""
    plain_key: bool
    """Whether the key is the URL alone, all of it: no setting picks what counts."""
    picks: bytes
    """What is picked for the key, by name: part of the key, since the same values of other fields are another question.
    So no deployment answers with what another one stored under other rules."""
    query_names: tuple[bytes, ...]
    header_list: tuple[bytes, ...]
    header_names: frozenset[bytes]
    cookie_names: tuple[bytes, ...]
    """What is picked for the key, as it stands in requests (fields in lower case), in the order given."""
    drop_names: frozenset[bytes]
    normal_names: frozenset[bytes]

    def __init__(self, **settings: Unpack[PolicySettings]) -> None:
        self._load(cast("dict[str, Any]", settings), "")

    def _set(self, values: Mapping[str, Any], given: frozenset[str]) -> None:
        super()._set(values, given)
        query, cookies = (value if isinstance(value, tuple) else () for value in (self.query, self.cookies))
        derived = {
            "attentive": self.client_directives or self.consistency != BOUNDED,
            "l1": self.cache and "l1" in self.tiers,
            "l2": self.cache and "l2" in self.tiers,
            "picks": ascii((self.query, self.headers, cookies)).encode(),
            "plain_key": self.query is None and not self.headers and not cookies,
            "query_names": _encoded(query),
            "header_list": _encoded(self.headers),
            "header_names": frozenset(_encoded(self.headers)),
            "cookie_names": _encoded(cookies),
            "drop_names": frozenset(_encoded(self.drop_cookies)),
            "normal_names": frozenset(_encoded(self.normalize)),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def _check(self, where: str) -> None:
        if not self.cache:
            for name in sorted(self.given - _FINE_UNCACHED):
                if getattr(self, name) != self._defaults[name]:
                    raise ConfigError(
                        qualified(where, name),
                        getattr(self, name),
                        "no such setting beside cache=False, which stores nothing; leave one of the two out",
                        code="beside-cache-false",
                    )
        if self.cdn_ttl and isinstance(self.cookies, tuple):
            raise ConfigError(
                qualified(where, "cdn_ttl"),
                self.cdn_ttl,
                "no such setting beside cookies=[…]: what differs by cookie is for one visitor, and a CDN would give "
                "it to the next",
                code="cdn-ttl-beside-cookies",
            )
        if self.coalesce == FLEET and "l2" not in self.tiers:
            raise ConfigError(
                qualified(where, "coalesce"),
                self.coalesce,
                "'process' or False where the shared tier is not used: one process could not give another what it made",
                code="coalesce-without-l2",
            )
        if self.ttl == 0 and not self.stale_while_revalidate and not self.stale_if_error:
            raise ConfigError(
                qualified(where, "ttl"),
                self.ttl,
                "a duration above 0, or 0 together with stale_while_revalidate or stale_if_error; "
                "to store nothing, cache=False",
                code="ttl-zero",
            )

    @classmethod
    def merge(cls, stronger: Policy, weaker: Policy) -> Policy:
        """Setting by setting what `stronger` gives, else what `weaker` gives; `tags` and `invalidates` united.

        They are united because a tag too many costs a needless miss, and one too few a stale answer.
        """
        if not weaker.given:
            return stronger
        if not stronger.given:
            return weaker
        values = {
            name: getattr(weaker if name in weaker.given and name not in stronger.given else stronger, name)
            for name in cls._table
        }
        for name in UNITED:
            values[name] = tuple(dict.fromkeys((*getattr(stronger, name), *getattr(weaker, name))))
        merged = cls.__new__(cls)
        merged._set(values, stronger.given | weaker.given)
        return merged

    @classmethod
    def layered(cls, layers: Iterable[tuple[str, Policy]], where: str) -> Policy:
        """What several layers say together, the strongest first; `ConfigError` naming `where` if they contradict.

        What a stronger layer does not cache, weaker ones need not know of.
        """
        merged = functools.reduce(cls.merge, (policy for _, policy in layers))
        if merged.cache:
            merged._check(where)
        return merged

    @classmethod
    def declared(cls, **settings: Unpack[PolicySettings]) -> Self:
        """The policy that a decorator beside a view declares while a response is being made.

        `ConfigError` for a setting that has to be known earlier: the key of a request is made, and the stored
        response looked up, before the view is reached.
        """
        return cls._declared(cast("dict[str, Any]", settings))

    @classmethod
    def _declared(cls, settings: Mapping[str, Any]) -> Self:
        declarable = [row.name for row in cls._table.values() if not row.early]
        for name, value in settings.items():
            if name not in cls._table:
                refuse_unknown("decorator", name, value, declarable)
            if cls._table[name].early:
                raise ConfigError(
                    f"decorator: {name}",
                    value,
                    f"this setting only in a rule, cache.route(template, {name}=…), since a request is looked up "
                    f"before the view is reached; beside a view: {', '.join(declarable)}",
                )
        return cls.parse(settings, "decorator")

    def to_declared(self) -> dict[str, Any]:
        """The given settings as plain values (str, numbers, bool, None, list, dict with str keys), for storing."""
        return {name: _plain(getattr(self, name)) for name in self._table if name in self.given}

    @classmethod
    def from_declared(cls, plain: object) -> Self | None:
        """What `to_declared` made, read back; None for anything else, as another version may have written it.

        Whoever reads a stored response whose declared policy is unreadable does well to treat it as a miss.
        """
        if not isinstance(plain, dict):
            return None
        try:
            return cls._declared(plain)
        except ConfigError:
            return None


def _encoded(names: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(name.encode() for name in names)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    return value
