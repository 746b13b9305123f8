"""What the function that writes to the database is given by a write-behind store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar, overload

from tiercache.core.write_queue import Place, Receipt

K = TypeVar("K")
V = TypeVar("V")


class QueuedWrite(Generic[K, V]):
    """One key with its newest value. Earlier values of the same key in the same batch are left out."""

    __slots__ = ("at", "key", "receipt", "removed", "value")

    def __init__(self, key: K, value: V | None, *, removed: bool, receipt: Receipt, at: float) -> None:
        self.key = key
        self.value = value
        """None too where the key is to be removed."""
        self.removed = removed
        """Whether the key is to be removed."""
        self.receipt = receipt
        self.at = at
        """When it was acknowledged to its writer, Unix time, seconds."""

    @property
    def id(self) -> str:
        """The same each time that this write is handed out, and no other's."""
        return f"{self.receipt.history}:{self.receipt.number}"

    def __repr__(self) -> str:
        what = "removed" if self.removed else repr(self.value)
        return f"{type(self).__name__}({self.key!r}, {what}, id={self.id!r})"


class WriteBatch(Sequence[QueuedWrite[K, V]]):
    """Writes of one partition, in order, one for each key. To be written in one transaction, or not at all.

    A batch may come again, whole or in other parts: after a crash, or when its worker stood still for so long that
    another one took over. What guards a transaction against that looks at `place`, `fence` and `marks`.
    """

    __slots__ = ("_writes", "fence", "marks", "place")

    def __init__(
        self, place: Place, writes: Sequence[QueuedWrite[K, V]], *, fence: int, marks: Mapping[str, int]
    ) -> None:
        self.place = place
        """Store and partition."""
        self._writes = writes
        self.fence = fence
        """Fencing token of the worker: the one of a later owner of the partition is higher."""
        self.marks = marks
        """By history, the highest number among the writes, those included that a newer value of their key has
        replaced."""

    def newer_than(self, marks: Mapping[str, int]) -> WriteBatch[K, V]:
        """What of the batch comes after these marks, which say what has been written: numbers rise within a history."""
        kept = [one for one in self._writes if one.receipt.number > marks.get(one.receipt.history, 0)]
        return WriteBatch(self.place, kept, fence=self.fence, marks=self.marks)

    @overload
    def __getitem__(self, index: int) -> QueuedWrite[K, V]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[QueuedWrite[K, V]]: ...

    def __getitem__(self, index: Any) -> Any:
        return self._writes[index]

    def __len__(self) -> int:
        return len(self._writes)

    def __iter__(self) -> Iterator[QueuedWrite[K, V]]:
        return iter(self._writes)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.place.store!r}, partition {self.place.partition}, {len(self)} writes)"
