"""A lone message is written by the thread that publishes it: past the runtime, never past the rules."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kombu_actors import Connection, Producer, Queue
from kombu_actors.message import Message
from tests.support.brokers import RabbitMQNode
from tests.support.proxy import FaultProxy

ROUNDS = 400
_logger = logging.getLogger(__name__)


def _session_epoch(connection: Connection) -> int:
    return connection.connect().session.epochs


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
            asking.result(60)
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
