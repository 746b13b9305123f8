"""Looks through a configuration for what cannot be meant: each setting is accepted by itself, and yet it has no effect,
or another one than its name says.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tiercache.config.contradictions import SEVERITIES, Finding
from tiercache.config.effective import Configuration
from tiercache.config.rule_checks import check_rule, needs_url
from tiercache.config.settings import DISABLED_VARIABLE
from tiercache.core.kinds import as_text
from tiercache.core.policy_kinds import placeholders
from tiercache.core.policy_settings import BOUNDED, SESSION
from tiercache.core.redaction import passwords_of
from tiercache.core.routes import Route
from tiercache.core.templates import covers, meeting
from tiercache.errors import ConfigError

_OF_L2: Final = (
    "l2_budget", "l2_slow", "staleness_bound", "on_lost_history", "strong_wait", "purge_timeout", "lease_wait",
    "pool_size",
)  # fmt: skip
SESSION_COOKIES: Final = frozenset(
    {
        "session", "sessionid", "session_id", "sid", "connect.sid", "phpsessid", "jsessionid", "asp.net_sessionid",
        "csrftoken", "csrf_token", "xsrf-token", "fastapiusersauth", "remember_token", "auth_token", "access_token",
        "id_token", "jwt", "token", "laravel_session", "_session_id", "__host-session", "__secure-session",
    }
)  # fmt: skip
"""Cookies in which frameworks keep who somebody is, in lower case."""
MOST_MEETINGS: Final = 2_000
"""Pairs of rules that are compared path by path."""


def check(configuration: Configuration) -> list[Finding]:
    """Everything that was found, the worst first."""
    found = [refused(error) for error in configuration.refused]
    found += without_effect(configuration)
    found += _settings(configuration)
    found += _rules(configuration)
    for route in _in_force(configuration):
        found += check_rule(route, configuration.settings)
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def without_effect(configuration: Configuration) -> Iterator[Finding]:
    """What whoever wonders why nothing happens wants to know first, and what is found at once."""
    settings, sources = configuration.settings, configuration.sources
    if not settings.enabled:
        by = sources.get("enabled", DISABLED_VARIABLE)
        yield Finding("disabled", "cache", "enabled", f"caching is switched off by {by}; every request goes to the app")
    for later, earlier in configuration.routes.shadowed().items():
        yield Finding(
            "rule-overruled", later.named, "",
            f"{earlier.named} decides for every path of {later.template!r}; if that is not meant, give the file a rule "
            "with the same path, which is put over this one",
        )  # fmt: skip
    for name in configuration.policies.unused():
        yield Finding(
            "policy-unused", f"policy {name!r}", "",
            f"no rule refers to the policy {name!r}; name it in a rule, or take it out (the rules in code show where "
            "the check is given module:attribute)",
        )  # fmt: skip


def refused(error: ConfigError) -> Finding:
    """What is not accepted at all, as a finding."""
    where, _, setting = error.setting.rpartition(": ")
    return Finding(error.code, where or setting, setting if where else "", str(error).removeprefix(f"{where}: "))


def _in_force(configuration: Configuration) -> list[Route]:
    """The rules that decide for some path."""
    overruled = configuration.routes.shadowed()
    return [route for route in configuration.routes if route not in overruled]


def _settings(configuration: Configuration) -> Iterator[Finding]:
    settings, sources = configuration.settings, configuration.sources
    where = "cache"
    if settings.url is None:
        for name in _OF_L2:
            if name in sources:
                yield needs_url(where, name)
        # A file for several places may well have what only some of them use.
        if "session_secret" in sources and settings.session_secret is not None:
            yield needs_url(where, "session_secret")
    elif settings.namespace == "default":
        yield Finding(
            "namespace-default", where, "namespace",
            "the namespace is 'default', as that of every app that names none: two of them on one Redis purge each "
            "other; name it, e.g. namespace='shop'",
        )  # fmt: skip
    # Where a rule asks for more, that says it.
    if settings.alone and all(route.policy.consistency == BOUNDED for route in _in_force(configuration)):
        yield Finding(
            "purges-stay-in-process", where, "url",
            "a Memcached has no ledger: a purge reaches the process that makes it and no other one; give a ledger, the "
            "URL of a Redis (TIERCACHE_LEDGER)",
        )  # fmt: skip
    for name, secret in (
        ("url", passwords_of(settings.url)),
        ("ledger", passwords_of(settings.ledger)),
        ("session_secret", settings.session_secret),
    ):
        if secret and sources.get(name) in configuration.files:
            yield Finding(
                "secret-in-file", where, name,
                f"{name} has a secret in {sources[name]}; put it into TIERCACHE_{name.upper()}",
            )  # fmt: skip
    if settings.max_body > settings.l1_size:
        yield Finding(
            "body-larger-than-l1", where, "max_body",
            f"max_body ({as_text('B', settings.max_body)}) is larger than l1_size ({as_text('B', settings.l1_size)}): "
            "such a body is never kept in this process; raise l1_size or lower max_body",
        )  # fmt: skip
    if settings.l2_slow >= settings.l2_budget and {"l2_slow", "l2_budget"} & sources.keys():
        yield Finding(
            "slow-beyond-budget", where, "l2_slow",
            f"l2_slow ({as_text('s', settings.l2_slow)}) is not below l2_budget ({as_text('s', settings.l2_budget)}): "
            "no request waits that long, so that answers count as failed or good, never as slow; lower l2_slow",
        )  # fmt: skip
    for cookie in settings.ignore_cookies:
        if _is_session(cookie) and "ignore_cookies" in sources:
            yield Finding(
                "session-cookie-ignored", where, "ignore_cookies",
                f"{cookie!r} in ignore_cookies says that it tells nobody apart, and frameworks keep sessions in it: "
                "logged-in users get what others were sent; take it out, or use cookies=[…] in a rule",
            )  # fmt: skip
    policies = [route.policy for route in configuration.routes]
    if settings.session_secret is not None and not any(policy.consistency == SESSION for policy in policies):
        yield Finding(
            "secret-unused", where, "session_secret",
            "session_secret is given and no rule has consistency='session'; leave it out, or give a rule that",
        )  # fmt: skip
    if settings.on_lost_history == "stale" and not any(policy.stale_while_revalidate for policy in policies):
        yield Finding(
            "lost-history-without-stale", where, "on_lost_history",
            "on_lost_history='stale' uses what is stored within its stale_while_revalidate, which no rule has; give "
            "the rules stale_while_revalidate, or leave it out",
        )  # fmt: skip


def _is_session(cookie: str) -> bool:
    name = cookie.lower()
    if name.endswith("*"):
        return any(one.startswith(name[:-1]) for one in SESSION_COOKIES)
    return name in SESSION_COOKIES


def _rules(configuration: Configuration) -> Iterator[Finding]:
    routes = configuration.routes
    if not len(routes) and not configuration.refused:
        yield Finding(
            "no-rules", "cache", "",
            "there is no rule: only responses whose own headers give a lifetime are stored; add cache.route(…) or "
            "[[routes]]",
        )  # fmt: skip
    yield from _overlaps(_in_force(configuration))
    given = {_shape(tag) for route in routes for tag in route.policy.tags}
    templates = {route.template for route in routes}
    for event in configuration.events:
        for tag in event.tags:
            if isinstance(tag, str) and _shape(tag) not in given:
                yield _unknown_tag(event.named, "tags", tag)
        for template in event.route:
            if template not in templates:
                yield Finding(
                    "event-without-rule", event.named, "route",
                    f"no rule has the template {template!r}, so that the event raises ConfigError when it comes; write "
                    "it as the rule does",
                )  # fmt: skip
    for route in routes:
        for tag in route.policy.invalidates:
            if _shape(tag) not in given:
                yield _unknown_tag(route.named, "invalidates", tag)
        for cookie in route.policy.drop_cookies:
            if _is_session(cookie):
                yield Finding(
                    "session-cookie-dropped", route.named, "drop_cookies",
                    f"{cookie!r} in drop_cookies is taken from what is stored, and frameworks keep sessions in it: "
                    "what one login was sent may go to all; leave it out, so that such responses are not stored",
                )  # fmt: skip


def _unknown_tag(where: str, setting: str, tag: str) -> Finding:
    return Finding(
        "invalidates-unknown-tag", where, setting,
        f"no rule gives the tag {tag!r} to anything; unless a view does (tiercache.tag, a decorator), nothing is "
        "purged: compare it with the tags of the rules",
    )  # fmt: skip


def _shape(tag: str) -> str:
    for name in placeholders(tag):
        tag = tag.replace("{" + name + "}", "{}")
    return tag


def _overlaps(routes: list[Route]) -> Iterator[Finding]:
    left = MOST_MEETINGS
    # What has no parameters is one path: an earlier rule takes all of it or nothing.
    parsed = [(route, route.parsed) for route in routes if route.parsed is not None and not route.literal]
    for index, (later, template) in enumerate(parsed):
        for earlier, other in parsed[:index]:
            if not (template.prefix.startswith(other.prefix) or other.prefix.startswith(template.prefix)):
                continue
            left -= 1
            if left < 0:
                return
            # The narrower one first is as it should be.
            path = None if covers(template, other) else meeting(other, template)
            if path is not None:
                yield Finding(
                    "rule-overlaps", later.named, "",
                    f"{earlier.template!r} comes first and decides for some paths of {later.template!r}, such as "
                    f"{path!r}; if that is not meant, turn the two round or narrow the first",
                )  # fmt: skip
