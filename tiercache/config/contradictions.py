"""What may be wrong with a configuration: the table of all findings, with how bad each is and what it means."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final, Literal, NamedTuple

Severity = Literal["error", "warning", "note"]
SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "note")


class Contradiction(NamedTuple):
    """One kind of finding."""

    severity: Severity
    meaning: str


CONTRADICTIONS: Final = MappingProxyType(
    {
        # What raises `ConfigError` when the app starts.
        "not-accepted": Contradiction("error", "a value, a template or a table that is not accepted"),
        "unknown-setting": Contradiction("error", "a setting that there is none of, or that does not belong there"),
        "unknown-policy": Contradiction("error", "a rule names a policy that there is none of"),
        "rule-empty": Contradiction("error", "a rule or policy that sets nothing"),
        "rule-shadowed": Contradiction("error", "an earlier rule matches every path of this one, which never decides"),
        "tag-without-value": Contradiction("error", "a tag names a parameter that the template does not have"),
        "beside-cache-false": Contradiction("error", "settings of what is stored beside `cache=False`"),
        "cdn-ttl-beside-cookies": Contradiction("error", "a lifetime in the CDN for what differs by cookie"),
        "coalesce-without-l2": Contradiction("error", '`coalesce="fleet"` where the rule does not use the shared tier'),
        "ttl-zero": Contradiction("error", "`ttl=0` without a stale window stores what is never used"),
        "session-without-secret": Contradiction("error", '`consistency="session"` without a `session_secret`'),
        "consistency-without-ledger": Contradiction(
            "error", '`consistency="strong"` or `"session"` with a Memcached that has no `ledger` beside it'
        ),
        "tier-not-there": Contradiction("error", "a rule stores in the shared tier alone, and there is no `url`"),
        "event-without-rule": Contradiction("error", "an event purges a rule that there is none of"),
        # What starts, and does not do what it says.
        "needs-url": Contradiction("warning", "a setting that means nothing without a shared tier (no `url`)"),
        "purges-stay-in-process": Contradiction(
            "warning", "a Memcached without a `ledger`: no purge reaches another process"
        ),
        "secret-in-file": Contradiction("warning", "a password or secret in a file instead of the environment"),
        "body-larger-than-l1": Contradiction("warning", "`max_body` is larger than all of `l1_size`"),
        "session-cookie-ignored": Contradiction(
            "warning", "a cookie that frameworks keep sessions or CSRF tokens in counts as no credential"
        ),
        "session-cookie-dropped": Contradiction("warning", "the same cookie is dropped from what is stored"),
        "rule-overruled": Contradiction("warning", "a rule in code of which a rule of the file takes every path"),
        "policy-unused": Contradiction("warning", "a named policy that no rule refers to"),
        "browser-outlives-purge": Contradiction(
            "warning", "browsers keep what has tags for longer than the staleness bound; no purge reaches them"
        ),
        "cdn-outlives-purge": Contradiction(
            "warning", "the CDN keeps what has tags for longer than the staleness bound; a purge does not reach it"
        ),
        "browser-outlives-store": Contradiction("warning", "browsers keep it for longer than the store does"),
        "cdn-outlives-store": Contradiction("warning", "the CDN keeps what has no tags for longer than the store does"),
        "cdn-ttl-personal": Contradiction(
            "warning", "a lifetime in the CDN for what differs by a credential, which is never sent"
        ),
        "key-explodes": Contradiction("warning", "the key has a field with endless values: nearly every request fills"),
        "cookie-in-headers": Contradiction("warning", "the key has the whole `Cookie` field"),
        "isolated-never": Contradiction("warning", "`isolated_ttl` where L1 answers nothing in isolation"),
        "isolated-beyond-lifetime": Contradiction("warning", "`isolated_ttl` is longer than anything is kept"),
        "slow-after-timeout": Contradiction("warning", "`serve_stale_after` is not below `fill_timeout`"),
        "stale-window-too-short": Contradiction("warning", "`stale_if_error` is over before it could be used"),
        "heuristic-behind-ttl": Contradiction("warning", "`ttl` decides where `heuristic` would"),
        "early-refresh-never": Contradiction("warning", "`early_refresh` of what is never fresh"),
        "lost-history-without-stale": Contradiction(
            "warning", '`on_lost_history="stale"`, and no rule has `stale_while_revalidate`'
        ),
        # What may be meant.
        "disabled": Contradiction("note", "caching is switched off"),
        "no-rules": Contradiction("note", "no rule at all: only what the app's own headers allow is stored"),
        "namespace-default": Contradiction("note", "a shared tier under the name that every other app has by default"),
        "secret-unused": Contradiction("note", "a `session_secret`, and no rule with session consistency"),
        "slow-beyond-budget": Contradiction("note", "`l2_slow` is not below `l2_budget`"),
        "rule-overlaps": Contradiction("note", "an earlier rule takes some of the paths of this one"),
        "lifetime-left-to-app": Contradiction("note", "a rule without a lifetime of its own"),
        "stale-without-window": Contradiction(
            "note", "a setting about stale responses, and no window in which one may be served"
        ),
        "jitter-without-lifetime": Contradiction("note", "`jitter`, and no lifetime that it could shorten"),
        "stale-under-strong": Contradiction("note", "stale windows of a rule that has to ask the shared tier first"),
        "max-fills-refuses": Contradiction("note", "`max_fills` without a stale window: beyond it clients get 503"),
        "invalidates-unknown-tag": Contradiction("note", "a rule or an event purges a tag that no rule gives"),
    }
)
"""By code. A code keeps its meaning; new ones may come with any version."""


class Finding(NamedTuple):
    """One thing that may be wrong."""

    code: str
    where: str
    """The rule, policy, file or variable."""
    setting: str
    """Empty where it is about no single one."""
    message: str
    """What is wrong, and what to do."""

    @property
    def severity(self) -> Severity:
        return CONTRADICTIONS[self.code].severity
