"""The drain certificate: what became of every message that a fleet has taken in.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import attrs

from ._tally import Tally
from .documents import CertificateDocument, QueueCountDocument

__all__ = ["Certificate", "QueueCount"]


@attrs.frozen(kw_only=True)
class QueueCount:
    """The messages of one queue: ``received`` is the sum of the five that follow, if nothing is wrong."""

    received: int
    acked: int
    """Handled, or answered."""
    retried: int
    """Put off into a delay: after a failure, or snoozed."""
    dead_lettered: int
    returned: int
    """Back in the queue, for others or for the next start: no attempt."""
    unknown: int
    """Handled, but the session had been lost before the ack: the broker delivers them again."""
    snoozed: int
    """How many of ``retried`` were snoozed."""
    unclaimed: int
    """How many replies, errors included, nobody waited for any more."""
    rejected: int = 0
    """How many of ``dead_lettered`` a handler rejected."""
    condemned: int = 0
    """How many of them were in hand when processes died."""
    undecodable: int = 0
    """How many of them could not be decoded."""
    given_up: int = 0
    """How many of them failed with an error of ``give_up_on``."""

    @classmethod
    def of(cls, tallies: Sequence[Tally | QueueCount]) -> QueueCount:
        """The sum over the consumers of one queue, or over processes."""
        names = [field.name for field in attrs.fields(cls)]
        return cls(**{name: sum(getattr(tally, name) for tally in tallies) for name in names})

    def to_dict(self) -> QueueCountDocument:
        """JSON-able."""
        return cast(QueueCountDocument, attrs.asdict(self))

    @property
    def missing(self) -> int:
        """How many messages nothing is known of: 0, or there is a bug."""
        return self.received - self.acked - self.retried - self.dead_lettered - self.returned - self.unknown


@attrs.frozen(kw_only=True)
class Certificate:
    """What a run of a fleet leaves behind."""

    fleet: str
    began_at: float
    ended_at: float
    """Both in seconds since 1970."""
    cold: bool
    """Whether handlers were cancelled: after ``drain_timeout``, or by a second signal.  Their messages are returned."""
    queues: Mapping[str, QueueCount]
    deaths: int = 0
    """How many processes died.  Of theirs it counts what they had told, as of a second before; what they had in hand
    then is unknown."""

    @property
    def balanced(self) -> bool:
        """Whether each message received is accounted for."""
        return all(count.missing == 0 for count in self.queues.values())

    def to_dict(self) -> CertificateDocument:
        """JSON-able."""
        return {
            "fleet": self.fleet,
            "began_at": self.began_at,
            "ended_at": self.ended_at,
            "cold": self.cold,
            "balanced": self.balanced,
            "deaths": self.deaths,
            "queues": {name: count.to_dict() for name, count in self.queues.items()},
        }

    def __str__(self) -> str:
        how = "cold" if self.cold else "drained"
        parts = [f"fleet {self.fleet!r} {how}"]
        if self.deaths:
            parts.append(f"{self.deaths} process(es) died")
        for name, count in self.queues.items():
            what = [f"{value} {word.replace('_', '-')}" for word, value in _outcomes(count).items() if value]
            text = f"{name}: {count.received} received" + (f" = {' + '.join(what)}" if what else "")
            parts.append(text if not count.missing else f"{text} + {count.missing} MISSING")
        return "; ".join(parts)


def _outcomes(count: QueueCount) -> dict[str, int]:
    names = ("acked", "retried", "dead_lettered", "returned", "unknown")
    return {name: getattr(count, name) for name in names}
