"""Any public object may be used from several threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kombu_actors import Connection, Producer, Queue
from kombu_actors.message import Message

THREADS = 8
EACH = 500


@pytest.fixture(params=["amqp_url", "redis_url"])
def url(request: pytest.FixtureRequest) -> str:
    """An empty RabbitMQ virtual host, an empty Redis."""
    found: str = request.getfixturevalue(request.param)
    return found


def test_eight_threads_share_one_producer_and_every_message_arrives(url: str) -> None:
    """8 x 500 publishes through one Producer: 4,000 arrive, each once, each thread's in its order."""
    queue = Queue("shared")
    arrived: list[tuple[int, int]] = []

    def collect(body: Any, message: Message) -> None:
        arrived.append((body[0], body[1]))
        message.ack()

    with Connection(url) as connection:
        producer = Producer(connection)

        def publish(thread: int) -> None:
            for number in range(EACH):
                producer.publish([thread, number], routing_key="shared", declare=[queue])

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(publish, range(THREADS)))
        with connection.Consumer([queue], callbacks=[collect], prefetch_count=100):
            while len(arrived) < THREADS * EACH:
                connection.drain_events(timeout=10)
    assert sorted(arrived) == [(thread, number) for thread in range(THREADS) for number in range(EACH)]
    for thread in range(THREADS):
        assert [number for owner, number in arrived if owner == thread] == list(range(EACH))


def test_threads_declare_get_and_publish_on_one_connection_without_disturbing_each_other(url: str) -> None:
    """Requests of many threads on one connection each get their own answer."""

    def work(number: int) -> int:
        queue = Queue(f"own-{number}")(connection.default_channel)
        got = 0
        for round_ in range(20):
            queue.queue_declare()
            connection.Producer().publish({"n": number, "round": round_}, routing_key=queue.name, declare=[queue])
            message = None
            while message is None:
                message = queue.get()
            assert message.payload == {"n": number, "round": round_}
            message.ack()
            got += 1
        return got

    with Connection(url) as connection, ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(work, range(THREADS))) == [20] * THREADS
