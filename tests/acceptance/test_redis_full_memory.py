"""P6, P2 over Redis: with maxmemory reached, publishes end by their deadline, consumers go on, and nothing is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from kombu_actors import Connection, Consumer, Producer, Queue
from kombu_actors.broker import QueueSpec, open_broker
from kombu_actors.errors import ConnectionBlocked, PublishUnknown
from kombu_actors.message import Message
from tests.support.brokers import RedisNode
from tests.support.front import RedisFront
from tests.support.history import History

DEADLINE = 1.0
LATEST = 1.5
"""Seconds after which a publish with a deadline of 1 s must have ended."""
ROOM = 8 * 1024 * 1024
"""Bytes of messages that fit."""
BODY = "x" * 20_000
RETRIED = 2.0
"""Seconds after which a publish that waits has been tried again: with every beat of the lease, and some."""
CONFIRMED = {"confirm_publish": True}


def fill(node: RedisNode) -> None:
    """Let the server's memory be full."""
    node.ask("CONFIG", "SET", "maxmemory", 1)


def used(node: RedisNode) -> int:
    """Bytes of memory that the server uses."""
    return int(node.ask("INFO", "memory").split(b"used_memory:")[1].split(b"\r")[0])


def limit(node: RedisNode, room: int) -> None:
    """Let the server's memory be full after so many bytes more; negative: it is full, by as much."""
    node.ask("CONFIG", "SET", "maxmemory", used(node) + room)


def lift(node: RedisNode) -> None:
    node.ask("CONFIG", "SET", "maxmemory", 0)


@pytest.fixture
def narrow(redis_server: RedisNode, redis_url: str) -> Iterator[RedisNode]:
    """The run's server, with its memory unlimited again afterwards."""
    yield redis_server
    lift(redis_server)


