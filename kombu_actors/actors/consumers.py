"""Who consumes over a connection: consumers join the desired state, leave it, and what they leave behind is settled."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import trio

from .._logs import get_logger
from ..errors import ConnectionLost
from ..supervisors._interrupts import protected
from .children import Children
from .consumer import DesiredConsumer, child_id
from .session import Session
from .topology import Topology
from .topology_calls import TopologyCalls

if TYPE_CHECKING:
    from .channel import ChannelActor

__all__ = ["Consumers"]

logger = get_logger("kombu_actors.connection")


@protected
class Consumers:
    """The consumers of one connection, to those that add some and take some away."""

    def __init__(self, children: Children, session: Session, topology: Topology, calls: TopologyCalls) -> None:
        self._children = children
        self._session = session
        self._topology = topology
        self._topology_calls = calls

    async def add(self, channel: ChannelActor, consumer: DesiredConsumer) -> None:
        """Add a consumer to the desired state and wait for its first consume-ok.

        Raises the broker's refusal (``NotFound``, ``AccessRefused``, ``ResourceLocked``); then nothing is left behind.
        """
        tag = consumer.spec.tag
        if tag in channel.consumers:
            raise ValueError(f"consumer tag {tag!r} is already in use on channel {channel.number}; cancel it first")
        known = self._topology.names.known(consumer.spec.queue)  # other names are forgotten after a while
        consumer.spec = consumer.spec.under(known)
        refusals: list[BaseException] = []
        parent = f"channels/{channel.id}/consumers"
        channel.consumers[tag] = consumer
        try:
            with trio.CancelScope() as waiting:

                def refused(error: BaseException) -> None:
                    refusals.append(error)
                    waiting.cancel()

                # Heard from the consumer itself: when the channel is restarting just now, its
                # supervisor starts it, and would try again what the caller must be told.
                consumer.on_refused = refused
                await self._children.start(parent, channel.consumer_spec(consumer))
        except BaseException:
            channel.consumers.pop(tag, None)
            self._children.forget(parent, consumer.id)
            raise
        finally:
            consumer.on_refused = None
        if refusals:
            self._children.forget(parent, consumer.id)
            raise refusals[0]
        self._topology.consumer_came(consumer.spec.queue)

    async def remove(self, channel: ChannelActor, tag: str) -> None:
        """Take a consumer out of the desired state; returns after cancel-ok."""
        consumer = channel.consumers.pop(tag, None)
        left = [] if consumer is None else self.leave(consumer)
        await self._children.stop(f"channels/{channel.id}/consumers", child_id(tag))  # also what a cancelled call began
        await self.settle_queues(left)

    async def wait_subscribed(self, channel: ChannelActor, consumer: DesiredConsumer) -> None:
        """Wait until a consumer of the desired state is subscribed in the present session."""
        path = f"channels/{channel.id}/consumers/{consumer.id}"
        while (epoch := consumer.subscribed) is None or epoch.wire.closed is not None:
            if channel.failure is not None:
                raise channel.failure
            await trio.lowlevel.checkpoint()  # its actor hears of its channel's death a moment after us
            await self._children.wait_ready(path)

    def leave(self, *consumers: DesiredConsumer) -> list[str]:
        """Note that the program wants them no more; returns their queues, for ``settle_queues``."""
        restoring = [consumer.spec.queue for consumer in consumers if consumer.subscribed is None]
        for consumer in consumers:
            self._topology.consumer_left(consumer.spec.queue)
        self._topology.unended.update(queue for queue in restoring if self._topology.is_dormant(queue))
        return [consumer.spec.queue for consumer in consumers]

    async def settle_queues(self, queues: Sequence[str]) -> None:
        """Finish what was being restored for consumers that have left: nobody else would.

        Auto-delete queues that they never got to consume from are deleted, others that had gone are made again.
        Without a session that is left to the next one.
        """
        for queue in queues:
            if queue in self._topology.unended:
                settle = self._topology_calls.end_unused
            elif self._topology_calls.is_doubtful(queue):
                settle = self._topology_calls.restore_queue
            else:
                continue
            try:
                await self._session.call(partial(settle, queue))
            except ConnectionLost as lost:
                logger.debug("queue %r is left to the next session: %r", queue, lost)
