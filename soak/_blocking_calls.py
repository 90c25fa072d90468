"""Every kind of blocking call, as something to interrupt: what it does, and how to see that nothing is left broken."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, ClassVar

from kombu_actors import Connection, Exchange, Producer, Queue
from kombu_actors._bridge import leases
from kombu_actors.asynchronous import Hub
from kombu_actors.errors import StaleDelivery
from kombu_actors.message import Message
from kombu_actors.pools import ConnectionPool, ProducerPool
from kombu_actors.simple import SimpleQueue

PATIENCE = 5.0
"""Seconds for what goes on in the background after an interrupt."""


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for what the runtime does on its own; the caller's thread learns of it by looking only."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.0005)


class BlockingCall:
    """One kind.  ``act`` may be interrupted anywhere; ``check`` raises when something is not as usable as before."""

    name: ClassVar[str] = ""

    def __init__(self, url: str) -> None:
        self.url = url
        self.connection = Connection(url)
        self.connection.connect()
        self.channel = self.connection.default_channel
        self.queue = Queue(f"interrupted-{self.name}", auto_delete=False)(self.channel)
        self.queue.declare()
        self.queue.purge()
        self.trees = len(leases._leases)
        """How many connections are open, with those of others."""

    def act(self) -> None:
        """Make the call."""
        raise NotImplementedError

    def between(self) -> None:
        """What the program does between its calls."""

    def check(self) -> None:
        """Look whether the connection works, and holds nothing that nobody knows of."""
        self.queue.queue_declare(passive=True)
        tree = self.connection._runs.running()
        until(lambda: set(tree.actor.channels) == set(tree.channels), "a channel that nobody holds")
        until(lambda: len(leases._leases) <= self.trees, "a connection that nobody holds")

    def close(self) -> None:
        """Check for the last time that what was accepted has arrived; end."""
        self.connection.release()


class Declaring(BlockingCall):
    """A request and its answer."""

    name = "declare"

    def act(self) -> None:
        self.queue.queue_declare(passive=True)


class Connecting(BlockingCall):
    """A connection's whole life."""

    name = "connect, release"

    def act(self) -> None:
        with Connection(self.url) as connection:
            connection.connect()


class EnsuringAConnection(BlockingCall):
    """Dialling by hand."""

    name = "ensure_connection"

    def act(self) -> None:
        other = Connection(self.url)
        try:
            other.ensure_connection(max_retries=2)
        finally:
            other.collect()


class OpeningAChannel(BlockingCall):
    """Opening and closing."""

    name = "channel, close"

    def act(self) -> None:
        self.connection.channel().close()

    def check(self) -> None:
        super().check()
        tree = self.connection._runs.running()
        for channel in list(tree.channels.values()):
            if channel is not tree.default_channel:  # opened, and lost by who was interrupted before it had a name
                channel.close()
        until(lambda: len(tree.actor.channels) == 1, "a channel can't be closed")


class Publishing(BlockingCall):
    """Numbered messages; all that ``publish`` returned for arrive."""

    count = 1
    pause = 0.0

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.producer = Producer(self.channel)
        self.reader = self.connection.channel()
        self.accepted: set[int] = set()
        self._numbers = 0

    def act(self) -> None:
        for _ in range(self.count):
            if self.pause:
                time.sleep(self.pause)
            self._numbers += 1
            number = self._numbers
            self.producer.publish(number, routing_key=self.queue.name)
            self.accepted.add(number)

    def check(self) -> None:
        super().check()
        actor = self.channel.handle.actor
        until(lambda: not actor.publisher.under_way and actor.owner.submissions.idle, "publishes wait for nobody")
        with self.connection.Consumer([self.queue], self.reader, on_message=self._arrived, no_ack=True):
            while self.accepted:
                self.connection.drain_events(timeout=PATIENCE)

    def _arrived(self, message: Message) -> None:
        self.accepted.discard(message.payload)


class PublishingAlone(Publishing):
    """Each so long after the one before that it goes past the runtime."""

    name = "publish, lone"
    pause = 0.0002


class PublishingInALoop(Publishing):
    """With all that is submitted to the runtime."""

    name = "publish, loop"
    count = 5


class PublishingLarge(Publishing):
    """Handed over one by one."""

    name = "publish, large"

    def act(self) -> None:
        self.producer.publish("x" * 20_000, routing_key=self.queue.name)

    def check(self) -> None:
        super().check()
        self.queue.purge()


class PublishingConfirmed(BlockingCall):
    """Waiting for the outcome."""

    name = "publish, confirmed"

    def act(self) -> None:
        options = self.connection.transport_options
        try:
            options["confirm_publish"] = True
            Producer(self.channel).publish("x", routing_key=self.queue.name)
        finally:
            options["confirm_publish"] = False

    def check(self) -> None:
        super().check()
        self.queue.purge()


class Draining(BlockingCall):
    """A consumer that is allowed one message at a time: losing one would make it deaf."""

    name = "drain_events"

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.other = Producer(self.connection.channel())
        self.got: set[int] = set()
        self.sent = 0
        self.received: list[Message] = []
        self.consumer = self.connection.Consumer([self.queue], on_message=self.received.append, prefetch_count=1)
        self.consumer.consume()
        self.send()

    def between(self) -> None:
        """What is not to be interrupted: a message that was received stays the program's until it decides."""
        if self._settle():
            self.send()

    def _settle(self) -> int:
        count = len(self.received)
        while self.received:
            message = self.received.pop()
            self.got.add(message.payload)
            message.ack()
        return count

    def send(self) -> None:
        """One more message, from another channel."""
        self.sent += 1
        self.other.publish(self.sent, routing_key=self.queue.name)

    def act(self) -> None:
        self.connection.drain_events(timeout=PATIENCE)

    def check(self) -> None:
        self.send()
        self._settle()
        while len(self.got) < self.sent:
            self.connection.drain_events(timeout=PATIENCE)
            self._settle()
        super().check()
        self.send()  # for the next time


