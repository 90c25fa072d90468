"""Claiming: how one channel's consumers get their messages.

A ``Claimer`` asks for as many messages as its channel has room for, over those of its queues where there may be
some, one script call at a time.  Where there are none the server notes it in the queue's waiting line, and it sleeps
until it is told to look there again: by an invalidation of a list it watches as a sentry, or by a word from
another claimer's script.  It never asks on the chance.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Final

import attrs
import trio

from ..._logs import get_logger
from ..._values.model import ConsumerSpec, Delivery
from ...errors import ConnectionBlocked
from ...protocols.redis import consuming_calls as calls
from ...protocols.redis.calls import Call
from ...protocols.redis.envelope import Envelope
from .listening import Sentry
from .settling import Decision

if TYPE_CHECKING:
    from .._contract import DeliverySink
    from .channel import RedisChannel
    from .deliveries import Deliveries
    from .link import RedisLink

__all__ = ["Claimer", "WireConsumer"]

logger = get_logger("kombu_actors.redis")

CLAIM_MESSAGES: Final = 250
"""Messages per claim: some 2 ms of the server's time, during which it serves nobody else."""
CLAIM_BYTES: Final = 1024 * 1024
"""Bytes per claim, for the same reason; one larger message comes alone."""
_new: Final = tuple.__new__


@attrs.define(eq=False)
class WireConsumer:
    """A consumer on the wire."""

    spec: ConsumerSpec
    sink: DeliverySink
    on_cancel: Callable[[], None]
    quorum: bool = False
    """Its queue counts deliveries."""


class Lines:
    """What one claimer knows of its queues.  What none of the sets has is neither asked for nor waited for."""

    def __init__(self) -> None:
        self.hot: set[str] = set()
        """There may be something: to be asked for when there is room."""
        self.waiting: set[str] = set()
        """In the server's lines: it will say when there is something, and counts on us to come."""
        self.lingering: set[str] = set()
        """In the line, with the server told that we have no room: nobody else waits there."""
        self.unreadable: set[str] = set()
        """To be tried along with the next claim."""

    def forget(self, queue: str) -> None:
        """Nobody consumes from it any more."""
        for queues in (self.hot, self.waiting, self.lingering, self.unreadable):
            queues.discard(queue)

    def woken(self, queue: str) -> None:
        """The server says that there is something."""
        if queue in self.lingering:
            self.lingering.remove(queue)
            self.waiting.add(queue)  # somebody may have come since, and depend on us
        self.hot.add(queue)

    def returned(self) -> None:
        """There is room again."""
        self.waiting |= self.lingering
        self.lingering.clear()

    def asked(self) -> set[str]:
        """What to claim now; empty when it is all waited for."""
        return self.hot | self.unreadable if self.hot else set()


