"""Which messages were in hand when processes died, and what follows.  Pure.

A death in company says little: of ten messages in hand nine did nothing.  So a message that was in hand at all deaths
but one of those that are allowed is next run alone: if that process dies as well, it was this message.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import attrs

from .._hands import JOB, Key

DEATHS = 3
"""Two may be chance: somebody kills a worker, and kills another.  The third one happens to the message alone."""
REMEMBERED = 10_000
"""Messages whose deaths are counted; the oldest are forgotten first.  Each death adds what one process had in hand."""


@attrs.define
class Record:
    """Of one message."""

    deaths: int = 0
    condemned: str | None = None
    """Why it is dead-lettered when it comes again."""


@attrs.frozen
class Verdict:
    """What a worker is to do with a message that came again."""

    deaths: int = 0
    alone: bool = False
    """Begin it when nothing else is in hand, and nothing else meanwhile."""
    condemned: str | None = None
    """Dead-letter it, for this reason."""


class Suspects:
    """Owns the counts; they live as long as the parent."""

    def __init__(self, deaths: int = DEATHS) -> None:
        self._allowed = deaths
        self._records: OrderedDict[Key, Record] = OrderedDict()

    def died(self, in_hand: Sequence[Key], how: str) -> bool:
        """A process died with these messages in hand; ``how`` follows "it ".  Returns whether one is found guilty.

        A job is company to them: it may have been the job.  It is not counted itself, for it is nobody's to park.
        """
        found = False
        for key in in_hand:
            if key[0] == JOB:
                continue
            record = self._records.setdefault(key, Record())
            self._records.move_to_end(key)
            record.deaths += 1
            if record.deaths >= self._allowed and len(in_hand) == 1:
                times = "" if record.deaths == 1 else f", for the {_ordinal(record.deaths)} time, and alone"
                record.condemned = f"was in hand when the process died{times}: it {how}"
                found = True
        while len(self._records) > REMEMBERED:
            self._records.popitem(last=False)
        return found

    def verdict(self, key: Key) -> Verdict:
        """What is to be done with a message that came again."""
        record = self._records.get(key)
        if record is None:
            return Verdict()
        alone = record.condemned is None and record.deaths >= self._allowed - 1
        return Verdict(record.deaths, alone, record.condemned)

    def survived(self, key: Key) -> None:
        """It was in hand, and its process lives: whatever killed the others, it wasn't this."""
        self._records.pop(key, None)


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
