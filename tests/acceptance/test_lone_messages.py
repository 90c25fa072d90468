"""A lone message is written by the thread that publishes it: past the runtime, never past the rules."""

from __future__ import annotations

import gc
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import pytest
from amqp.exceptions import NotFound

from kombu_actors import Connection, Producer, Queue
from kombu_actors._values.model import Sent
from kombu_actors.actors.publisher import Publisher
from kombu_actors.errors import PublishReturned
from kombu_actors.message import Message
from kombu_actors.protocols.ledger import Entry
from kombu_actors.transport.amqp.channel import AMQPChannel
from tests.support.brokers import RabbitMQNode
from tests.support.proxy import FaultProxy

ROUNDS = 400
HANG = 110.0
"""Seconds after which something hangs.  A round takes 20 ms on an idle machine, and 150 where three threads of this
process, which hand the interpreter on every 5 ms, share a core with others."""
_logger = logging.getLogger(__name__)


def _session_epoch(connection: Connection) -> int:
    return connection.connect().sessions


def test_lone_and_streaming_publishers_share_a_channel_without_disorder(rabbitmq: RabbitMQNode, vhost: str) -> None:
    """One thread asks and waits for its own answer, 400 times, while another publishes in a loop on the same
    channel: each thread's messages arrive once and in order, every confirm finds its publish, nothing is lost."""
    with Connection(rabbitmq.url(vhost=vhost)) as connection, Connection(rabbitmq.url(vhost=vhost)) as reading:
        producer = Producer(connection)
        lone, stream = Queue("lone"), Queue("stream")
        lone(connection.default_channel).declare()
        stream(connection.default_channel).declare()
        echoed: list[int] = []
        done = threading.Event()

        def echo(body: Any, message: Message) -> None:
            echoed.append(body)
            message.ack()

        def ask() -> None:
            with reading.Consumer([lone], callbacks=[echo], prefetch_count=1):
                for number in range(ROUNDS):
                    producer.publish(number, routing_key="lone")
                    while len(echoed) <= number:
                        reading.drain_events(timeout=10)
            done.set()

        def pour() -> int:
            number = 0
            while not done.is_set():
                producer.publish(number, routing_key="stream")
                number += 1
            return number

        with ThreadPoolExecutor(2) as pool:
            asking, pouring = pool.submit(ask), pool.submit(pour)
            asking.result(HANG)
            poured = pouring.result(10)
        assert echoed == list(range(ROUNDS))
        channel = connection.default_channel
        assert _session_epoch(connection) == 1, "no protocol error may have ended a session"
        received: list[int] = []

        def receive(body: Any, message: Message) -> None:
            received.append(body)
            message.ack()

        with connection.Consumer([stream], callbacks=[receive], prefetch_count=200):
            while len(received) < poured:
                connection.drain_events(timeout=10)
        assert received == list(range(poured))
        assert channel.is_open


def test_lone_publishes_survive_resets_of_the_connection(
    rabbitmq: RabbitMQNode, vhost: str, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    """Asked and answered one by one, with the connection reset every 40 rounds: nothing is lost, and an answer
    is never taken for another's."""
    proxy = fault_proxy(rabbitmq.port)
    got: list[int] = []

    def handle(body: Any, message: Message) -> None:
        got.append(body)
        message.ack_log_error(_logger, connection.connection_errors)

    with Connection(rabbitmq.url(vhost=vhost, port=proxy.port)) as connection:
        producer = Producer(connection)
        queue = Queue("survivors")
        with connection.Consumer([queue], callbacks=[handle], prefetch_count=10):
            for number in range(200):
                if number % 40 == 20:
                    proxy.reset()
                producer.publish(number, routing_key="survivors", retry=True)
                while number not in got:
                    connection.drain_events(timeout=10)
    assert sorted(set(got)) == list(range(200))
    firsts = list(dict.fromkeys(got))
    assert firsts == sorted(firsts)


def test_a_lone_publish_that_is_waited_for_is_written_by_its_thread_and_hears_its_outcome(
    rabbitmq: RabbitMQNode, vhost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Confirmed, returned, or refused with its channel; whatever came before the next one is asked for."""
    sent: list[Sent] = []
    publish_now = Publisher.publish_now

    def count(publisher: Publisher, entry: Entry) -> Sent:
        sent.append(publish_now(publisher, entry))
        return sent[-1]

    monkeypatch.setattr(Publisher, "publish_now", count)
    with Connection(rabbitmq.url(vhost=vhost), transport_options={"confirm_publish": True}) as connection:
        queue = Queue("confirmed")(connection.default_channel)
        queue.declare()
        producer = Producer(connection)
        for round in range(10):
            producer.publish(round, routing_key="confirmed")
            assert queue.queue_declare(passive=True).message_count == round + 1
            with pytest.raises(PublishReturned):
                producer.publish(round, routing_key="nowhere", mandatory=True)
        assert sent.count(Sent.ALL) >= 10, "nothing stood in the way of a lone publish"
        with pytest.raises(NotFound, match="no exchange 'missing'"):
            producer.publish("lost", exchange="missing")
        producer.publish("still", routing_key="confirmed")
        assert queue.queue_declare(passive=True).message_count == 11


class Interrupted(Exception):
    """What the signal handler raises."""


@contextmanager
def interrupting() -> Iterator[list[int]]:
    """A timer whose handler raises where a thread sends by itself, and nowhere else; the list counts how often."""
    interrupts = [0]

    def handle(signum: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code in (Publisher.publish_now.__code__, AMQPChannel.ack_now.__code__):
                interrupts[0] += 1
                raise Interrupted
            frame = frame.f_back

    # Python drops what is raised in a finalizer, and pytest tells of it: no finalizers of others' garbage in here.
    gc.collect()
    gc.disable()
    former = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 1e-4, 1.7e-4)
    try:
        yield interrupts
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
        gc.enable()


@pytest.mark.parametrize("confirm", [False, True])
def test_an_interrupt_at_any_moment_of_a_lone_publish_or_ack_leaves_everything_usable(
    rabbitmq: RabbitMQNode, vhost: str, confirm: bool
) -> None:
    """A handler raises at arbitrary instants of 1,200 publishes and their acks: each publish that returned arrives
    once and in order, an interrupted one once or not at all; every confirm finds its publish, in the first session."""
    returned: list[int] = []
    got: list[int] = []
    with Connection(rabbitmq.url(vhost=vhost), transport_options={"confirm_publish": confirm}) as connection:
        producer = Producer(connection)
        queue = Queue("interrupted")(connection.default_channel)
        queue.declare()

        def handle(body: Any, message: Message) -> None:
            got.append(body)
            message.ack()

        with connection.Consumer([queue], callbacks=[handle], prefetch_count=0):
            with interrupting() as interrupts:
                for number in range(ROUNDS * 3):
                    with suppress(Interrupted):
                        producer.publish(number, routing_key="interrupted")
                        returned.append(number)
                        while number not in got[-10:]:
                            connection.drain_events(timeout=10)
            producer.publish(-1, routing_key="interrupted")
            while not got or got[-1] != -1:
                connection.drain_events(timeout=10)
        assert _session_epoch(connection) == 1
        received = got[:-1]
        assert received == sorted(set(received)), "a message came twice, or out of order"
        assert set(returned) <= set(received)
        assert interrupts[0] > ROUNDS // 10, f"only {interrupts[0]} interrupts found their mark"
        print(f"\n{interrupts[0]} interrupts, {len(set(range(ROUNDS * 3)) - set(returned))} of publishes")
    # Leaving the block is content: every confirm has found its publish.
