"""Things that go wrong together, a few moments apart: random single faults meet in these ways too rarely."""

from __future__ import annotations

from collections.abc import Callable

from tests.simulator.fleet import Action
from tests.simulator.world import Dice


class _Script:
    """Actions around one moment."""

    def __init__(self, dice: Dice, at: float) -> None:
        self.dice = dice
        self.at = at
        self.one, self.other = dice.pick(((0, 1), (1, 0), (1, 2), (2, 1), (0, 2)))
        self.actions: list[Action] = []

    def add(self, after: float, kind: str, process: int, *, jitter: float = 0.5) -> None:
        moment = self.at + after * (1 + jitter * (self.dice.roll() - 0.5))
        self.actions.append(Action(max(0.0, moment), kind, process, self.dice.under(1 << 40)))


Mishap = Callable[[_Script], None]


def lost_history(script: _Script) -> None:
    """A purge that only the old server has, and others that take its number at the new one."""
    dice = script.dice
    kind = dice.pick(("fail over", "restart", "roll back", "roll back"))
    script.add(0.0, "read", script.other)
    script.add(0.1, "purge", script.one)
    script.add(0.2, "save", 0)
    script.add(0.2, "replicate", 0)
    for _ in range(1 + dice.under(3)):
        script.add(0.24, "purge", script.one)
    script.add(0.4, kind, 0, jitter=0.2)
    for _ in range(1 + dice.under(3)):
        script.add(0.45, "purge", script.other)
    script.add(0.5, "read", script.one)


def new_epoch(script: _Script) -> None:
    """The ledger goes, and a process that hardly gets an answer is the next to purge."""
    script.add(0.0, "read", script.one)
    script.add(0.0, "crowd", script.other)
    script.add(0.1, script.dice.pick(("one way", "slow", "one way")), script.one)
    script.add(0.2, script.dice.pick(("flush", "lose ledger", "lose ledger")), 0)
    for after in (0.21, 0.24, 0.3):
        script.add(after, "purge", script.one)
        script.add(after + 0.06, "look", 0)
    script.add(0.3, "read", script.one)


def barrier(script: _Script) -> None:
    """Somebody does not hear, the table of processes goes, and a purge waits for all."""
    for _ in range(3):
        script.add(0.0, "read", script.one)
    script.add(0.3, script.dice.pick(("cut", "deafen", "deafen", "one way", "pause")), script.one)
    script.add(0.44, script.dice.pick(("lose members", "lose members", "fail over", "sync")), 0, jitter=0.05)
    script.add(0.46, "barrier", script.other, jitter=0.02)
    for after in (0.48, 0.5, 0.53, 0.6, 0.8, 1.1):
        script.add(after, "look", 0, jitter=0.05)


def strong(script: _Script) -> None:
    """Strong reads on a slow line, around a purge on a quick one."""
    for _ in range(2):
        script.add(0.0, "read strong", script.one)
    script.add(0.2, "drag", script.one)
    script.add(0.3, "purge strong", script.other, jitter=0.2)
    for after in (0.22, 0.26, 0.29, 0.31, 0.33, 0.36, 0.4):
        script.add(after, "read strong", script.one, jitter=0.1)


def burst(script: _Script) -> None:
    """One tag purged again and again by all, and filled in between, so that messages overtake each other."""
    luck, page = script.dice.under(1 << 40), script.dice.under(1 << 40)
    script.add(0.1, "drag", script.one)
    for number in range(3 + script.dice.under(4)):
        process = script.dice.pick((script.one, script.other))
        moment = script.at + 0.2 + 0.05 * number
        script.actions.append(Action(moment, "purge hard", process, luck))
        for reader, after in ((script.other, 0.008), (script.one, 0.02)):
            script.actions.append(Action(moment + after, "read", reader, page))
        for _ in range(3):
            script.add(0.2 + 0.05 * number + 0.05 * script.dice.roll(), "look", 0, jitter=0.0)


