"""Claiming: how one channel's consumers get their messages.

A ``Claimer`` asks for as many messages as its channel has room for, over all its queues, one script
call at a time.  When the queues are empty the server notes it in their waiting lines, and it sleeps
until it is told to look again: by an invalidation of a list it watches as a sentry, or by a word from
another claimer's script.  It never asks on the chance.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Final

import attrs
import trio

from ..._values.model import ConsumerSpec, Delivery
from ...errors import ConnectionBlocked
from ...protocols.redis import consuming_calls as calls
from ...protocols.redis.envelope import Envelope
from .._contract import DeliverySink
from .settling import Decision

if TYPE_CHECKING:
    from .channel import RedisChannel
    from .deliveries import Deliveries
    from .link import RedisLink

__all__ = ["Claimer", "Subscription"]

logger = logging.getLogger("kombu_actors.redis")

CLAIM_MESSAGES: Final = 250
"""Messages per claim: some 2 ms of the server's time, during which it serves nobody else."""
CLAIM_BYTES: Final = 1024 * 1024
"""Bytes per claim, for the same reason; one larger message comes alone."""


@attrs.define(eq=False)
class Subscription:
    """A consumer on the wire."""

    spec: ConsumerSpec
    sink: DeliverySink
    on_cancel: Callable[[], None]
    quorum: bool = False
    """Its queue counts deliveries."""


class Claimer:
    """Claims for the consumers of one channel that acknowledge, or for those that don't."""

    def __init__(self, channel: RedisChannel, deliveries: Deliveries, link: RedisLink, *, no_ack: bool) -> None:
        self.name = f"{channel.number}n" if no_ack else str(channel.number)
        self.no_ack = no_ack
        self.used = False
        """Whether it ever served anybody."""
        self.expected = 0
        """Messages that the claim under way may bring."""
        self._channel = channel
        self._deliveries = deliveries
        self._link = link
        self._queues: dict[str, deque[Subscription]] = {}
        """Each queue's subscriptions, the next to be served first."""
        self._order: deque[str] = deque()
        self._look_again = False
        self._in_line = False
        """In the queues' waiting lines."""
        self._waiting = False
        """There is nothing to claim until somebody says so."""
        self._refused_before = False
        """The server takes no writes now, and that has been said."""
        self._answered = trio.Event()
        self._watched: tuple[bytes, ...] = ()

    # -- who is to be served -------------------------------------------------------------------

    def subscribe(self, subscription: Subscription) -> None:
        """Serve one more consumer."""
        self.used = True
        queue = subscription.spec.queue
        self._queues.setdefault(queue, deque()).append(subscription)
        if queue not in self._order:  # though its last subscription may be on its way out still
            self._arrange([*self._order, queue])
        self.woken()

    async def unsubscribe(self, subscription: Subscription) -> None:
        """Serve one consumer less, after what is being claimed for it has come.

        Cancelled, what still comes goes back.
        """
        queue = subscription.spec.queue
        subscriptions = self._queues[queue]
        if len(subscriptions) == 1:
            self._arrange(name for name in self._order if name != queue)
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
            self._arrange(name for name in self._order if name != queue)

    def stop(self) -> None:
        """Serve nobody: the channel is dead."""
        self._queues.clear()
        self._order.clear()
        self._answered.set()
        self._link.listening.forget(self, self._watched)
        self._watched = ()

    def _arrange(self, queues: Iterable[str]) -> None:
        ordered = list(queues)
        self._order = deque(sorted(ordered) if self._link.options.queue_order_strategy == "sorted" else ordered)

    # -- asking --------------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """How many messages may come."""
        return CLAIM_MESSAGES if self.no_ack else self._deliveries.room - self.expected

    def woken(self) -> None:
        """Somebody says that there may be something."""
        self._waiting = False
        self.look()

    def look(self) -> None:
        """Claim what there is room for, now or when the claim under way has been answered."""
        if self.expected:
            self._look_again = True
            return
        if self._waiting:
            return
        count = 0 if self._link.paused else min(self.room, CLAIM_MESSAGES)
        if count <= 0 or not self._queues:
            self._leave_lines()
            return
        self.expected = count
        queues = list(self._order)
        round_robin = self._link.options.queue_order_strategy == "round_robin"
        names = [queue.encode() for queue in queues]
        call = calls.claim(self.name, names, count, limit=CLAIM_BYTES, no_ack=self.no_ack, share=round_robin)
        if round_robin:
            self._order.rotate(-1)
        self._link.settling.settle_now()
        self._link.submit(call, partial(self._claimed, queues), self._failed)

    def _leave_lines(self) -> None:
        """There is no room for what it waits for: others are to be woken in its place."""
        if self._in_line and self._queues:
            self._in_line = False
            names = [queue.encode() for queue in self._order]
            call = calls.claim(self.name, names, 0, limit=CLAIM_BYTES, no_ack=self.no_ack)
            self._link.submit(call, lambda left: self._link.settling.attend(left.deaths, left.next_timer))

    def _failed(self, error: BaseException) -> None:
        self.expected = 0
        self._answered.set()
        if isinstance(error, ConnectionBlocked) and self._channel.closed is None:
            if not self._refused_before:
                logger.warning("%s: consumers of channel %s wait: %s", self._link.name, self.name, error)
            self._waiting = self._refused_before = True
            self._link.postpone(self.woken)
        else:
            self._channel.die(error)

    def _claimed(self, queues: list[str], claimed: calls.Claimed) -> None:
        self.expected = 0
        self._refused_before = False
        self._link.settling.attend(claimed.deaths, claimed.next_timer, no_ack=self.no_ack)
        if claimed.messages:
            self._deliver(queues, claimed.messages)
        self._answered.set()
        if self._channel.closed is not None:
            return
        again, self._look_again = self._look_again, False
        self._in_line = claimed.line is not calls.Line.AWAY
        self._waiting = self._in_line and not again
        if self._waiting and claimed.line is calls.Line.SENTRY:
            self._stand_sentry([queues[index - 1] for index in claimed.sentry_for])
        self.look()

    def _stand_sentry(self, queues: list[str]) -> None:
        """Have the server say when something is put into one of the lists."""
        layout = self._link.layout
        lists = tuple(key for queue in queues for key in layout.list_keys(queue))
        self._link.listening.forget(self, self._watched)
        self._watched = lists
        self._link.listening.watch(self, lists)

    def _deliver(self, queues: list[str], messages: Sequence[tuple[int, int, bytes]]) -> None:
        batch: list[tuple[Subscription, Delivery]] = []
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
    return Delivery(
        consumer,
        tag,
        envelope.redelivered,
        envelope.exchange,
        envelope.routing_key,
        envelope.properties,
        envelope.body,
    )


def hand_over(batch: list[tuple[Subscription, Delivery]]) -> None:
    """Give the deliveries to their consumers, in order."""
    for subscription, group in groupby(batch, key=lambda pair: pair[0]):
        subscription.sink([delivered for _, delivered in group])
