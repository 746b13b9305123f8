"""The decorator beside a view: it declares a policy during the fill, and changes nothing else about the view."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from tiercache.core.policy import Policy
from tiercache.core.policy_kinds import placeholders
from tiercache.core.policy_settings import PolicySettings
from tiercache.core.routes import fill_tags
from tiercache.engine.fill import current_fill
from tiercache.errors import ConfigError

View = TypeVar("View", bound=Callable[..., Any])


def declares_from(bare: Collection[object], settings: PolicySettings) -> Callable[[View], View]:
    """`declares` for the arguments of `cached` as users write them.

    Raises:
        ConfigError: something that is no setting, such as the view itself; no setting; or one that cannot work here.
    """
    if bare or not settings:
        raise ConfigError(
            "cached",
            next(iter(bare), None),
            "settings by name, and the view below them: @cache.cached(ttl='10m')",
        )
    return declares(Policy.declared(**settings))


def declares(policy: Policy) -> Callable[[View], View]:
    """A decorator for a Flask view, a Starlette endpoint or a FastAPI path function, sync or async.

    Tag templates are filled from the view's arguments by name, and from `request.path_params` where the view takes a
    Starlette request.

    Raises:
        ConfigError: a tag names something that the view has no argument for.
    """

    def decorate(view: View) -> View:
        signature = inspect.signature(view)
        wanted = frozenset().union(*(placeholders(tag) for tag in policy.tags))
        _check(view, signature, wanted, policy)
        if inspect.iscoroutinefunction(view):

            @functools.wraps(view)
            async def declaring(*args: Any, **kwargs: Any) -> Any:
                _declare(policy, signature, wanted, args, kwargs)
                return await view(*args, **kwargs)

        else:

            @functools.wraps(view)
            def declaring(*args: Any, **kwargs: Any) -> Any:
                _declare(policy, signature, wanted, args, kwargs)
                return view(*args, **kwargs)

        # FastAPI before 0.121 resolves annotations in the wrapper's module, not in the view's; resolved ones need none.
        with contextlib.suppress(Exception):
            declaring.__signature__ = inspect.signature(view, eval_str=True)  # type: ignore[attr-defined]
        return declaring  # type: ignore[return-value]

    return decorate


def _takes_request(parameter: inspect.Parameter) -> bool:
    return parameter.name in ("request", "req") or "Request" in str(parameter.annotation)


def _check(view: Any, signature: inspect.Signature, wanted: frozenset[str], policy: Policy) -> None:
    parameters = signature.parameters.values()
    if any(p.kind is p.VAR_KEYWORD or _takes_request(p) or p.name == "self" for p in parameters):
        return
    missing = wanted - set(signature.parameters)
    if missing:
        raise ConfigError(
            f"cached view {getattr(view, '__qualname__', view)}: tags",
            list(policy.tags),
            f"templates with the view's own arguments ({', '.join(signature.parameters) or 'it has none'})",
        )


def _declare(
    policy: Policy,
    signature: inspect.Signature,
    wanted: frozenset[str],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> None:
    fill = current_fill()
    if fill is None:
        return
    try:
        values = _values(signature, args, kwargs) if wanted else {}
        tags = fill_tags(policy.tags, {name: str(values[name]) for name in wanted})
    except (KeyError, TypeError):
        # Without its tags it could not be invalidated.
        fill.refusal = f"no value for the tags {', '.join(policy.tags)}"
        return
    # A view that calls another one is what its own decorator says, made of what the other one is tagged with.
    fill.declared = fill.declared or policy
    fill.tags.update(tags)


def _values(signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    bound = signature.bind_partial(*args, **kwargs)
    bound.apply_defaults()
    values: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        values.update(getattr(value, "path_params", None) or {})
        if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            values.update(value)
    return {**values, **bound.arguments}