def test_publishes_wait_for_room_and_end_by_their_deadline_and_all_flows_when_consumers_drain(
    narrow: RedisNode, capsys: pytest.CaptureFixture[str]
) -> None:
    """Memory fills up with messages: a publish with a 1 s deadline raises ConnectionBlocked in 1.5 s and was not
    stored; what was accepted without waiting arrives later; draining makes the room for it; nothing comes twice."""
    url = narrow.url()
    history = History()
    with Connection(url) as source, Connection(url, transport_options=CONFIRMED) as waiting, Connection(url) as other:
        trusting, strict = Producer(source), Producer(waiting)

        def publish(producer: Producer, number: int, **options: Any) -> None:
            history.attempt(number)
            producer.publish([number, BODY], routing_key="work", **options)
            history.confirm(number)

        Queue("work")(other.default_channel).declare()
        trusting.publish("to connect", routing_key="nobody")
        strict.publish("to connect", routing_key="nobody")
        ceiling, stored = used(narrow) + ROOM, 0
        while used(narrow) < ceiling:
            publish(strict, stored)
            stored += 1
        assert stored > 50
        limit(narrow, -ROOM // 4)  # what it uses goes up and down: Redis 8 frees 1.3 MB at a time
        for number in range(1000, 1003):
            started = time.monotonic()
            with pytest.raises(ConnectionBlocked, match="memory is full"):
                publish(strict, number, timeout=DEADLINE)
            assert time.monotonic() - started <= LATEST
        for number in range(2000, 2020):
            publish(trusting, number)  # accepted: the library owes their delivery

        def collect(body: Any, message: Message) -> None:
            history.receive(body[0])
            message.ack()

        with Consumer(other, [Queue("work")], callbacks=[collect], prefetch_count=10):
            drained = time.monotonic()
            while history.missing():
                other.drain_events(timeout=5)
            drained = time.monotonic() - drained
            for number in range(3000, 3100):
                publish(strict, number, timeout=RETRIED)
            while history.missing():
                other.drain_events(timeout=5)
    report = history.report()
    with capsys.disabled():
        print(f"\n  {stored} messages filled the memory; all was drained in {drained:.2f} s: {report}")
    report.check(duplicates=0)
    assert report.recovered == (), "ConnectionBlocked promises that nothing was stored"


async def test_a_native_publish_ends_by_its_deadline_and_a_subscription_goes_on(narrow: RedisNode) -> None:
    """The same in trio, with the memory full at once: ConnectionBlocked, while another connection is fed and acks, and
    a third may connect, declare and consume; a publish that waits longer than it lasts succeeds."""
    url = narrow.url()
    async with open_broker(url) as publishing, open_broker(url) as consuming:
        await publishing.declare(QueueSpec(name="native"))
        for number in range(50):
            await publishing.publish(number, routing_key="native")
        fill(narrow)
        for _ in range(2):
            with trio.fail_after(LATEST), pytest.raises(ConnectionBlocked):
                await publishing.publish("blocked", routing_key="native", timeout=DEADLINE)
        async with consuming.subscribe("native", prefetch=10) as messages:
            for number in range(25):
                with trio.fail_after(DEADLINE):
                    message = await anext(messages)
                message.ack()
                assert message.payload == number
        async with open_broker(url) as late:
            await late.declare(QueueSpec(name="native"))
            async with late.subscribe("native", prefetch=10) as messages, trio.open_nursery() as nursery:
                received: list[Any] = []
                nursery.start_soon(_publish_through, publishing)
                lifted = trio.current_time() + DEADLINE / 2
                while received[-1:] != ["after"]:
                    with trio.fail_after(DEADLINE + RETRIED):
                        message = await anext(messages)
                    received.append(message.payload)
                    message.ack()
                    if len(received) == 25:
                        await trio.sleep_until(lifted)
                        await trio.to_thread.run_sync(lift, narrow)
        assert received == [*range(25, 50), "after"]


async def _publish_through(broker: Any) -> None:
    await broker.publish("after", routing_key="native", timeout=10)


async def test_a_retry_in_vain_does_not_end_the_alarm(redis_server: RedisNode) -> None:
    """Room for nothing is found with each beat, but none for the message: who waits is told of the alarm whenever its
    deadline passes, also when that is just then; once nothing waits any more, the alarm is over."""
    said: list[str | None] = []
    tries = 0

    def substitute(command: list[bytes]) -> tuple[Any, ...] | None:
        nonlocal tries
        if command[0] == b"SCRIPT" or sum(map(len, command)) < len(BODY):
            return None
        tries += 1
        return "EVAL", "return redis.error_reply(ARGV[1])", 0, "OOM command not allowed when used memory > 'maxmemory'"

    with RedisFront(redis_server.port, substitute) as front:
        async with open_broker(f"redis://127.0.0.1:{front.port}/0") as broker:
            await broker.declare(QueueSpec(name="vain"))
            link = broker._actor.session.require_link()
            link.on_blocked(said.append)
            with pytest.raises(ConnectionBlocked):
                # Between two beats, which come each second: what is under way as its deadline passes is unknown.
                await broker.publish(BODY, routing_key="vain", timeout=2 * RETRIED + 0.5)
            assert tries > 2
            assert len(said) == 1
            over = trio.Event()
            link.on_blocked(lambda _: over.set())
            with trio.fail_after(RETRIED):
                await over.wait()
            assert said[1:] == [None]


def test_release_with_full_memory_ends_by_its_deadline_and_tells_what_is_unconfirmed(narrow: RedisNode) -> None:
    """drain_timeout=1: release() ends soon after, and names the 50 publishes it gave up; they aren't stored later."""
    connection = Connection(narrow.url(), transport_options={"drain_timeout": 1.0})
    producer = Producer(connection)
    producer.publish("before", routing_key="left", declare=[Queue("left")])
    connection.default_channel.queue_declare("left", passive=True)
    fill(narrow)
    for number in range(50):
        producer.publish(number, routing_key="left")
    started = time.monotonic()
    with pytest.raises(PublishUnknown, match=r"\b50 publishes"):
        connection.release()
    assert 1.0 <= time.monotonic() - started <= 2.5
    lift(narrow)
    narrow.wait_until_no_clients()
    assert narrow.ask("LLEN", "left") == 1


def test_a_blocked_connection_says_so(narrow: RedisNode) -> None:
    """As a broker's alarm does: the supervision tree knows the reason while it lasts, and that it is over."""
    with Connection(narrow.url(), transport_options=CONFIRMED) as connection:
        producer = Producer(connection)
        producer.publish("before", routing_key="q", declare=[Queue("q")])
        fill(narrow)
        with pytest.raises(ConnectionBlocked):
            producer.publish("during", routing_key="q", timeout=0.3)
        reason = connection.connect().blocked
        assert reason is not None
        assert "maxmemory" in reason
        lifting = threading.Timer(0.5, lift, [narrow])
        lifting.start()
        producer.publish("after", routing_key="q", timeout=10)
        assert connection.connect().blocked is None
        lifting.join()
    assert narrow.ask("LLEN", "q") == 2
