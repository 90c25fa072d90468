"""A channel's actor, as threads see it: how publishes and settlements leave a thread, and what is asked in the runtime.

What threads hand over goes alone and at once, or with all that others hand over to the runtime.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from .._values.model import Action, ConsumerSpec, Delivery, Outcome, QoS
from ..actors.channel import ChannelActor, Epoch
from ..actors.connection import ConnectionActor
from ..actors.consumer import DesiredConsumer
from ..actors.outcomes import Receipt, outcome_error, too_late, unconfirmed
from ..actors.publisher import WINDOW_BYTES, WINDOW_MESSAGES
from ..actors.sending import send, wait_outcome
from ..actors.topology_calls import TopologyCalls
from ..errors import ConnectionLost, DeadlineExceeded, StaleDelivery
from ..protocols.ledger import Entry
from .bells import new_bell
from .ensuring import in_ensure
from .feeds import Arrival, ChannelNotice, Feed
from .forking import start_afresh_after_fork
from .inbox import Addressee, Inbox
from .leaving import Leaving
from .portal import Portal
from .refusals import Refusals

if TYPE_CHECKING:
    from ..transport._contract import DeliverySink

__all__ = ["ChannelHandle", "DesiredConsumer", "TopologyCalls"]

T = TypeVar("T")
LONE_AFTER = 0.0001
"""Seconds of silence after which a publish counts as alone: above the pace of any loop (~10 us), below a
round trip to the broker (~150 us), so that asking and answering goes past the runtime."""
LARGE = WINDOW_BYTES // WINDOW_MESSAGES
"""Bytes above which a publish is handed over by itself: bounds what is submitted in bytes, too."""
AT_HAND = 0.5
"""Seconds that a publish's own thread waits for the outcome, which a broker tells in milliseconds.  Then it asks the
runtime to, which keeps the deadline, and has more to say: that it has ended, for one."""
TAG_MAX = 2**64 - 1
"""AMQP's delivery tags have 64 bits."""


