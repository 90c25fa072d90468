"""RabbitMQ answers some calls by ending the whole connection: that is the answer to this call, and nobody else's."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from amqp import exceptions as amqp_errors

from kombu_actors import Connection, Consumer, Producer, Queue

PATIENCE = 15.0
STREAM = Queue("stream", queue_arguments={"x-queue-type": "stream"})
PLAIN = Queue("plain")


@pytest.fixture
def connection(amqp_url: str) -> Iterator[Connection]:
    """A connection with a stream, from which ``basic.get`` is not implemented (540), and a queue."""
    with Connection(amqp_url, transport_options={"confirm_publish": True}) as connection:
        STREAM(connection).declare()
        PLAIN(connection).declare()
        yield connection


def test_a_call_that_the_broker_answers_by_ending_the_connection_raises_that_answer(connection: Connection) -> None:
    """AMQPNotImplementedError, which nobody takes for a lost connection; the next call finds the next session."""
    with pytest.raises(amqp_errors.AMQPNotImplementedError, match="540"):
        STREAM(connection).get()
    assert PLAIN(connection).get() is None
    assert connection.connect().sessions == 2


def test_a_subscription_that_is_not_implemented_is_refused_and_the_connection_lives(connection: Connection) -> None:
    """540 to basic.consume: a stream has no consumers without acks; asked for once, other consumers go on."""
    received: list[Any] = []
    with Consumer(connection, [PLAIN], on_message=received.append, no_ack=True):
        channel = connection.channel()
        channel.basic_qos(0, 10, False)
        with pytest.raises(amqp_errors.AMQPNotImplementedError, match="540"):
            Consumer(channel, [STREAM], on_message=received.append, no_ack=True).consume()
        Producer(connection).publish("m", routing_key="plain", retry=True)
        while not received:
            connection.drain_events(timeout=PATIENCE)
    assert connection.connect().sessions == 2


def test_subscriptions_made_at_the_same_moment_are_told_apart(connection: Connection) -> None:
    """The session ends over one of several that wait for consume-ok: that one is refused, the others are granted."""
    plain = [Queue(f"plain-{number}") for number in range(4)]
    for queue in plain:
        queue(connection).declare()
    channels = [connection.channel() for _ in range(5)]
    for channel in channels:
        channel.basic_qos(0, 10, False)
    received: list[Any] = []

    def subscribe(queue: Queue, channel: Any) -> BaseException | None:
        try:
            Consumer(
                channel, [queue], on_message=lambda message: received.append(message.payload), no_ack=True
            ).consume()
        except amqp_errors.ConnectionError as error:
            refusal: BaseException = error
            return refusal
        return None

    for _ in range(3):
        with ThreadPoolExecutor(5) as pool:
            first, *others = pool.map(subscribe, [STREAM, *plain], channels)
        assert isinstance(first, amqp_errors.AMQPNotImplementedError)
        assert others == [None] * 4
    producer = Producer(connection)
    for queue in plain:
        producer.publish(queue.name, routing_key=queue.name, retry=True)
    while len(received) < 4:
        connection.drain_events(timeout=PATIENCE)
    assert sorted(received) == [queue.name for queue in plain]


def test_autoretry_does_not_repeat_what_is_not_implemented(connection: Connection) -> None:
    """One session ends, not one for each retry."""
    heard: list[BaseException] = []

    def get(channel: Any) -> Any:
        return STREAM(channel).get()

    retried = connection.autoretry(get, errback=lambda error, interval: heard.append(error), max_retries=8)
    with pytest.raises(amqp_errors.AMQPNotImplementedError):
        retried()
    assert heard == []
    assert PLAIN(connection).get() is None
    assert connection.connect().sessions == 2


def test_other_calls_ride_out_the_end_of_the_session(connection: Connection) -> None:
    """Gets of other threads, publishes, declarations and a consumer: none of them hears of it."""
    answers: list[BaseException] = []
    stop = threading.Event()

    def get_stream() -> None:
        try:
            for _ in range(5):
                with pytest.raises(amqp_errors.AMQPNotImplementedError) as told:
                    STREAM(connection.channel()).get()
                answers.append(told.value)
        finally:
            stop.set()

    def others(work: Any) -> int:
        done = 0
        while not stop.is_set():
            work()
            done += 1
        return done

    received: list[Any] = []

    def collect(message: Any) -> None:
        received.append(message.payload)
        message.ack_log_error(logging.getLogger(__name__), amqp_errors.RecoverableConnectionError)

    own, declaring = connection.channel(), connection.channel()
    producer = Producer(connection.channel())
    with ThreadPoolExecutor(4) as pool, Consumer(connection, [Queue("consumed")], on_message=collect):
        working = [
            pool.submit(others, lambda: PLAIN(own).get()),
            pool.submit(others, lambda: Queue("declared")(declaring).declare()),
            pool.submit(others, lambda: producer.publish("m", routing_key="consumed", retry=True)),
        ]
        pool.submit(get_stream).result(PATIENCE)
        done = [each.result(PATIENCE) for each in working]
        while not received:
            connection.drain_events(timeout=PATIENCE)
    assert len(answers) == 5
    assert all(done)
    assert connection.connect().sessions >= 6
