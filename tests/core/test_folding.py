"""More keys of data than the ledger keeps: the oldest go into the record of a bucket of their store, which may kill too
much of that bucket, and never too little.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.ledger_values import Entry, attached, message, page
from tiercache.core import history
from tiercache.core import ledger as ledger_module
from tiercache.core.ledger import Ledger
from tiercache.core.records import bucket_of_key, folded, is_of_key

KEPT = 20


def key(number: int, store: str = "s", bucket: str = "000") -> str:
    return f"v:{store}:{bucket}{number:029x}"


@pytest.fixture
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "KEYS_KEPT", KEPT)
    monkeypatch.setattr(history, "_PRUNE_MIN", KEPT)
    monkeypatch.setattr(ledger_module, "LOCAL_LIMIT", 3 * KEPT)


@pytest.mark.parametrize(
    ("member", "bucket"),
    [
        ("h:" + key(7), "h:w:s:000"),
        ("h:" + key(7, "a:b\n", "0a9"), "h:w:a:b\n:0a9"),
        ("h:" + key(7, "s:" + "0" * 32), "h:w:s:" + "0" * 32 + ":000"),
        ("h:v:s", None),
        ("h:v::" + "0" * 32, None),
        ("h:v:s:" + "0" * 31, None),
        ("h:v:s:" + "A" * 32, None),
        ("h:t:s:" + "0" * 32, None),
        ("s:" + key(7), None),
    ],
)
def test_a_key_is_known_by_its_form(member: str, bucket: str | None) -> None:
    assert is_of_key(member) == (bucket is not None)
    if bucket is not None:
        assert bucket_of_key(member[2:]) == bucket


members = st.one_of(
    st.builds(
        lambda number, store, bucket: "h:" + key(number, store, bucket),
        st.integers(0, 3),
        st.sampled_from("ab"),
        st.sampled_from(["000", "fff"]),
    ),
    st.sampled_from(["h:v:a", "h:w:a:000", "h:w:b:fff", "h:t:x", "s:t:x", "b:p:/a"]),
)


@given(st.dictionaries(members, st.integers(1, 30)), st.integers(0, 6))
def test_what_is_folded_kills_all_that_it_did_and_nothing_of_another_bucket(known: dict[str, int], most: int) -> None:
    left = folded(known, most)
    assert sum(map(is_of_key, left)) <= most
    gone = {member: at for member, at in known.items() if member not in left}
    kept = [at for member, at in left.items() if is_of_key(member)]
    assert all(map(is_of_key, gone))
    assert not gone or not kept or max(gone.values()) <= min(kept)
    for member, at in gone.items():
        assert left[bucket_of_key(member[2:])] >= at
    for member, at in left.items():
        into = [n for one, n in gone.items() if bucket_of_key(one[2:]) == member]
        assert at == max([known.get(member, 0), *into])


@pytest.mark.usefixtures("_few")
class TestTheMirror:
    def test_a_flood_of_keys_neither_grows_it_nor_kills_what_is_not_of_their_bucket(self) -> None:
        ledger = attached()
        others = [
            Entry(tags=("t:a", "p:/")),
            Entry(tags=(key(1, "other"), "v:other")),
            Entry(tags=(key(1, bucket="001"), "v:s")),
        ]
        old = Entry(tags=(key(999_999), "v:s"))
        for number in range(1, 2_001):
            before = ledger.version
            ledger.heard(message(number, "h:" + key(number)), 0.0)
            assert len(ledger._view.members) <= 4 * KEPT
            assert ledger.version > before
            assert ledger.alive(Entry(number=number, tags=(key(number), "v:s")))
            assert not ledger.alive(Entry(number=number - 1, tags=(key(number), "v:s")))
            assert not ledger.alive(Entry(number=0, tags=(key(1), "v:s")))
        assert all(map(ledger.alive, others))
        assert not ledger.alive(old), "older than the oldest that is kept of its bucket"
        assert ledger.alive(Entry(number=2_000 - KEPT // 2, tags=(key(999_999), "v:s")))
        assert ledger._view.floor == 0

    def test_a_process_by_itself(self) -> None:
        ledger = Ledger(bound=1.0, epoch="E", shared=False)
        ledger.purge_locally(["h:t:b"], False, 0.0)
        for number in range(2_000):
            ledger.purge_locally(["h:" + key(number)], False, 0.0)
            assert len(ledger._view.members) <= 3 * KEPT
        assert ledger._view.floor == 0
        assert ledger.alive(Entry(tags=("t:a",)))
        assert not ledger.alive(Entry(tags=("t:b",)))
        assert not ledger.alive(Entry(number=1, tags=(key(0), "v:s")))

    def test_an_entry_that_was_looked_at_before_is_looked_at_again(self) -> None:
        ledger = attached()
        old = Entry(tags=(key(999_999), "v:s"))
        assert ledger.alive(old)
        for number in range(1, 200):
            ledger.heard(message(number, "h:" + key(number)), 0.0)
        assert old.checked != ledger.version

    def test_a_reader_in_the_middle_finds_the_key_or_its_bucket(self) -> None:
        """A page that shows two values may have looked for the bucket of both when the second is folded."""
        ledger = attached()
        ledger.heard(message(1, "h:" + key(1)), 0.0)

        def fold() -> Iterator[str]:
            yield key(999_999)
            for number in range(2, 500):
                ledger.heard(message(number, "h:" + key(number)), 0.0)
            assert "h:" + key(1) not in ledger._view.members
            yield key(1)

        assert not ledger.alive(Entry(number=0, tags=fold()))


@pytest.mark.usefixtures("_few")
def test_who_purges_a_key_that_was_folded_is_told_of_it() -> None:
    ledger = Ledger(bound=1.0, epoch="E", shared=False)
    for number in range(1_000):
        ledger.purge_locally(["h:" + key(number)], False, 0.0)
    told = ledger.purge_locally(["h:" + key(0), "h:" + key(999), "h:" + key(0, "other"), "h:t:a"], False, 0.0)
    assert 1 <= told.previous[0] < 1_000
    assert told.previous[1:] == (1_000, 0, 0)
    assert ledger.overtaken([key(0)], 1, ()), "or by one of the same bucket"
    assert not ledger.overtaken([key(0, bucket="001")], 1, ())


def test_a_mirror_that_was_away_learns_of_the_bucket() -> None:
    ledger = attached(3)
    unwritten = Entry(number=3, tags=(key(9), "v:s"))
    request = ledger.sync_request(101.0)
    assert ledger.synced(request, page(9, ("h:w:s:000", 6), ("h:" + key(2), 9)))
    assert not ledger.alive(unwritten)
    assert not ledger.alive(Entry(number=5, tags=(key(1), "v:s")))
    assert ledger.alive(Entry(number=6, tags=(key(1), "v:s")))
