"""What threads hand over to a connection's channels, on its way into the runtime.

One queue for all channels: of a thousand that acknowledge a message each, the runtime is rung for once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .._logs import get_logger
from .._values.model import Action
from ..protocols.ledger import Entry

if TYPE_CHECKING:
    from .channel import ChannelActor, Epoch

__all__ = ["Settlement", "Submissions"]

logger = get_logger("kombu_actors.channel")

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
        late: list[tuple[ChannelActor, BaseException]] = []
        try:
            while self.waiting:
                channel, item = self.waiting.popleft()
                if isinstance(item, Entry):
                    channel.publisher.accept(item, *self._take_publishes(channel))
                    continue
                epoch, action, tag, flag = item
                tags = self._take_acks(epoch, tag) if action is Action.ACK and not flag else [tag]
                if epoch.wire.closed is not None:  # the broker delivers them again
                    late += [(channel, epoch.wire.closed)] * len(tags)
                elif len(tags) > 1:
                    epoch.wire.ack_each(tags)
                elif action is Action.ACK:
                    epoch.wire.ack(tag, multiple=flag)
                elif action is Action.REJECT:
                    epoch.wire.reject(tag, requeue=flag)
                else:
                    epoch.wire.nack(tag, multiple=flag, requeue=action is Action.REQUEUE)
        finally:
            self._taking = False
        if late:
            _say(late)

    def _take_publishes(self, channel: ChannelActor) -> Iterator[Entry]:
        """Take what comes next, as far as it is a channel's publishes."""
        waiting = self.waiting
        while waiting:
            whose, item = waiting[0]
            if whose is not channel or not isinstance(item, Entry):
                return
            waiting.popleft()
            yield item

    def _take_acks(self, epoch: Epoch, tag: int) -> list[int]:
        """An ack's tag, and those of what comes next, as far as it is the same epoch's acks of one delivery each."""
        tags, waiting = [tag], self.waiting
        while waiting:
            item = waiting[0][1]
            if isinstance(item, Entry):
                break
            whose, action, tag, flag = item
            if whose is not epoch or action is not Action.ACK or flag:
                break
            waiting.popleft()
            tags.append(tag)
        return tags


def _say(late: list[tuple[ChannelActor, BaseException]]) -> None:
    numbers = sorted({channel.number for channel, _ in late})
    logger.warning(
        "%s: %d decisions (ack, reject, requeue) came too late, their messages are delivered again: %s",
        f"channel {numbers[0]}" if len(numbers) == 1 else f"{len(numbers)} channels, the first of them {numbers[0]}",
        len(late),
        late[-1][1],
    )
