"""What the shared tier's clock shows, as far as an answer that took its time can tell."""

from __future__ import annotations


class ServerTime:
    """What is to be added to this process's clock to read the shared tier's Unix time, in seconds: between two bounds.

    An answer was made somewhere between the sending of the question and its receipt, so each one gives two bounds,
    and quick ones narrower bounds than slow ones. Whoever writes an age takes `low` and whoever reads one takes `high`:
    then ages come out too high by the distance of the two at most, and never too low.
    """

    __slots__ = ("_known", "high", "low")

    def __init__(self, guess: float) -> None:
        self._known = False
        self.low = self.high = guess

    def observe(self, shown: float, *, sent: float, received: float) -> None:
        """An answer says that the clock showed `shown`; the others are on this process's clock."""
        low, high = shown - received, shown - sent
        if self._known and max(low, self.low) <= min(high, self.high):
            low, high = max(low, self.low), min(high, self.high)
        # Else another server answers, a clock was set, or the two have drifted apart: what was known is void.
        self.low, self.high, self._known = low, high, True
