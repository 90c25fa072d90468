"""What became of each message, and what of that is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import attrs

from .kinds import DEAD, Kind, kind_of
from .shop import SIDE, WORK

SHOWN = 5


@attrs.define
class History:
    """Written by the publisher, read from the workers' diaries and the dead letters."""

    attempted: int = 0
    confirmed: set[int] = attrs.Factory(set)
    side_confirmed: set[int] = attrs.Factory(set)
    done: Counter[int] = attrs.Factory(Counter)
    side_done: Counter[int] = attrs.Factory(Counter)
    begun: Counter[tuple[int, int]] = attrs.Factory(Counter)
    """By message and attempt."""
    dead: dict[int, list[str]] = attrs.Factory(dict)
    """The reason on each dead letter, by message."""
    _read: dict[Path, int] = attrs.Factory(dict)

    def read(self, directory: Path) -> None:
        """Take in what the workers have written since the last time."""
        for path in directory.iterdir():
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                text = file.read()
            whole = text[: text.rfind(b"\n") + 1]
            self._read[path] = self._read.get(path, 0) + len(whole)
            for line in whole.decode().splitlines():
                _, what, queue, number, attempt = line.split()
                if queue == SIDE:
                    self.side_done[int(number)] += 1
                elif what == "begin":
                    self.begun[int(number), int(attempt)] += 1
                else:
                    self.done[int(number)] += 1

    def bury(self, number: int, reason: str) -> None:
        """A dead letter was found."""
        self.dead.setdefault(number, []).append(reason)

    @property
    def open(self) -> set[int]:
        """What was confirmed and is neither handled nor to be a dead letter."""
        return {number for number in self.confirmed if number not in self.done and kind_of(number) not in DEAD}

    @property
    def to_be_dead(self) -> set[int]:
        """What was confirmed and is to end as a dead letter."""
        return {number for number in self.confirmed if kind_of(number) in DEAD}

    @property
    def side_open(self) -> set[int]:
        """What was confirmed of the other queue and isn't handled."""
        return self.side_confirmed - set(self.side_done)

    @property
    def duplicates(self) -> int:
        """Handlings beyond the first of each attempt, and dead letters beyond the first of each message."""
        again = sum(times - 1 for (number, _), times in self.begun.items() if kind_of(number) is not Kind.POISON)
        return again + sum(len(reasons) - 1 for reasons in self.dead.values())

    def wrong(self, allowed: int) -> list[str]:
        """Sentences."""
        return [*self._wrong(allowed)]

    def _wrong(self, allowed: int) -> Iterator[str]:
        if self.open:
            yield f"{len(self.open)} confirmed and never handled: {_some(self.open)}"
        if self.side_open:
            yield f"{len(self.side_open)} of queue {SIDE!r} confirmed and never handled: {_some(self.side_open)}"
        missing = self.to_be_dead - set(self.dead)
        if missing:
            kinds = Counter(kind_of(number).value for number in missing)
            yield f"{len(missing)} are not among the dead letters: {_some(missing)} {dict(kinds)}"
        innocent = {number: reasons for number, reasons in self.dead.items() if kind_of(number) not in DEAD}
        if innocent:
            yield f"{len(innocent)} innocents are among the dead letters: {[*innocent.items()][:SHOWN]}"
        for number, reasons in self.dead.items():
            poison = kind_of(number) is Kind.POISON
            if any(("was in hand when the process died" in reason) is not poison for reason in reasons):
                yield f"message {number} ({kind_of(number).value}) is dead because it {reasons}"
        handled = {number for number in self.done if kind_of(number) in DEAD}
        if handled:
            yield f"{len(handled)} were handled, and could not be: {_some(handled)}"
        if self.duplicates > allowed:
            yield f"{self.duplicates} handlings were repeated; the faults explain {allowed}"

    def __str__(self) -> str:
        poison = sum(kind_of(number) is Kind.POISON for number in self.dead)
        return (
            f"{self.attempted} published, {len(self.confirmed)} confirmed, {len(self.done)} handled, "
            f"{len(self.dead)} dead ({poison} poison), {len(self.open) + len(self.side_open)} lost, "
            f"{self.duplicates} repeated"
        )


def _some(numbers: set[int]) -> str:
    return ", ".join(map(str, sorted(numbers)[:SHOWN])) + (", ..." if len(numbers) > SHOWN else "")


__all__ = ["SIDE", "WORK", "History"]