class ChannelHandle:
    """One channel, in any thread.  What is ``async`` here is to be awaited in the runtime.

    Publishes and settlements that come in a row are submitted: the runtime takes them in batches.
    What comes alone is written by the calling thread itself, when nothing waits before it: that
    spares a lone message the waking of the runtime.  Large publishes are handed over one by one.
    """

    __slots__ = (
        "__weakref__",
        "_inbox",
        "_last_publish",
        "_leaving",
        "_losses",
        "_owner",
        "_prefetch_set",
        "actor",
        "epoch",
        "names",
        "number",
        "portal",
        "topology_calls",
    )

    def __init__(self, portal: Portal, inbox: Inbox, owner: ConnectionActor, actor: ChannelActor) -> None:
        self.portal = portal
        self.actor = actor
        self.number = actor.number
        self.names = owner.topology.names
        """The names of the connection's queues that the broker names, in this session and before."""
        self.topology_calls = owner.topology_calls
        self.epoch: Epoch | None = actor.live
        """The channel's present life, None while it is not open; set in the runtime."""
        actor.on_epoch = self._enter
        self._owner = owner
        self._leaving = Leaving(portal, owner, actor)
        self._inbox = inbox
        self._last_publish = 0.0
        self._prefetch_set = False
        self._losses: Addressee | None = None
        start_afresh_after_fork(self)

    def _enter(self, epoch: Epoch | None) -> None:
        self.epoch = epoch
        if epoch is None and self._losses is not None:
            self._inbox.put(self._losses, [()])

    def start_afresh(self) -> None:
        """In a forked child: the channel is the parent's."""
        self.epoch = None

    @property
    def failure(self) -> BaseException | None:
        """Why supervision gave the channel, or its connection, up; None while it keeps them."""
        return self._owner.failure or self.actor.failure

    @property
    def is_open(self) -> bool:
        """Whether it is open, or being opened for the first time, with nothing in its way."""
        return self.epoch is not None or self.actor.is_opening

    @property
    def has_qos(self) -> bool:
        """Whether anybody has bounded what may be unacknowledged."""
        return self._prefetch_set or self.actor.qos is not None

    def set_prefetch(self, count: int) -> None:
        """Bound what may be unacknowledged of consumers that are subscribed from now on.  Never waits."""
        self._prefetch_set = True
        self.portal.queue(self.actor.set_prefetch, count)  # those consumers come with a call that is posted

    def check_reopening(self, where: str) -> None:
        """Raise why the channel can't be opened at this moment; ``where`` is the broker's address."""
        link = self._owner.session.link
        if link is None or link.closed is not None:
            raise ConnectionLost(
                f"{where} is not connected at the moment (supervision is reconnecting); "
                "nothing was sent. Publish with retry=True to wait for it"
            )
        self.actor.check_obstacle()

    def report(self, returns: Addressee, refusals: Refusals) -> None:
        """Put what the broker returns into the inbox under ``returns``, and what nobody waits for into ``refusals``."""
        inbox = self._inbox
        self.actor.publisher.on_returned = lambda message: inbox.put(returns, [message])
        self.actor.publisher.on_refused = refusals.put

    def report_losses(self, losses: Addressee) -> None:
        """Put ``()`` into the inbox under ``losses`` at the end of each epoch, after all that came in it."""
        self._losses = losses

    def report_names(self, queue: str, notice: ChannelNotice) -> None:
        """Put ``(name, 0, 0)`` into the inbox under ``notice`` whenever the broker gives a queue another name."""
        inbox = self._inbox
        self.names.watch(queue, lambda name: inbox.put(notice, [(name, 0, 0)]))

    # Publishing

    def publish(self, entry: Entry, timeout: float) -> None:
        """Have one publish accepted; waits, at most ``timeout`` seconds, only when the window is full.

        Raises:
            ValueError: it can't be sent within the limits agreed on with the broker; nothing was accepted.
            DeadlineExceeded, ConnectionBlocked: the window stayed full: the broker confirms nothing.
        """
        publisher = self.actor.publisher
        publisher.check(entry)
        try:
            if entry.size > LARGE:
                self.portal.call(self._accept, entry, timeout=timeout)
                return
            if len(self._leaving.submissions.waiting) + publisher.under_way >= WINDOW_MESSAGES:
                self.portal.call(publisher.wait_half_empty, timeout=timeout)
        except DeadlineExceeded:
            raise too_late(entry, timeout, publisher.blocked_because()) from None
        if not self._left_alone(entry):
            self._leaving.submit(entry)

    def _left_alone(self, entry: Entry) -> bool:
        """Write a publish past the runtime, if it comes alone."""
        now = monotonic()
        alone, self._last_publish = now - self._last_publish > LONE_AFTER, now
        free = alone and self._leaving.submissions.idle
        return free and self._leaving.write(partial(self.actor.publisher.publish_now, entry))

    def _sent(self, entry: Entry, receipt: Receipt) -> bool:
        """Write a publish past the runtime, for somebody who is going to wait for its receipt: the broker has it by the
        time that the runtime hears of it."""
        publisher = self.actor.publisher
        publisher.check(entry)
        if entry.size > LARGE or not publisher.has_room() or self.portal.interrupted_past():
            return False
        entry.watcher = receipt.note
        try:
            sent = self._left_alone(entry)
        except BaseException:
            entry.watcher = None  # it was published or not, as if nobody had wanted to wait
            raise
        if not sent:
            entry.watcher = None
        return sent

    def _wait_outcome(self, entry: Entry, receipt: Receipt, timeout: float) -> None:
        """Wait for what ``_sent`` has sent: here, for the outcome is rung for; in the runtime, when that takes long."""
        bell = new_bell()
        receipt.on_outcome = bell.ring
        began = monotonic()
        if receipt.outcome is None:
            bell.wait(min(timeout, AT_HAND))
        if receipt.outcome is None:
            left = max(timeout - (monotonic() - began), 0.0)
            self.portal.call(wait_outcome, self.actor.publisher, entry, receipt, left, timeout=None)
            return
        result, detail = receipt.outcome
        if result is not Outcome.CONFIRMED:
            raise outcome_error(entry, result, detail)

    def send(self, entry: Entry, timeout: float) -> None:
        """Publish and wait for the outcome; see ``sending.send``.

        Inside an ensured function the wait ends with the session: what follows is the function's caller's to say.
        """
        publisher = self.actor.publisher
        if not in_ensure():
            receipt = Receipt()
            if not self._sent(entry, receipt):
                self.portal.call(send, publisher, entry, timeout, timeout=None)
                return
            try:
                self._wait_outcome(entry, receipt, timeout)
            except BaseException:
                receipt.leave(entry)
                raise
            return
        try:
            self.portal.call(self._owner.session.call, partial(send, publisher, entry, timeout), timeout=None)
        except ConnectionLost as lost:
            if not entry.attempted:
                raise
            raise unconfirmed(entry) from lost

    # Settling

    def settle(self, action: Action, tag: object, flag: bool, *, alone: bool = False) -> None:
        """Hand over one ack, reject or requeue, ``alone`` when no other is to be expected soon.  Never waits.

        ``flag`` is *multiple*, for REJECT it is *requeue*.

        Raises:
            StaleDelivery: the delivery came in a former epoch; nothing was sent, the broker delivers it again.
            ValueError: that is no delivery tag.
        """
        if not isinstance(tag, int) or not 0 <= tag <= TAG_MAX:
            raise ValueError(f"a delivery tag is a number from 0 to {TAG_MAX}, not {tag!r:.80}")
        epoch = self.epoch
        if epoch is None or 0 < tag <= epoch.tag_offset:
            raise StaleDelivery(
                f"delivery {tag} came over channel {self.number} before it was lost; "
                "nothing was sent, the broker delivers the message again"
            )
        if tag:  # 0 is all of them, in any epoch
            tag -= epoch.tag_offset
        if not (
            alone
            and action is Action.ACK
            and self._leaving.submissions.idle
            and self._leaving.write(partial(epoch.wire.ack_now, tag, multiple=flag))
        ):
            self._leaving.submit((epoch, action, tag, flag))

    def give_back(self, arrival: Arrival) -> None:
        """Requeue a delivery that no callback has had; a former epoch's comes again by itself."""
        if arrival.epoch is self.epoch:
            self._leaving.submit((arrival.epoch, Action.REQUEUE, arrival.delivery.delivery_tag, False))

    async def _accept(self, entry: Entry) -> None:
        publisher = self.actor.publisher
        await publisher.wait_room()
        publisher.accept(entry)

    # Consuming

    def subscription(self, spec: ConsumerSpec, on_cancel: ChannelNotice | None) -> DesiredConsumer:
        """A consumer, to be subscribed: what it is sent comes into the inbox under feeds, one for each epoch.

        ``on_cancel`` gets ``(tag,)`` when the broker has ended the subscription.
        """
        number, inbox = self.number, self._inbox
        cancelled = partial(inbox.put, on_cancel, [(spec.tag,)]) if on_cancel is not None else None

        def sink(epoch: Epoch) -> DeliverySink:
            return partial(inbox.put_deliveries, Feed(number, spec.tag, spec.no_ack, epoch))

        return DesiredConsumer(spec, sink, cancelled)

    def consumes(self, tag: str) -> bool:
        """Whether a consumer of that tag is wished for."""
        return tag in self.actor.consumers

    def wishes_for(self, consumer: DesiredConsumer) -> bool:
        """Whether that very consumer is wished for."""
        return self.actor.consumers.get(consumer.spec.tag) is consumer

    def withdraw(self, tag: str) -> list[tuple[Feed, Delivery]]:
        """Take out of the inbox what came for a consumer and nobody has taken."""
        return self._inbox.withdraw(Feed, lambda feed: (feed.channel, feed.tag) == (self.number, tag))

    # Awaited in the runtime

    async def subscribe(self, consumers: Sequence[DesiredConsumer], granted: set[DesiredConsumer]) -> None:
        """Subscribe one after the other (``Consumers.add``); ``granted`` has those that are, whatever is raised."""
        for consumer in consumers:
            await self._owner.consumers.add(self.actor, consumer)
            granted.add(consumer)

    async def unsubscribe(self, tag: str) -> None:
        """Wish for a consumer no more, and wait for cancel-ok."""
        await self._owner.consumers.remove(self.actor, tag)

    async def set_qos(self, qos: QoS) -> None:
        """Bound what may be unacknowledged, in this epoch and all later ones."""
        if not self.actor.has_been_open:
            await self.wait_open()  # else a refusal would be said to nobody, and met at each attempt to open it
        await self.actor.set_qos(qos)

    async def get(self, queue: str, no_ack: bool, got: list[tuple[Arrival, int]]) -> None:
        """Take one message out of a queue, found in ``got`` then with how many are left, also by who is interrupted."""
        actor = self.actor

        async def get(epoch: Epoch) -> None:
            answer = await epoch.wire.get(self.names.current(queue), no_ack=no_ack)
            if answer is not None:
                got.append((Arrival(answer[0], epoch), answer[1]))

        await self._owner.after_publishes(partial(self._owner.on_wire, actor, get), actor)

    async def recover(self, requeue: bool) -> None:
        """Have the broker deliver all unsettled messages again."""
        await self._owner.on_wire(self.actor, lambda epoch: epoch.wire.recover(requeue=requeue))

    async def flow(self, active: bool) -> None:
        """Ask the broker to pause or resume deliveries."""
        await self._owner.on_wire(self.actor, lambda epoch: epoch.wire.flow(active))

    async def wait_open(self) -> None:
        """Wait until the channel is open."""
        await self._owner.on_wire(self.actor, _is_open)

    async def after_publishes(self, declare: Callable[[], Awaitable[T]]) -> T:
        """Make a call that must find what was published before it, over any channel."""
        return await self._owner.after_publishes(declare)

    async def close(self) -> None:
        """Hand out what was published, and close the channel."""
        self._leaving.submissions.take_in()
        await self.actor.publisher.wait_empty()
        await self._owner.close_channel(self.actor)


async def _is_open(epoch: Epoch) -> None:
    """Being called is all that is asked."""
