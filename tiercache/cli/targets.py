"""What a command works on: a configuration file, a cache in code (`module:attribute`), or the environment alone."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

from tiercache.cache import TierCache
from tiercache.cli.exits import Unreadable
from tiercache.config.effective import Configuration, configuration_of
from tiercache.config.sources import CONFIG_VARIABLE
from tiercache.config.toml import NOTHING, read_toml
from tiercache.engine.emitting import checked
from tiercache.errors import ConfigError
from tiercache.tiers.choice import check_urls


def is_code(target: str) -> bool:
    """Whether a target names something in a module, as servers take apps, and no file."""
    return ":" in target and not target.endswith(".toml") and not Path(target).exists()


def from_file(path: str | None, environ: Mapping[str, str]) -> Configuration:
    """What `TierCache.from_toml` would make of a file and the environment, as far as it can be made.

    Without a path, of the file that `TIERCACHE_CONFIG` names, or of the environment alone.

    Raises:
        Unreadable: the file cannot be read, or is not TOML.
    """
    refused: list[ConfigError] = []
    path = path or environ.get(CONFIG_VARIABLE, "").strip()
    try:
        document = read_toml(path, refused.append) if path else NOTHING
    except ConfigError as error:
        raise Unreadable(str(error)) from error
    configuration = configuration_of(document, environ, refused)
    try:
        check_urls(configuration.settings)
    except ConfigError as error:
        refused.append(error)
    for rule in configuration.events:
        try:
            checked(configuration.routes, rule)
        except ConfigError as error:
            refused.append(error)
    return configuration


def from_code(target: str, folder: str, *, factory: bool) -> Configuration:
    """The configuration of a cache in code, which is imported for that. Arguments and errors are as for `cache_in`."""
    cache = cache_in(target, folder, factory=factory)
    return Configuration(cache.settings, cache.sources, cache.policies, cache.routes, cache.events)


def cache_in(target: str, folder: str, *, factory: bool) -> TierCache:
    """A cache in code, which is imported for that.

    Args:
        target: `module:attribute`; the attribute may have dots. It may be a `TierCache`, what has one as `cache`, a
            Flask app with the extension, or a Starlette or FastAPI app with the middleware.
        folder: put at the front of the path to import from.
        factory: the attribute is to be called without arguments first.

    Raises:
        Unreadable: there is no such module or attribute, it raises, or it is no cache.
        ConfigError: by the code itself: the app would not start.
    """
    name, _, attribute = target.partition(":")
    if not name or not attribute:
        raise Unreadable(f"{target!r} is neither a file nor module:attribute")
    sys.path.insert(0, os.path.abspath(folder))
    try:
        # What the module prints is not part of what is found.
        with redirect_stdout(sys.stderr):
            module = importlib.import_module(name)
            found = _attribute(module, attribute, target)
            if factory:
                if not callable(found):
                    raise Unreadable(f"{target} is no function: leave --factory out")
                found = found()
    except (ConfigError, Unreadable):
        raise
    except (Exception, SystemExit) as error:
        raise Unreadable(f"{target} cannot be imported: {type(error).__name__}: {error}") from error
    cache = _cache_of(found)
    if cache is None:
        hint = "; with --factory it is called first" if inspect.isroutine(found) and not factory else ""
        raise Unreadable(f"{target} is a {type(found).__name__}, not a TierCache{hint}{_caches_in(module)}")
    return cache


def any_cache(target: str | None, folder: str, *, factory: bool) -> TierCache:
    """A cache from code, from a file with the environment over it, or from the environment alone.

    Raises:
        Unreadable: as for `cache_in`.
        ConfigError: of the file, the environment, or the code itself.
    """
    if target is None:
        return TierCache.from_env()
    return cache_in(target, folder, factory=factory) if is_code(target) else TierCache.from_toml(target)


def _attribute(module: ModuleType, attribute: str, target: str) -> Any:
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise Unreadable(f"{target}: there is no {part!r} in {module.__name__}{_caches_in(module)}")
        found = getattr(found, part)
    return found


def _caches_in(module: ModuleType) -> str:
    names = [name for name, value in vars(module).items() if isinstance(value, TierCache)]
    return f"; a TierCache is {', '.join(f'{module.__name__}:{name}' for name in names)}" if names else ""


def _cache_of(found: Any) -> TierCache | None:
    extensions = getattr(found, "extensions", None)
    extension = extensions.get("tiercache") if isinstance(extensions, dict) else None
    candidates = [found, getattr(found, "cache", None), extension, getattr(extension, "cache", None)]
    candidates += [getattr(one, "kwargs", {}).get("cache") for one in getattr(found, "user_middleware", ())]
    return next((one for one in candidates if isinstance(one, TierCache)), None)
