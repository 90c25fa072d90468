"""What is out with one channel's consumers, and how much more may be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from .claims import Claimer
from .fanout import Broadcast
from .settling import Decision

if TYPE_CHECKING:
    from .channel import RedisChannel
    from .link import RedisLink

__all__ = ["Deliveries"]

REFILL_SHARE: Final = 4
"""Room for a fourth of the prefetch limit is claimed at once; for less, more is waited for (``LATER``)."""


class Deliveries:
    """One channel's deliveries, numbered from 1 (AMQP 0-9-1 delivery tags), and the claimers that bring them.

    ``settle`` takes what was decided about claims.
    """

    def __init__(self, channel: RedisChannel, link: RedisLink, settle: Callable[[Decision, list[int]], None]) -> None:
        self.limit = link.options.prefetch_limit
        """How many may be unsettled (``basic.qos``)."""
        self.claimers = (Claimer(channel, self, link, no_ack=False), Claimer(channel, self, link, no_ack=True))
        """For consumers that acknowledge, and for those that don't."""
        self._link = link
        self._settle = settle
        self.last = 0
        """The highest number so far."""
        self._unsettled: dict[int, int | Broadcast] = {}
        """By delivery tag: the claim on the server, or a broadcast that is nowhere else."""

    @property
    def room(self) -> int:
        """How many more may be unsettled."""
        return self.limit - len(self._unsettled)

    def add(self, claim: int | Broadcast) -> int:
        """Number one delivery; 0 is a claim that nobody settles."""
        self.last += 1
        if claim:
            self._unsettled[self.last] = claim
        return self.last

    def tags(self, tag: int = 0, *, multiple: bool = True) -> list[int]:
        """The unsettled ones that a settlement speaks of: ``tag``, or all up to it, 0 being the last."""
        if multiple:
            return [each for each in self._unsettled if each <= tag or not tag]
        return [tag] if tag in self._unsettled else []

    def settle(self, decision: Decision, tags: Sequence[int]) -> None:
        """Carry out what was decided about some."""
        claims: list[int] = []
        for tag in tags:
            loan = self._unsettled.pop(tag)
            if not isinstance(loan, Broadcast):
                claims.append(loan)
            elif decision is Decision.REQUEUE:
                loan.give_back()
        if claims:
            self._settle(decision, claims)
        self.refill()
        self._link.fanout.pump()

    def refill(self) -> None:
        """Claim what there is room for again: at once, or soon when it is little."""
        claimer = self.claimers[0]
        if claimer.room >= max(1, self.limit // REFILL_SHARE):
            claimer.look()
        elif claimer.room > 0:
            self._link.keeper.look_later(claimer)

    def look(self, name: str, queue: str) -> None:
        """The claimer of that name is told that there may be something in a queue."""
        for claimer in self.claimers:
            if claimer.name == name:
                claimer.woken([queue])

    def look_everywhere(self) -> None:
        """Reading pauses, or goes on after a pause."""
        for claimer in self.claimers:
            claimer.look()

    def queue_deleted(self, queue: str) -> None:
        """Claim no more from a queue that is gone."""
        for claimer in self.claimers:
            claimer.queue_deleted(queue)

    def end(self) -> None:
        """The channel is dead: broadcasts go back to their queues, claims are the server's to give back."""
        for claimer in self.claimers:
            claimer.stop()
        for loan in reversed(self._unsettled.values()):
            if isinstance(loan, Broadcast):
                loan.give_back()
        self._unsettled.clear()