def soft_after_hard(script: _Script) -> None:
    """A process does not hear of a hard purge until the same has been purged softly too."""
    luck = script.dice.under(1 << 40)
    for _ in range(3):
        script.add(0.0, "read", script.one)
        script.add(0.0, "read", script.other)
    script.add(0.15, script.dice.pick(("deafen", "crash", "slow")), script.one)
    for after, kind in ((0.2, "purge hard"), (0.25, "purge soft")):
        script.actions.append(Action(script.at + after, kind, script.other, luck))
    for after in (0.6, 0.8, 1.4, 2.0):
        script.add(after, "read", script.one)
        script.add(after, "look", 0)


def late_joiner(script: _Script) -> None:
    """A process that begins after many purges reads them page by page, and then what lies in Redis."""
    for _ in range(3):
        script.add(0.0, "read", script.other)
    for after in (0.1, 0.15, 0.2):
        script.add(after, "purge", script.other)
    script.add(0.35, script.dice.pick(("crash", "fork", "crash", "lose ledger")), script.one)
    for after in (0.4, 0.45, 0.5, 0.6):
        script.add(after, "read", script.one)


def long_fill(script: _Script) -> None:
    """A slow answer under way while its process is cut off."""
    for _ in range(4):
        script.add(0.0, "read", script.one)
    script.add(0.1, "cut", script.one)
    script.add(0.2, "purge", script.other)
    for after in (1.3, 2.0, 2.8, 3.3):
        script.add(after, "look", 0)


def long_sleep(script: _Script) -> None:
    """A process stands still for longer than trust lasts, while others purge."""
    for _ in range(4):
        script.add(0.0, "read", script.one)
    script.add(0.3, "freeze", script.one)
    for _ in range(2):
        script.add(0.5, "purge hard", script.other)


def session(script: _Script) -> None:
    """A client purges in one place and asks at once in another, which has not heard of it."""
    luck = script.dice.under(1 << 40)
    for _ in range(2):
        script.add(0.0, "read session", script.one)
    script.add(0.25, script.dice.pick(("deafen", "drag", "slow")), script.one)
    script.actions.append(Action(script.at + 0.4, "purge session", script.other, luck))
    for after in (0.402, 0.41, 0.42, 0.45, 0.5):
        script.actions.append(Action(script.at + after, "read session", script.one, luck))


def writers(script: _Script) -> None:
    """Several write one value, slowly, while the ledger is trimmed or lost."""
    luck = script.dice.under(1 << 40)
    for number in range(3):
        script.actions.append(Action(script.at + 0.1 * script.dice.roll(), "write value", number, luck))
    for _ in range(3):
        script.add(0.1 + 0.6 * script.dice.roll(), script.dice.pick(("purge", "purge", "lose ledger")), script.one)
    for number in range(8):
        script.actions.append(Action(script.at + 0.6 + 0.15 * number, "read value", number, luck))


def many_keys(script: _Script) -> None:
    """A process hears nothing while others write more keys than the ledger keeps."""
    lucks = [script.dice.under(1 << 40) for _ in range(6)]
    for luck in lucks:
        script.actions.append(Action(script.at, "read value", script.one, luck))
    script.add(0.3, script.dice.pick(("deafen", "deafen", "cut")), script.one)
    for number, luck in enumerate(lucks):
        script.actions.append(Action(script.at + 0.4 + 0.02 * number, "write value", script.other, luck))
    for number, luck in enumerate(lucks * 3):
        script.actions.append(Action(script.at + 0.9 + 0.1 * number, "read value", script.one, luck))


MISHAPS: tuple[Mishap, ...] = (
    lost_history,
    new_epoch,
    barrier,
    strong,
    burst,
    soft_after_hard,
    late_joiner,
    long_fill,
    long_sleep,
    session,
    writers,
)


def mishap(dice: Dice, at: float, which: Mishap | None = None) -> list[Action]:
    """One of them, around a moment of a history."""
    script = _Script(dice, at)
    chosen = dice.pick(MISHAPS)
    (which or chosen)(script)
    return script.actions
