"""What one link has to tell the server: publishes and settlements, gathered into few script calls.

Publishes leave in the order they were appended, one batch at a time: what gathers while a batch is
under way is the next batch.  So their order survives a refusal (maxmemory), and batches grow with the load.

A settlement made after publishes of the same channel waits until those have been answered: a worker
that publishes its result and then acks must not lose both.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import Enum
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

import attrs

from ..protocols.redis.preparing import PreparedMessage

if TYPE_CHECKING:
    from ._redis_channel import RedisChannel

__all__ = ["Decision", "Publish", "PublishQueue", "Settlements"]

BATCH_MESSAGES: Final = 250
"""Publishes per script call: some 2 ms of the server's time, during which it serves nobody else."""
BATCH_BYTES: Final = 1024 * 1024
"""Bytes per script call, for the same reason; one larger message goes alone."""
SETTLE_AT: Final = 64
"""Settlements that leave without waiting for more; fewer wait at most ``LATER`` (see ``_redis_link``)."""


class Decision(Enum):
    """What became of a claimed message."""

    ACK = "ack"
    REQUEUE = "requeue"
    """Back to the head of its queue."""
    DISCARD = "discard"
    """Dropped, or a dead letter."""


class Publish(NamedTuple):
    """One message on its way, with its number on its channel."""

    channel: RedisChannel
    tag: int
    prepared: PreparedMessage


class PublishQueue:
    """The publishes of one link.  Bounded by the publishers' windows above it."""

    def __init__(self) -> None:
        self.waiting: deque[Publish] = deque()
        self.under_way: list[Publish] = []
        self.refused: str | None = None
        """The server's reason for taking none now."""

    @property
    def ready(self) -> bool:
        """Whether a batch may leave."""
        return bool(self.waiting) and not self.under_way and self.refused is None

    def take(self) -> Sequence[Publish]:
        """Begin the next batch."""
        size = count = 0
        for publish in islice(self.waiting, BATCH_MESSAGES):
            size += publish.prepared.size
            if count and size > BATCH_BYTES:
                break
            count += 1
        popleft = self.waiting.popleft
        self.under_way = [popleft() for _ in range(count)]
        return self.under_way

    def refuse(self, reason: str) -> None:
        """The batch under way was refused whole: nothing of it is stored.  It waits to be sent again."""
        self.refused = reason
        self.waiting.extendleft(reversed(self.under_way))
        self.under_way = []

    def answered(self) -> list[Publish]:
        """The batch under way has been answered: hand it over."""
        batch, self.under_way = self.under_way, []
        self.refused = None
        return batch

    def drop(self, channel: RedisChannel) -> None:
        """Forget what a dead channel has not sent; its publisher sends it again on the next one."""
        self.waiting = deque(publish for publish in self.waiting if publish.channel is not channel)

    def withdraw(self, channel: RedisChannel, prepared: PreparedMessage) -> bool:
        """Forget one publish, unless it is under way."""
        for index, publish in enumerate(self.waiting):
            if publish.prepared is prepared and publish.channel is channel:
                del self.waiting[index]
                return True
        return False

    def holds(self, channel: RedisChannel) -> bool:
        """Whether a channel has publishes without an answer."""
        return any(publish.channel is channel for publish in (*self.under_way, *self.waiting))


@attrs.define(eq=False)
class Settlements:
    """Claims decided upon, by their numbers.  Bounded by the prefetch limits of the channels."""

    _decided: dict[Decision, list[int]] = attrs.field(factory=lambda: {decision: [] for decision in Decision})
    count: int = 0

    @property
    def full(self) -> bool:
        """Whether they are enough to leave at once."""
        return self.count >= SETTLE_AT

    def add(self, decision: Decision, claims: Sequence[int]) -> None:
        """Note what was decided about some claims."""
        self._decided[decision].extend(claims)
        self.count += len(claims)

    def take(self) -> tuple[list[int], list[int], list[int]]:
        """What has gathered: acks, requeues, discards."""
        acks, requeues, discards = (self._decided[decision] for decision in Decision)
        self._decided = {decision: [] for decision in Decision}
        self.count = 0
        return acks, requeues, discards
