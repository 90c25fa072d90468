"""What was decided about a message (ack, reject, requeue) holds, whatever becomes of the link it was to leave by."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from kombu_actors import Connection, Queue
from kombu_actors.message import Message
from tests.support.brokers import RedisNode
from tests.support.processes import wait_until
from tests.support.proxy import FaultProxy

PATIENCE = 10.0
HELD = 3


def refuse(node: RedisNode, *, begin: bool) -> None:
    """Have the server refuse writes, or take them again."""
    node.ask("CONFIG", "SET", "min-replicas-to-write", int(begin))


def holding(connection: Connection, count: int = HELD) -> list[Message]:
    """Publish some messages, and fetch them."""
    for number in range(count):
        connection.Producer().publish(number, routing_key="q", declare=[Queue("q")])
    channel = connection.channel()
    messages = [Queue("q")(channel).get() for _ in range(count)]
    return [message for message in messages if message is not None]


def bodies_left(url: str) -> list[Any]:
    """What is in the queue, or comes back to it from nobody."""
    found = []
    with Connection(url) as connection, connection.SimpleQueue("q") as queue:
        for _ in range(queue.qsize()):
            message = queue.get(timeout=PATIENCE)
            found.append(message.payload)
            message.ack()
    return found


def test_a_close_waits_for_what_was_decided_while_the_server_refuses_writes(
    redis_server: RedisNode, redis_url: str
) -> None:
    """Within its time; nothing that was acknowledged comes back."""
    connection = Connection(redis_url)
    for message in holding(connection):
        refuse(redis_server, begin=True)
        message.ack()
    threading.Timer(0.5, refuse, (redis_server,), {"begin": False}).start()
    connection.release()
    assert redis_server.ask("EXISTS", "q", "unacked", "unacked_index") == 0
    assert bodies_left(redis_url) == []


def test_a_channel_that_closes_takes_what_was_decided_along(
    redis_server: RedisNode, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Only what was not settled is given back, though the server refused both at first."""
    with Connection(redis_url) as connection:
        first, second, _ = holding(connection)
        refuse(redis_server, begin=True)
        first.ack()
        second.ack()
        wait_until(lambda: "wait: " in caplog.text, timeout=PATIENCE, waiting_for="a refusal")
        assert first.channel is not None
        closing = threading.Thread(target=first.channel.close)
        closing.start()
        refuse(redis_server, begin=False)
        closing.join()
        wait_until(lambda: redis_server.ask("LLEN", "q") == 1, timeout=PATIENCE, waiting_for="the third")
    assert bodies_left(redis_url) == [2]


def test_a_close_says_what_it_could_not_carry_out(
    redis_server: RedisNode, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """When its time is over, with how many; those messages come again."""
    connection = Connection(redis_url, transport_options={"drain_timeout": 0.3})
    messages = holding(connection)
    refuse(redis_server, begin=True)
    try:
        for message in messages:
            message.ack()
        connection.release()
    finally:
        refuse(redis_server, begin=False)
    assert f"{HELD} decisions (ack, reject, requeue) were not carried out" in caplog.text


def test_what_follows_a_decision_is_published_after_it(
    redis_server: RedisNode, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Refused or not: a requeue comes before a publish of the same channel that followed it."""
    with Connection(redis_url) as connection:
        messages = holding(connection)
        refuse(redis_server, begin=True)
        for message in messages:
            message.requeue()
        producer = connection.Producer(messages[0].channel)
        producer.publish("later", routing_key="later", declare=[])
        wait_until(lambda: "wait: " in caplog.text, timeout=PATIENCE, waiting_for="a refusal")
        seen = [0, 0]

        def published() -> bool:
            seen[:] = redis_server.ask("LLEN", "q"), redis_server.ask("LLEN", "later")
            return bool(seen[1])

        refuse(redis_server, begin=False)
        wait_until(published, timeout=PATIENCE, waiting_for="the publish")
    assert seen[0] == HELD


def reset(node: RedisNode, proxy: FaultProxy, messages: list[Message], decide: Callable[[Message], Any]) -> None:
    """The connection ends with the decisions on their way."""
    proxy.blackhole()
    for message in messages:
        decide(message)
    proxy.refuse()
    proxy.reset()
    proxy.heal()


def demote(node: RedisNode, proxy: FaultProxy, messages: list[Message], decide: Callable[[Message], Any]) -> None:
    """The server is a replica for a while."""
    node.ask("REPLICAOF", "127.0.0.1", "1")
    for message in messages:
        decide(message)
    wait_until(
        lambda: "kombu_actors:main" not in str(node.ask("CLIENT", "LIST")), timeout=PATIENCE, waiting_for="the end"
    )
    node.ask("REPLICAOF", "NO", "ONE")


@pytest.mark.parametrize("fault", [reset, demote])
def test_what_was_decided_over_a_link_that_died_is_carried_out_over_the_next(
    fault: Callable[..., None], own_redis: Callable[..., RedisNode]
) -> None:
    """What was acknowledged does not come again, what was not does; a reject makes its dead letter."""
    node = own_redis()
    proxy = FaultProxy(node.port)
    with proxy, Connection(node.url(port=proxy.port), heartbeat=2) as connection:
        dead = Queue("dead")
        queue = Queue("q", queue_arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
        for declared in (dead, queue):
            declared(connection.channel()).declare()
        for number in range(4):
            connection.Producer().publish(number, routing_key="q")
        channel = connection.channel()
        acked, rejected, requeued, kept = [queue(channel).get() for _ in range(4)]
        decisions = {id(acked): "ack", id(rejected): "reject", id(requeued): "requeue"}
        assert kept is not None
        fault(node, proxy, [acked, rejected, requeued], lambda message: getattr(message, decisions[id(message)])())
        wait_until(lambda: node.ask("LLEN", "q") == 2, timeout=PATIENCE, waiting_for="the requeued and the kept")
        wait_until(lambda: node.ask("LLEN", "dead") == 1, timeout=PATIENCE, waiting_for="the dead letter")
        channel = connection.channel()
        again = [queue(channel).get(no_ack=True) for _ in range(2)]
        assert sorted(message.payload for message in again if message is not None) == [2, 3]
        assert node.ask("EXISTS", "unacked", "unacked_index") == 0
