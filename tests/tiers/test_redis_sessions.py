"""Sessions of users in a Cluster; what they promise is tried in `tests/integrations/test_sessions.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.tiers.redis_help import soon
from tiercache.core.user_sessions import Rotation, SessionChanges, StoredSession
from tiercache.tiers.redis import RedisTier

TERMS = (60.0, 600.0)


def test_in_a_cluster(cluster: Any, open_tier: Callable[..., RedisTier]) -> None:
    """The old session, the new one and the lists of the tags lie on different servers."""
    tier = open_tier(cluster.url)
    for number in range(4):
        old, new, user, group = f"old {number}", f"new {number}", f"user:{number}", f"group:{number}"
        before = SessionChanges({"cart": b"1", "lang": b"2"}, (), (group,))
        assert tier.save_session(old, before, "a", *TERMS, soon(), begins=True)
        more = SessionChanges({"lang": b"3"}, ("cart",), ())
        assert tier.save_session(old, more, "b", *TERMS, soon())
        login = SessionChanges({"user": b"4"}, (), (user,))
        rotation = Rotation(login, login.upon(StoredSession({}, "")), login)
        assert tier.rotate_session(old, new, rotation, "c", *TERMS, 30.0, soon())
        found, left = tier.load_session(new, *TERMS, soon()), tier.load_session(old, *TERMS, soon())
        assert found is not None
        assert (dict(found.fields), found.token, found.tags) == ({"lang": b"3", "user": b"4"}, "c", (group, user))
        assert left is not None
        assert left.moved
        assert not tier.save_session(old, more, "d", *TERMS, soon())
        assert tier.revoke_sessions(user if number % 2 else group, soon()) >= 1
        assert tier.load_session(new, *TERMS, soon()) is None
        assert not tier.save_session(new, login, "e", *TERMS, soon(), begins=True)
        tier.drop_session(old, soon())
        assert tier.load_session(old, *TERMS, soon()) is None