class Claimer:
    """Claims for the consumers of one channel that acknowledge, or for those that don't."""

    def __init__(self, channel: RedisChannel, deliveries: Deliveries, link: RedisLink, *, no_ack: bool) -> None:
        self.name = f"{channel.number}n" if no_ack else str(channel.number)
        self.no_ack = no_ack
        self.used = False
        """Whether the server may hold anything for it: it was asked to serve somebody."""
        self.expected = 0
        """Messages that the claim under way may bring."""
        self._channel = channel
        self._deliveries = deliveries
        self._link = link
        self._queues: dict[str, deque[WireConsumer]] = {}
        """Each queue's subscriptions, the next to be served first."""
        self._order: deque[str] = deque()
        self._lines = Lines()
        self._calling = False
        """A call is under way: the next one is made when it has been answered."""
        self._refused_before = False
        """The server takes no writes now, and that has been said."""
        self._answered = trio.Event()
        self._sentry = Sentry(self, link.listening)

    # -- who is to be served -------------------------------------------------------------------

    def subscribe(self, subscription: WireConsumer) -> None:
        """Serve one more consumer."""
        queue = subscription.spec.queue
        self._queues.setdefault(queue, deque()).append(subscription)
        if queue not in self._order:  # though its last subscription may be on its way out still
            self._order.append(queue)
            if self._link.options.queue_order_strategy == "sorted":
                self._order = deque(sorted(self._order))
        self.woken([queue])

    async def unsubscribe(self, subscription: WireConsumer) -> None:
        """Serve one consumer less, after what is being claimed for it has come.

        Cancelled, what still comes goes back.
        """
        queue = subscription.spec.queue
        subscriptions = self._queues[queue]
        if len(subscriptions) == 1:
            self._strike(queue)
        try:
            while self.expected and self._channel.closed is None:
                self._answered = trio.Event()
                await self._answered.wait()
        finally:
            if subscription in subscriptions:
                subscriptions.remove(subscription)
            if not subscriptions:
                self._queues.pop(queue, None)

    def queue_deleted(self, queue: str) -> None:
        """Serve the consumers of a queue no longer: it is gone."""
        if self._queues.pop(queue, ()):
            self._strike(queue)

    def _strike(self, queue: str) -> None:
        if queue in self._order:
            self._order.remove(queue)
        self._lines.forget(queue)
        self._sentry.forget(queue)

    def stop(self) -> None:
        """Serve nobody: the channel is dead."""
        self._queues.clear()
        self._order.clear()
        self._lines = Lines()
        self._answered.set()
        self._sentry.end()

    # -- asking --------------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """How many messages may come."""
        if self._link.paused:
            return 0
        return CLAIM_MESSAGES if self.no_ack else self._deliveries.room - self.expected

    def woken(self, queues: Iterable[str]) -> None:
        """Somebody says that there may be something in these."""
        for queue in queues:
            if queue in self._queues:
                self._lines.woken(queue)
        self.look()

    def look(self) -> None:
        """Claim what there is room for, now or when the call under way has been answered."""
        if self._calling or self._channel.closed is not None:
            return
        if self.room <= 0:
            if self._lines.waiting:  # room for one more comes within the moment, mostly
                self._link.keeper.look_later(self)
            return
        self._lines.returned()
        asked = self._lines.asked()
        queues = [queue for queue in self._order if queue in asked]
        if queues:
            self._claim(queues, min(self.room, CLAIM_MESSAGES))

    def look_now(self) -> None:
        """``look``, and if there is no room still, say so where others may wait."""
        if self.room <= 0 and not self._calling:
            self._leave_lines()
        else:
            self.look()

    def _claim(self, queues: list[str], count: int) -> None:
        self.expected = count
        self._calling = True
        self._lines.hot.difference_update(queues)
        round_robin = self._link.options.queue_order_strategy == "round_robin"
        call = self._call(queues, count, share=round_robin)
        if round_robin:
            self._order.rotate(-1 - self._order.index(queues[0]))
        self._link.settling.settle_now()
        self._link.submit(call, partial(self._claimed, queues), partial(self._failed, queues))

    def _call(self, queues: list[str], count: int, *, share: bool = False) -> Call[calls.Claimed]:
        names = [queue.encode() for queue in queues]
        return calls.claim(self.name, names, count, limit=CLAIM_BYTES, no_ack=self.no_ack, share=share)

    def _leave_lines(self) -> None:
        """There is no room for what it waits for: others are to be woken in its place."""
        queues = list(self._lines.waiting)
        if not queues:
            return
        self._calling = True
        self._lines.waiting.clear()
        self._link.submit(self._call(queues, 0), partial(self._left, queues), partial(self._failed, queues))

    def _left(self, queues: list[str], left: calls.Claimed) -> None:
        self._calling = False
        self._link.settling.attend(left.deaths, left.next_timer)
        lingering = {queues[index - 1] for index in left.sentry_for}
        for queue in queues:
            if queue in lingering and queue in self._queues:
                self._lines.lingering.add(queue)
            elif queue in self._queues:
                self._lines.hot.add(queue)
        self.look()

    def _failed(self, queues: list[str], error: BaseException) -> None:
        self.expected = 0
        self._calling = False
        self._answered.set()
        if isinstance(error, ConnectionBlocked) and self._channel.closed is None:
            if not self._refused_before:
                logger.warning("%s: consumers of channel %s wait: %s", self._link.name, self.name, error)
            self._refused_before = self._calling = True
            self._link.postpone(partial(self._try_again, queues))
        else:
            self._channel.die(error)

    def _try_again(self, queues: list[str]) -> None:
        self._calling = False
        self.woken(queues)

    def _claimed(self, queues: list[str], claimed: calls.Claimed) -> None:
        self.expected = 0
        self._calling = self._refused_before = False
        self._link.settling.attend(claimed.deaths, claimed.next_timer, no_ack=self.no_ack)
        if claimed.messages:
            self._deliver(queues, claimed.messages)
        self._answered.set()
        if self._channel.closed is not None:
            return
        self._note_lines(queues, claimed)
        self.look()

    def _note_lines(self, queues: list[str], claimed: calls.Claimed) -> None:
        """Take down where the claim has left us, for those queues that are still consumed from."""
        lines = self._lines
        unreadable = {queues[index - 1] for index in claimed.unreadable}
        watched = {queues[index - 1] for index in claimed.sentry_for}
        self._sentry.served({queues[index - 1] for index, _, _ in claimed.messages})
        for queue in queues:
            if queue not in self._order:
                continue
            self._sentry.leave(queue)
            lines.unreadable.discard(queue)
            lines.waiting.discard(queue)
            if queue in unreadable:
                lines.unreadable.add(queue)
            elif claimed.line is calls.Line.AWAY:
                lines.hot.add(queue)
            else:
                lines.waiting.add(queue)
            if queue in watched and queue in lines.waiting:
                self._sentry.watch(queue, self._link.layout.list_keys(queue))

    def _deliver(self, queues: list[str], messages: Sequence[tuple[int, int, bytes]]) -> None:
        batch: list[tuple[WireConsumer, Delivery]] = []
        homeless: list[int] = []
        for index, claim, raw in messages:
            queue = queues[index - 1]
            subscriptions = self._queues.get(queue)
            if subscriptions is None:
                homeless.append(claim)
                continue
            subscription = subscriptions[0]
            envelope = self._link.settling.decoded(queue, claim, raw, counted=subscription.quorum)
            if envelope is None or self._link.settling.turned_away(queue, claim, envelope):
                continue
            if len(subscriptions) > 1:
                subscriptions.rotate(-1)
            batch.append((subscription, delivery(subscription.spec.tag, self._deliveries.add(claim), envelope)))
        if homeless and not self.no_ack:
            self._link.settling.settle(Decision.REQUEUE, homeless)
        hand_over(batch)


def delivery(consumer: str, tag: int, envelope: Envelope) -> Delivery:
    """One message as its consumer sees it."""
    return _new(
        Delivery,
        (
            consumer,
            tag,
            envelope.redelivered,
            envelope.exchange,
            envelope.routing_key,
            envelope.properties,
            envelope.body,
        ),
    )


def hand_over(batch: list[tuple[WireConsumer, Delivery]]) -> None:
    """Give the deliveries to their consumers, in order."""
    for subscription, group in groupby(batch, key=lambda pair: pair[0]):
        subscription.sink([delivered for _, delivered in group])