class Turning(Draining):
    """Turns of an event loop until a message is there.  On AMQP the loop reads it: the runtime's reader is paused."""

    name = "event loop, turns"

    def __init__(self, url: str) -> None:
        self.hub = Hub()
        self.sender = Connection(url)
        self.sender.connect()
        super().__init__(url)
        self.other = Producer(self.sender.default_channel)
        self.connection.register_with_event_loop(self.hub)

    def between(self) -> None:
        if self._settle():
            if self.url.startswith("amqp"):
                tree = self.connection._runs.running()
                tree.portal.post(tree.actor.pause_reading)
                self.queue.queue_declare(passive=True)  # the last that the runtime reads unasked
            self.send()

    def act(self) -> None:
        while not self.received:
            self.hub.run_once()

    def _settle(self) -> int:
        try:
            return super()._settle()
        except StaleDelivery:  # interrupted between reading and handing over: the session was lost
            return 1

    def check(self) -> None:
        tree = self.connection._runs.running()
        tree.portal.post(tree.actor.resume_reading)
        super().check()
        self.act()
        self.between()

    def close(self) -> None:
        super().close()
        self.sender.release()
        self.hub.close()


class Consuming(BlockingCall):
    """Entering and leaving a consumer."""

    name = "Consumer, enter and exit"

    def act(self) -> None:
        consumer = self.connection.Consumer([self.queue], callbacks=[print])
        try:
            with consumer:
                pass
        except BaseException:
            consumer.cancel()  # at the first instruction of __exit__ Python leaves the block without it
            raise

    def check(self) -> None:
        super().check()
        until(lambda: not self.channel.handle.actor.consumers, "a consumer that nobody holds")
        assert not self.channel.callbacks
        until(lambda: not self.queue.queue_declare(passive=True).consumer_count, "the broker keeps a consumer")


class Getting(BlockingCall):
    """``basic.get``: the message is somebody's, or in the queue."""

    name = "get"

    def act(self) -> None:
        Producer(self.channel).publish("x", routing_key=self.queue.name)
        message = self.queue.get()
        if message is not None:
            message.ack()

    def check(self) -> None:
        super().check()
        until(self._is_alone, "a message that nobody has")

    def _is_alone(self) -> bool:
        message = self.queue.get()
        if message is not None:
            message.ack()
        return message is None


class SimplyQueueing(BlockingCall):
    """``SimpleQueue``: put, get, ack; again with each consumer."""

    name = "SimpleQueue"

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.simple = SimpleQueue(self.connection, "interrupted-simple")
        self.simple.clear()
        self.received: list[Message] = []

    def act(self) -> None:
        self.simple.put("x")
        message = self.simple.get(timeout=PATIENCE)
        self.received += [message]

    def between(self) -> None:
        while self.received:
            self.received.pop().ack()

    def check(self) -> None:
        self.between()
        super().check()
        self.simple.put("last")
        while self._next() != "last":
            pass

    def _next(self) -> Any:
        message = self.simple.get(timeout=PATIENCE)
        message.ack()
        return message.payload

    def close(self) -> None:
        self.simple.close()
        super().close()


class LeavingASimpleQueue(BlockingCall):
    """``SimpleQueue.close`` gives back what it had."""

    name = "SimpleQueue, close"

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.received: list[Message] = []

    def act(self) -> None:
        simple = SimpleQueue(self.connection, "interrupted-leaving")
        try:
            with simple:
                simple.put("x")
                message = simple.get(timeout=PATIENCE)
                self.received += [message]
        except BaseException:
            simple.close()  # at the first instruction of __exit__ Python leaves the block without it
            raise

    def between(self) -> None:
        while self.received:
            self.received.pop().ack()

    def check(self) -> None:
        self.between()
        super().check()
        queue = Queue("interrupted-leaving", Exchange("interrupted-leaving"), "interrupted-leaving")(self.channel)
        queue.declare()
        until(lambda: not queue.queue_declare(passive=True).consumer_count, "the broker keeps a consumer")
        queue.purge()


class Borrowing(BlockingCall):
    """Producers from a pool: afterwards all of them can be had."""

    name = "pools"
    limit = 2

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.connections: ConnectionPool = self.connection.Pool(self.limit)
        self.producers = ProducerPool(self.connections, self.limit)

    def act(self) -> None:
        producer = self.producers.acquire(block=True, timeout=PATIENCE)
        try:
            producer.publish("x", routing_key=self.queue.name)
            producer.release()
        except BaseException:
            producer.release()
            raise

    def check(self) -> None:
        self.queue.queue_declare(passive=True)
        lent = [self.producers.acquire() for _ in range(self.limit)]
        for producer in lent:
            producer.publish("x", routing_key=self.queue.name)
            producer.release()
        assert not self.producers._dirty
        assert not self.connections._dirty or len(self.connections._dirty) <= self.limit
        until(lambda: len(leases._leases) <= self.trees + self.limit, "a connection that nobody holds")
        self.queue.purge()

    def close(self) -> None:
        self.producers.force_close_all()
        self.connections.force_close_all()
        super().close()


BLOCKING_CALLS: dict[str, type[BlockingCall]] = {
    kind.name: kind
    for kind in (
        Declaring,
        Connecting,
        EnsuringAConnection,
        OpeningAChannel,
        PublishingAlone,
        PublishingInALoop,
        PublishingLarge,
        PublishingConfirmed,
        Draining,
        Turning,
        Consuming,
        Getting,
        SimplyQueueing,
        LeavingASimpleQueue,
        Borrowing,
    )
}
