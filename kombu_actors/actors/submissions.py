"""What threads hand over to a connection's channels, on its way into the runtime.

One queue for all channels: of a thousand that acknowledge a message each, the runtime is rung for once.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING

from .._values.model import Action
from ..protocols.ledger import Entry

if TYPE_CHECKING:
    from .channel import ChannelActor, Epoch

__all__ = ["Settlement", "Submissions"]

logger = logging.getLogger("kombu_actors.channel")

Settlement = tuple["Epoch", Action, int, bool]
"""(epoch, action, wire tag, flag): the flag is *multiple*, for REJECT it is *requeue*."""


class Submissions:
    """Publishes and settlements in the order in which they were handed over."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[ChannelActor, Entry | Settlement]] = deque()
        """Any thread adds to it.  Bounded by the windows of the channels that publish, and by the prefetch."""
        self.posted = False
        """Whether the runtime has been told of them; set by who adds, before it tells."""
        self._taking = False

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way.  Any thread.

        The order of the questions is the opposite of the order in which ``take_in`` answers them.
        """
        return not self.posted and not self._taking and not self.waiting

    def take_in(self) -> None:
        """Carry out what is there, each channel's in order.

        A publish followed by an ack goes out in that order: a worker that publishes its result
        and then acks must not lose both.
        """
        self._taking = True
        self.posted = False
        waiting = self.waiting
        publishing: ChannelActor | None = None
        entries: list[Entry] = []
        late: list[tuple[ChannelActor, BaseException]] = []
        try:
            while waiting:
                channel, item = waiting.popleft()
                if entries and (channel is not publishing or not isinstance(item, Entry)):
                    assert publishing is not None
                    batch, entries = entries, []
                    publishing.publisher.accept(*batch)
                if isinstance(item, Entry):
                    publishing = channel
                    entries.append(item)
                    continue
                died = _settle(item)
                if died is not None:
                    late.append((channel, died))
        finally:
            if entries and publishing is not None:
                publishing.publisher.accept(*entries)
            self._taking = False
        if late:
            _say(late)


def _settle(settlement: Settlement) -> BaseException | None:
    """Ack, nack or reject; dropped when the delivery's epoch has died: returns of what."""
    epoch, action, tag, flag = settlement
    wire = epoch.wire
    if action is Action.ACK and wire.closed is None:
        wire.ack(tag, multiple=flag)
        return None
    if wire.closed is not None:
        return wire.closed
    if action is Action.REJECT:
        wire.reject(tag, requeue=flag)
    else:
        wire.nack(tag, multiple=flag, requeue=action is Action.REQUEUE)
    return None


def _say(late: list[tuple[ChannelActor, BaseException]]) -> None:
    numbers = sorted({channel.number for channel, _ in late})
    logger.warning(
        "%s: %d decisions (ack, reject, requeue) came too late, their messages are delivered again: %s",
        f"channel {numbers[0]}" if len(numbers) == 1 else f"{len(numbers)} channels, the first of them {numbers[0]}",
        len(late),
        late[-1][1],
    )
