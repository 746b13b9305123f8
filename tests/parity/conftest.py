"""Each test here runs through both faces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.clock import Hands
from tests.parity.faces import FACES, Face, Origin
from tiercache import TierCache

RULE: Mapping[str, Mapping[str, Any]] = {"/p/{id}": {"ttl": "10m", "tags": ["p:{id}"]}}


class World:
    """Makes caches around apps, for one kind of face."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._faces: list[Face] = []

    def face(
        self,
        origin: Origin,
        url: str | None = None,
        rules: Mapping[str, Mapping[str, Any]] = RULE,
        **settings: Any,
    ) -> Face:
        # A budget that no busy machine exceeds: what these tests look for must not depend on the time things take.
        cache = TierCache(url, **{"l2_budget": "10s", "l2_slow": "10s", **settings})
        for template, policy in rules.items():
            cache.route(template, **policy)
        face = FACES[self.kind](cache, origin)
        self._faces.append(face)
        return face

    def turnable(self, origin: Origin, **options: Any) -> tuple[Face, Hands]:
        """A face whose clock the test turns."""
        face = self.face(origin, **options)
        return face, Hands(face.cache)

    def close(self) -> None:
        for face in self._faces:
            face.close()


@pytest.fixture(params=sorted(FACES))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    world = World(request.param)
    yield world
    world.close()


class Pair:
    """Two looks at one store: what `fill` has stored, `read` finds in its own memory or, in another process, in L2."""

    def __init__(self, world: World, tier: str, url: str) -> None:
        self._world, self.tier, self._url = world, tier, url

    def __call__(self, origin: Origin, **options: Any) -> tuple[Face, Face]:
        fill = self._world.face(origin, self._url, **options)
        return fill, fill if self.tier == "l1" else self._world.face(origin, self._url, **options)


@pytest.fixture(params=["l1", "l2"])
def pair(request: pytest.FixtureRequest, world: World, redis_url: str) -> Pair:
    return Pair(world, request.param, redis_url)
