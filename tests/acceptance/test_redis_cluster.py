"""A Redis Cluster: the node that has the slot of a fleet's prefix serves it, as a server of its own would."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kombu_actors import Connection, Exchange, Queue
from kombu_actors.errors import HandshakeFailed
from kombu_actors.message import Message
from kombu_actors.transport.redis.cluster import slot_of
from tests.support.brokers import RedisNode
from tests.support.processes import wait_until
from tests.support.redis_cluster import RedisCluster

PREFIX = "{orders}."
OPTIONS: dict[str, Any] = {"global_keyprefix": PREFIX, "confirm_publish": True}
MESSAGES = 100


@pytest.fixture
def cluster(node_directory: Path) -> Iterator[RedisCluster]:
    slot = slot_of(PREFIX)
    assert slot is not None
    cluster = RedisCluster.start(Path(tempfile.mkdtemp(prefix="cluster-", dir=node_directory)), slot)
    yield cluster
    cluster.close()


def keys(node: RedisNode) -> set[bytes]:
    return {key[: len(PREFIX)] for key in node.ask("KEYS", "*")}


def receive(connection: Connection, got: list[Any], count: int) -> None:
    while len(got) < count:
        connection.drain_events(timeout=20)


@pytest.mark.slow
def test_a_fleet_works_and_goes_on_when_its_node_is_killed(cluster: RedisCluster) -> None:
    """Whichever nodes its URLs name.  Queues, exchanges, dead letters and broadcasts are on one node; when that dies,
    its replica has all that was confirmed by it, consumers go on, and what one held comes back."""
    urls = [node.url() for node in cluster.primaries]
    dead = Queue("dead", Exchange("dlx", "direct"), "a.c")
    topic = Queue("topic", Exchange("t", "topic"), "a.#", queue_arguments={"x-dead-letter-exchange": "dlx"})
    heard = Queue("heard", Exchange("news", "fanout"), auto_delete=True)
    got: list[Any] = []

    def handle(body: Any, message: Message) -> None:
        got.append(body)
        message.ack()

    options = {**OPTIONS, "confirm_replicas": 1, "lease": 3}
    with (
        Connection(urls, transport_options=options) as publishing,
        Connection(urls[::-1], transport_options=options) as consuming,
    ):
        producer = publishing.Producer()
        dead(publishing.default_channel).declare()
        with consuming.Consumer([topic, heard], callbacks=[handle]):
            producer.publish("matched", exchange="t", routing_key="a.b", priority=9)
            producer.publish("all", exchange="news")
            receive(consuming, got, 2)
        assert sorted(got) == ["all", "matched"]
        producer.publish("rejected", exchange="t", routing_key="a.c")
        rejected = topic(consuming.default_channel).get()
        assert rejected is not None
        rejected.reject()
        with consuming.Consumer([dead], callbacks=[handle]):
            receive(consuming, got, 3)
        assert [keys(node) for node in cluster.primaries if node is not cluster.owner] == [set(), set()]
        assert keys(cluster.owner) == {PREFIX.encode()}

        got.clear()
        for number in range(MESSAGES):
            producer.publish(number, exchange="t", routing_key="a.b")
        with consuming.Consumer([topic], callbacks=[handle], prefetch_count=10):
            receive(consuming, got, MESSAGES // 4)
            cluster.owner.kill9()
            with Connection(urls, transport_options=OPTIONS) as later:  # no replica is left to confirm anything
                later.Producer().publish(MESSAGES, exchange="t", routing_key="a.b", timeout=30)
            while set(got) < set(range(MESSAGES + 1)):
                consuming.drain_events(timeout=20)
        assert keys(cluster.replica) == {PREFIX.encode()}


def test_keys_in_many_slots_are_refused(cluster: RedisCluster) -> None:
    """At the connect, with the option that puts them into one."""
    for prefix in ("", "orders.", "{}orders."):
        with (
            pytest.raises(HandshakeFailed, match=r"global_keyprefix, e\.g\. '\{orders\}\.'"),
            Connection(cluster.owner.url(), transport_options={"global_keyprefix": prefix}) as connection,
        ):
            connection.connect()


def test_slots_are_those_of_the_server(cluster: RedisCluster) -> None:
    """CRC16 of what is between the first brace and the next closing one."""
    for prefix in ("{orders}.", "a{b}c{d}", "{{x}.", "{ü}"):
        assert slot_of(prefix) == cluster.owner.ask("CLUSTER", "KEYSLOT", f"{prefix}queue")
    assert [slot_of(prefix) for prefix in ("", "{}", "{}{a}", "{a", "a}")] == [None] * 5


@pytest.mark.slow
def test_a_slot_that_moves_is_followed(cluster: RedisCluster) -> None:
    """``CLUSTER FAILOVER``: the node lives and has our keys no longer; publishing and consuming go on at the other."""
    url, queue = cluster.primaries[0].url(), Queue("q")
    got: list[Any] = []

    def handle(body: Any, message: Message) -> None:
        got.append(body)
        message.ack()

    with (
        Connection(url, transport_options=OPTIONS) as publishing,
        Connection(url, transport_options=OPTIONS) as consuming,
        consuming.Consumer([queue], callbacks=[handle]),
    ):
        for number in range(20):
            if number == 10:
                assert cluster.replica.ask("CLUSTER", "FAILOVER") == b"OK"
            publishing.Producer().publish(number, routing_key="q", timeout=20)
        while set(got) < set(range(20)):
            consuming.drain_events(timeout=20)
    wait_until(lambda: keys(cluster.replica) == {PREFIX.encode()}, timeout=10, waiting_for="the replica to take over")
