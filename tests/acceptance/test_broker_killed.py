"""P1: what `publish` has accepted reaches the broker, though the broker is killed and killed again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from kombu_actors import Connection, Consumer, Exchange, Producer, Queue
from kombu_actors.message import Message
from tests.support.brokers import RabbitMQNode
from tests.support.history import History

MESSAGES = 20_000
KILLS = 3
WINDOW = 4096
"""What may be under way at a kill and is sent again: the bound of the duplicates on the publishing side."""
PREFETCH = 200
logger = logging.getLogger(__name__)


class Loop(threading.Thread):
    """A thread whose failure fails the test."""

    def __init__(self, run: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._run_once = run
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._run_once()
        except BaseException as error:
            self.error = error

    def finish(self, timeout: float) -> None:
        self.join(timeout)
        if self.error is not None:
            raise self.error
        assert not self.is_alive(), "the thread did not end by its deadline"


@pytest.mark.slow
def test_nothing_is_lost_while_the_broker_is_killed_three_times(
    own_rabbitmq: Callable[..., RabbitMQNode], capsys: pytest.CaptureFixture[str]
) -> None:
    """20,000 persistent messages, `retry=True` in a plain loop, 3 x kill -9: lost = 0, and the consumer
    goes on by itself: its caller only drains events."""
    node = own_rabbitmq()
    queue = Queue("orders", Exchange("orders", "direct"), routing_key="order")
    history = History()
    consuming, all_received, at_kill = threading.Event(), threading.Event(), threading.Semaphore(0)

    def consume() -> None:
        with Connection(node.url()) as connection:

            def handle(body: Any, message: Message) -> None:
                history.receive(body["id"])
                message.ack_log_error(logger, connection.connection_errors)
                history.handle(body["id"])

            with Consumer(connection, [queue], callbacks=[handle], prefetch_count=PREFETCH):
                consuming.set()
                while not all_received.is_set():
                    try:
                        connection.drain_events(timeout=0.5)
                    except TimeoutError:
                        continue

    def publish() -> None:
        kill_at = {MESSAGES * (2 * kill + 1) // (2 * KILLS + 1) for kill in range(KILLS)}
        with Connection(node.url()) as connection:
            producer = Producer(connection, exchange=queue.exchange, routing_key="order")
            for number in range(MESSAGES):
                history.attempt(number)
                producer.publish({"id": number, "text": "x" * 80}, retry=True, declare=[queue])
                if number in kill_at:
                    at_kill.release()
        # Leaving the block without an exception means: every one of them was confirmed.
        for number in range(MESSAGES):
            history.confirm(number)

    consumer, publisher = Loop(consume), Loop(publish)
    consumer.start()
    assert consuming.wait(20)
    publisher.start()
    for _ in range(KILLS):
        assert at_kill.acquire(timeout=60)
        node.kill9()
        node.start()
    publisher.finish(120)
    while history.missing():
        consumer.join(0.1)
        assert consumer.is_alive(), consumer.error
    all_received.set()
    consumer.finish(20)

    report = history.report()
    with capsys.disabled():
        print(f"\n  broker killed {KILLS} times: {report}")
    report.check(duplicates=KILLS * (WINDOW + PREFETCH))
    assert report.attempted == report.confirmed == MESSAGES
