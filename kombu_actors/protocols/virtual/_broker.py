"""A broker without any input or output: what RabbitMQ does, as plain calls.

The driver brings the time (``advance``), random names and threads; it calls sessions' and
channels' methods, one at a time, and carries out the effects that gather in the sessions named
in ``woken``.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import attrs
from amqp.exceptions import ConnectionForced

from ._dead_letter import closes_cycle, dead_letter
from ._errors import access_refused, precondition_failed
from ._message import Message
from ._queue import Queue, Upkeep
from ._session import Session
from ._topology import Topology

MEMORY_LIMIT: Final = 1 << 30
"""One GiB of messages: a large backlog, yet far from what brings a process down."""
MESSAGE_LIMIT: Final = 1 << 27
"""RabbitMQ 3.10's max_message_size."""
ALARM_ENDS_AT: Final = 0.9
"""Share of the memory limit at which the alarm ends: lower than 1, or it would flap with every ack."""
DIRECT_REPLY_TO: Final = "amq.rabbitmq.reply-to"
"""RabbitMQ's pseudo-queue; consuming from it is not offered here, so nobody does."""
LOW_ON_MEMORY: Final = "low on memory"


@attrs.define(eq=False)
class VirtualBroker:
    """One virtual host.

    Bounds: queues by their declared limits; a queue declared without limits is unlimited, as in
    RabbitMQ; all messages together by ``memory_limit`` bytes, beyond which publishers are blocked.
    """

    virtual_host: str = "/"
    memory_limit: int = MEMORY_LIMIT
    max_message_size: int = MESSAGE_LIMIT
    epoch: float = 0.0
    """Unix time at the clock's zero, for the timestamps in ``x-death``."""
    upkeep: Upkeep = attrs.field(factory=Upkeep)
    topology: Topology = attrs.field(init=False)
    sessions: dict[Session, None] = attrs.field(factory=dict)
    woken: list[Session] = attrs.field(factory=list)
    """Sessions that got something to tell since the driver last emptied this list."""
    alarms: dict[str, str] = attrs.field(factory=dict)
    """Reasons for not reading from publishers, by who raised the alarm."""

    def __attrs_post_init__(self) -> None:
        self.topology = Topology(self.virtual_host, self.upkeep)

    @property
    def next_deadline(self) -> float:
        """When ``advance`` has work to do by itself; infinity when there is nothing planned."""
        return self.upkeep.timers.next_deadline

    @property
    def memory(self) -> int:
        """Bytes that messages hold, waiting or unacknowledged."""
        return self.upkeep.memory

    @property
    def alarm_reason(self) -> str:
        """Why publishers aren't read from, in one line; empty when they are."""
        return " & ".join(self.alarms.values())

    def advance(self, now: float) -> None:
        """Set the clock, and do what was due by then: expire messages and unused queues."""
        upkeep = self.upkeep
        upkeep.now = now
        if upkeep.timers.next_deadline > now:
            return
        while upkeep.timers.next_deadline <= now:
            for queue, purpose in upkeep.timers.due(now):
                if queue.deleted:
                    continue
                if purpose == "messages":
                    queue.expire()
                elif queue.has_outlived_use():
                    self.topology.delete_queue(queue.spec.name, None)
            self.settle()

    def open_session(self, user: str = "guest", receiver: object = None) -> Session:
        """A new client's connection; ``receiver`` is the driver's own and opaque here."""
        session = Session(self, user, receiver)
        self.sessions[session] = None
        return session

    def forget_session(self, session: Session) -> None:
        """Called by a session that closes: its exclusive queues go with it."""
        self.sessions.pop(session, None)
        for queue in [queue for queue in self.topology.queues.values() if queue.owner is session]:
            self.topology.delete_queue(queue.spec.name, None)

    def destinations(self, message: Message, session: Session) -> Iterable[Queue]:
        """The queues a publish goes to; raises what closes the publisher's channel."""
        topology = self.topology
        if message.exchange and topology.exchange(message.exchange).spec.internal:
            what = topology.exchange_named(message.exchange)
            raise access_refused(f"cannot publish to internal {what}")
        properties = message.properties
        if len(message.body) > self.max_message_size:
            raise precondition_failed(
                f"message size {len(message.body)} is larger than configured max size {self.max_message_size}"
            )
        if "user_id" in properties and properties["user_id"] != session.user:
            raise precondition_failed(
                f"user_id property set to '{properties['user_id']}' but authenticated user was '{session.user}'"
            )
        if properties.get("reply_to") == DIRECT_REPLY_TO:
            raise precondition_failed("fast reply consumer does not exist")
        return topology.route(message.exchange, message.routing_key, message.extra_keys, message.headers)

    def settle(self) -> None:
        """Finish an operation: dead-letter what was given up, watch the memory."""
        upkeep = self.upkeep
        while upkeep.letters:
            self._dead_letter(*upkeep.letters.popleft())
        if upkeep.memory > self.memory_limit:
            self.raise_alarm("memory", LOW_ON_MEMORY)
        elif "memory" in self.alarms and upkeep.memory <= self.memory_limit * ALARM_ENDS_AT:
            self.clear_alarm("memory")

    def raise_alarm(self, source: str, reason: str) -> None:
        """From now on whoever publishes is not read from any more."""
        self.alarms[source] = reason

    def clear_alarm(self, source: str) -> None:
        """End one alarm; the blocked are read from again when it was the last."""
        self.alarms.pop(source, None)
        if not self.alarms:
            for session in list(self.sessions):
                session.block(None)

    def restart(self, now: float) -> None:
        """Stop and start: connections end; only durable entities and persistent messages are left."""
        self.advance(now)
        for session in list(self.sessions):
            session.fail(
                ConnectionForced(
                    "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'", reply_code=320
                )
            )
        topology = self.topology
        for queue in list(topology.queues.values()):
            if not queue.spec.durable:
                topology.delete_queue(queue.spec.name, None)
            elif not queue.policy.quorum:
                queue.drop_transient()
        for exchange in list(topology.exchanges.values()):
            if not exchange.spec.durable and exchange.spec.name in topology.exchanges:
                topology.delete_exchange(exchange.spec.name)
        self.settle()

    def _dead_letter(self, queue: Queue, message: Message, reason: str) -> None:
        exchange = queue.policy.dead_letter_exchange
        if exchange is None or (exchange and exchange not in self.topology.exchanges):
            return
        letter = dead_letter(
            message,
            queue=queue.spec.name,
            reason=reason,
            exchange=exchange,
            routing_key=queue.policy.dead_letter_key,
            at=datetime.fromtimestamp(int(self.epoch + self.upkeep.now), UTC).replace(tzinfo=None),
        )
        for target in self.topology.route(exchange, letter.routing_key, letter.extra_keys, letter.headers):
            if not closes_cycle(letter, target.spec.name):
                target.offer(letter)
