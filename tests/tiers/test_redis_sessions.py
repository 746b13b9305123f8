"""Sessions of users in a Cluster; what they promise is tried in `tests/integrations/test_sessions.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.tiers.redis_help import soon
from tiercache.core.user_sessions import Lifetime, Rotation, SessionChanges, StoredSession
from tiercache.engine.effects import drive
from tiercache.tiers.redis import RedisTier

LIFETIME = Lifetime(60.0, 600.0)


def test_in_a_cluster(cluster: Any, open_tier: Callable[..., RedisTier]) -> None:
    """The old session, the new one and the lists of the tags lie on different servers."""
    store = open_tier(cluster.url).sessions
    for number in range(4):
        old, new, user, group = f"old {number}", f"new {number}", f"user:{number}", f"group:{number}"
        before = SessionChanges({"cart": b"1", "lang": b"2"}, (), (group,))
        assert drive(store.begin(old, before, "a", LIFETIME, soon()))
        more = SessionChanges({"lang": b"3"}, ("cart",), ())
        assert drive(store.save(old, more, "b", LIFETIME, soon()))
        login = SessionChanges({"user": b"4"}, (), (user,))
        rotation = Rotation(login, login.upon(StoredSession({}, "")), login)
        assert drive(store.rotate(old, new, rotation, "c", LIFETIME, 30.0, soon()))
        found, left = drive(store.load(new, LIFETIME, soon())), drive(store.load(old, LIFETIME, soon()))
        assert found is not None
        assert (dict(found.fields), found.token, found.tags) == ({"lang": b"3", "user": b"4"}, "c", (group, user))
        assert left is not None
        assert left.moved
        assert not drive(store.save(old, more, "d", LIFETIME, soon()))
        assert drive(store.revoke(user if number % 2 else group, soon())) >= 1
        assert drive(store.load(new, LIFETIME, soon())) is None
        assert not drive(store.begin(new, login, "e", LIFETIME, soon()))
        drive(store.drop(old, soon()))
        assert drive(store.load(old, LIFETIME, soon())) is None
