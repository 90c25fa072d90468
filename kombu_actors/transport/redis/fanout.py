"""Broadcasts: what consumers of fanout-bound queues get over Pub/Sub.

Pub/Sub has no memory.  A broadcast that arrives is kept here, within a bound (``backlog``), until a consumer of
its queue has room; what is published while nobody listens is lost, and the loss of a session is reported
as a gap by whoever subscribes again (``actors.channel``).  Queues bound with ``durable_fanout`` get
theirs through their lists, like any other message; only what stock kombu publishes, which knows no such
queues, arrives here and is put into the list.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import attrs
import trio

from ..._logs import get_logger
from ...protocols.redis.consuming_calls import Topic
from ...protocols.redis.envelope import UndecodableEnvelope, decode
from .._oversized import report_oversized
from .adopting import Adopting
from .backlog import BACKLOG_BYTES, Backlog, Heard, OnDropped
from .claims import WireConsumer, delivery

if TYPE_CHECKING:
    from .channel import RedisChannel
    from .link import RedisLink

__all__ = ["Broadcast", "Fanout"]

logger = get_logger("kombu_actors.redis")

LEFTOVER_BYTES: Final = 4 * BACKLOG_BYTES
"""Bytes that a dead link leaves to the next one at most, over all queues."""


@attrs.define(eq=False)
class Broadcast:
    """One broadcast out with a consumer; nobody else has it."""

    queue: BroadcastQueue
    heard: Heard

    def give_back(self) -> None:
        """It was not handled: the next consumer of its queue gets it."""
        envelope = attrs.evolve(self.heard.envelope, redelivered=True)
        self.queue.backlog.put_back(self.heard.but(envelope=envelope))


@attrs.define(eq=False)
class BroadcastQueue:
    """A fanout-bound queue that is consumed over this link."""

    name: str
    backlog: Backlog
    durable: bool = False
    """Its list gets what is published too."""
    topics: dict[bytes, Listened] = attrs.field(factory=dict)
    """What is listened to for it, by pattern."""
    members: deque[tuple[RedisChannel, WireConsumer]] = attrs.field(factory=deque)
    watchers: dict[str, OnDropped] = attrs.field(factory=dict)
    """By consumer: who is to be told what was dropped."""

    def __attrs_post_init__(self) -> None:
        self.backlog.on_dropped = self._dropped

    def _dropped(self, since: float, until: float, count: int) -> None:
        for watcher in tuple(self.watchers.values()):
            watcher(since, until, count)

    def pump(self, link: RedisLink) -> None:
        """Deliver what consumers have room for, in turn; nothing while reading is paused."""
        idle = 0
        while self.backlog and idle < len(self.members) and not link.paused:
            channel, subscription = self.members[0]
            self.members.rotate(-1)
            if channel.closed is None and (subscription.spec.no_ack or channel.deliveries.room > 0):
                idle = 0
                heard = self.backlog.popleft()
                tag = channel.deliveries.add(0 if subscription.spec.no_ack else Broadcast(self, heard))
                subscription.sink([delivery(subscription.spec.tag, tag, heard.envelope)])
            else:
                idle += 1


@attrs.define(eq=False)
class Listened:
    """One pattern that is subscribed to, and the queues that it is subscribed to for."""

    said: trio.Event = attrs.field(factory=trio.Event)
    """Set once the server has said that it is, and when it never will."""
    queues: dict[str, BroadcastQueue] = attrs.field(factory=dict)


Leftovers = dict[str, Backlog]
"""By queue: the broadcasts that a dead link had heard and nobody has settled."""


class Fanout:
    """The subscriptions of one link.

    ``leftovers`` outlive it: what it had heard is not lost with it.
    """

    def __init__(self, link: RedisLink, leftovers: Leftovers) -> None:
        self._link = link
        self._leftovers = leftovers
        self._adopting = Adopting(link)
        self._ended = False
        self._queues: dict[str, BroadcastQueue] = {}
        self._broadcast: dict[str, BroadcastQueue] = {}
        """Those of them that may have something to deliver: of a thousand, mostly none."""
        self._listening: dict[bytes, Listened] = {}
        """By pattern."""

    def watch_gaps(self, queue: str, consumer: str, watcher: OnDropped) -> bool:
        """Whether only Pub/Sub has the broadcasts of a queue; then the watcher is told of those that are dropped."""
        found = self._queues.get(queue)
        if found is None or not found.topics or found.durable:
            return False
        found.watchers[consumer] = watcher
        return True

    async def subscribe(self, channel: RedisChannel, subscription: WireConsumer, topics: Sequence[Topic]) -> None:
        """Have a consumer get the broadcasts of its queue; returns when the server listens for them."""
        name = subscription.spec.queue
        queue = self._queues.get(name)
        if queue is None:
            left = self._leftovers.pop(name, None)
            queue = self._queues[name] = BroadcastQueue(name, left or Backlog(name))
            if left is not None:
                self._broadcast[name] = queue
        queue.members.append((channel, subscription))
        self._listen(queue, topics)
        for listened in list(queue.topics.values()):
            await listened.said.wait()

    def changed(self, name: str, topics: Sequence[Topic]) -> None:
        """The bindings of a queue have changed."""
        queue = self._queues.get(name)
        if queue is not None:
            self._listen(queue, topics)

    def _listen(self, queue: BroadcastQueue, topics: Sequence[Topic]) -> None:
        queue.durable = any(topic.durable for topic in topics)
        wanted = {pattern for topic in topics for pattern in self._link.layout.subscriptions(topic.exchange, topic.key)}
        for pattern in wanted - queue.topics.keys():
            listened = self._listening.get(pattern)
            if listened is None:
                listened = self._listening[pattern] = Listened()
                self._link.listening.subscribe("PSUBSCRIBE", pattern, partial(self._listens, pattern))
            listened.queues[queue.name] = self._broadcast[queue.name] = queue
            queue.topics[pattern] = listened
        self._listen_no_longer(queue, queue.topics.keys() - wanted)

    def _listens(self, pattern: bytes, refusal: Exception | None) -> None:
        listened = self._listening.get(pattern)
        if listened is None:
            return
        listened.said.set()
        if refusal is not None:
            del self._listening[pattern]
            for queue in list(listened.queues.values()):
                for channel, _ in tuple(queue.members):
                    channel.die(refusal)

    def _listen_no_longer(self, queue: BroadcastQueue, patterns: Collection[bytes]) -> None:
        for pattern in patterns:
            listened = queue.topics.pop(pattern)
            del listened.queues[queue.name]
            if not listened.queues and self._listening.get(pattern) is listened:  # else the server has refused it
                del self._listening[pattern]
                listened.said.set()
                self._link.listening.subscribe("PUNSUBSCRIBE", pattern)

    def unsubscribe(self, subscription: WireConsumer) -> None:
        """A consumer gets no more; the last one's queue is listened for no longer."""
        queue = self._queues.get(subscription.spec.queue)
        if queue is None or self._ended:
            return
        queue.members = deque(member for member in queue.members if member[1] is not subscription)
        queue.watchers.pop(subscription.spec.tag, None)
        if queue.members:
            return
        del self._queues[queue.name]
        self._broadcast.pop(queue.name, None)
        self._listen_no_longer(queue, list(queue.topics))

    def heard(self, pattern: bytes, raw: bytes) -> None:
        """A broadcast has come."""
        listened = self._listening.get(pattern)
        if listened is None:
            return  # it was on its way when nobody listened any more
        try:
            envelope = decode(raw)
        except UndecodableEnvelope as error:
            logger.warning("a broadcast to %r can't be decoded and is dropped: %s", pattern, error)
            return
        body_max = self._link.terms.body_max
        for queue in list(listened.queues.values()):
            if len(envelope.body) > body_max and not queue.durable:
                report_oversized(
                    len(envelope.body),
                    body_max,
                    queue=queue.name,
                    exchange=envelope.exchange,
                    routing_key=envelope.routing_key,
                )
            elif not queue.durable:
                queue.backlog.append(envelope)
                queue.pump(self._link)
            elif not envelope.ours:
                self._adopting.add(queue.name, envelope, raw)

    def pump(self) -> None:
        """Some consumer has room again."""
        for queue in self._broadcast.values():
            if queue.backlog:
                queue.pump(self._link)

    def end(self) -> None:
        """The link is dead: nobody waits for its subscriptions, and no consumer leaves its queue any more."""
        self._ended = True
        for listened in self._listening.values():
            listened.said.set()

    def keep_leftovers(self) -> None:
        """After the channels have given back what they had: keep it for the next link."""
        for name, queue in self._broadcast.items():
            queue.backlog.tell()
            if queue.backlog:
                queue.backlog.on_dropped = None
                self._leftovers[name] = queue.backlog
        # Those that nobody has asked for since the link before died come first.
        while sum(backlog.size for backlog in self._leftovers.values()) > LEFTOVER_BYTES:
            name = next(iter(self._leftovers))
            lost = self._leftovers.pop(name)
            logger.error("%d broadcasts for queue %r were dropped: its consumers have not come back", len(lost), name)
