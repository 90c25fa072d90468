"""Pools, simple queues and the tools of ``common``: the documented behaviour, on both libraries."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from queue import Empty
from typing import Any

import pytest

from .libraries import Library


def test_a_simple_queue_puts_and_gets(lib: Library, connection: Any, name: str) -> None:
    """In order; empty is an exception, now or after a timeout; messages are acknowledged by hand."""
    with connection.SimpleQueue(name) as queue:
        queue.put({"a": 1})
        queue.put("two", compression="zlib", headers={"h": 1})
        assert queue.qsize() == len(queue) == 2
        first = queue.get(timeout=5)
        assert first.payload == {"a": 1}
        first.ack()
        second = queue.get(block=True, timeout=5)
        assert (second.payload, second.headers["h"]) == ("two", 1)
        second.ack()
        with pytest.raises(queue.Empty):
            queue.get(timeout=0.1)
        with pytest.raises(Empty):
            queue.get_nowait()
    with connection.SimpleQueue(name) as queue:
        queue.put("three")
        waits = connection.as_uri().startswith("redis")
        assert queue.clear() == lib.either("abandoned-brpop", kombu=0 if waits else 1, actors=1)


def test_a_simple_buffer_forgets(lib: Library, connection: Any, name: str) -> None:
    """Transient, without acknowledgements."""
    with connection.SimpleBuffer(name) as buffer:
        buffer.put(1)
        assert buffer.get(timeout=5).payload == 1
        assert buffer.no_ack


def test_a_pool_lends_so_many_connections(lib: Library, connection: Any) -> None:
    """And takes them back."""
    pool = connection.Pool(2)
    one, two = pool.acquire(), pool.acquire()
    assert one is not two
    exceeded = lib.module("exceptions").ConnectionLimitExceeded
    with pytest.raises(exceeded):
        pool.acquire()
    one.release()
    with pool.acquire(block=True, timeout=5) as three:
        three.connect()
        assert three.connected
    two.release()
    pool.force_close_all()


def test_a_channel_pool_lends_so_many_channels(lib: Library, connection: Any) -> None:
    """Of one connection."""
    pool = connection.ChannelPool(2)
    one, _ = pool.acquire(), pool.acquire()
    with pytest.raises(lib.module("exceptions").ChannelLimitExceeded):
        pool.acquire()
    one.release()
    assert pool.acquire() is not None
    pool.force_close_all()


def test_eventloop_drains_until_it_is_quiet(lib: Library, connection: Any, name: str) -> None:
    """``common.eventloop`` with a limit and a timeout that it passes over."""
    common = lib.module("common")
    queue = lib.Queue(name, auto_delete=True)
    got: list[Any] = []
    with connection.Consumer(queue, callbacks=[lambda body, message: got.append(body)], no_ack=True):
        connection.Producer().publish("x", routing_key=name)
        for _ in common.eventloop(connection, limit=2, timeout=0.5, ignore_timeouts=True):
            pass
    assert got == ["x"]


def test_itermessages_and_drain_consumer_give_what_is_there(lib: Library, connection: Any, name: str) -> None:
    """In order, up to the limit or until it is quiet."""
    common, queue = lib.module("common"), lib.Queue(name, durable=True)
    publish = connection.Producer(routing_key=name).publish
    queue(connection).declare()
    for number in range(3):
        publish(number)
    messages = []
    with connection.channel() as channel:
        for _, message in common.itermessages(connection, channel, queue, limit=3, timeout=5):
            message.ack()
            messages.append(message)
    assert [message.payload for message in messages] == [0, 1, 2]
    for number in range(3):
        publish(number)
    consumer = connection.Consumer(queue, connection.channel(), no_ack=True)
    assert [body for body, _ in common.drain_consumer(consumer, limit=3, timeout=5)] == [0, 1, 2]
    queue(connection).delete()


def test_replies_are_sent_and_collected(lib: Library, connection: Any, name: str) -> None:
    """``send_reply`` to the sender's ``reply_to``; ``collect_replies`` takes all of them, and acknowledges."""
    common = lib.module("common")
    requests, answers = lib.Queue(name, durable=True), lib.Queue(f"{name}-answers", auto_delete=True)
    producer = connection.Producer()
    producer.publish(2, routing_key=name, reply_to=answers.name, correlation_id="one", declare=[requests, answers])
    request = requests(connection).get()
    for power in (1, 2, 3):
        common.send_reply(lib.Exchange(""), request, request.payload**power, producer)
    request.ack()
    heard: list[Any] = []
    replies = common.collect_replies(
        connection, connection.channel(), answers, limit=3, timeout=5, callbacks=[lambda _, m: heard.append(m)]
    )
    assert list(replies) == [2, 4, 8]
    assert {message.properties["correlation_id"] for message in heard} == {"one"}
    requests(connection).delete()


def test_a_broadcast_reaches_everybody(lib: Library, url: str, connect: Callable[..., Any], name: str) -> None:
    """Who consumes has a queue of its own, which goes when it stops."""
    common = lib.module("common")
    got: list[tuple[str, Any]] = []
    listeners = {each: connect(url) for each in "ab"}
    with ExitStack() as consuming:
        for each, connection in listeners.items():

            def take(body: Any, message: Any, each: str = each) -> None:
                got.append((each, body))
                assert (message.delivery_info["exchange"], message.delivery_info["routing_key"]) == (name, "")
                message.ack()

            consumer = connection.Consumer([common.Broadcast(name)], callbacks=[take])
            consuming.enter_context(consumer)
            with suppress(TimeoutError):
                connection.drain_events(timeout=0.05)  # kombu subscribes to Redis's channels when it first waits
        connect(url).Producer(exchange=lib.Exchange(name, "fanout")).publish("hello")
        for each, connection in listeners.items():
            while (each, "hello") not in got:
                connection.drain_events(timeout=5)
    assert sorted(got) == [("a", "hello"), ("b", "hello")]


def test_a_mixin_worker_answers_a_mixin_client(lib: Library, url: str, connect: Callable[..., Any], name: str) -> None:
    """``ConsumerProducerMixin``: requests from one queue, replies to the asker's own auto-delete queue."""
    requests = lib.Queue(name, auto_delete=True)
    ready = threading.Event()

    class Worker(lib.module("mixins").ConsumerProducerMixin):  # type: ignore[misc]
        def __init__(self, connection: Any) -> None:
            self.connection = connection

        def get_consumers(self, Consumer: Any, channel: Any) -> list[Any]:
            return [Consumer([requests], callbacks=[self.on_request], prefetch_count=1)]

        def on_consume_ready(self, *args: Any, **kwargs: Any) -> None:
            ready.set()

        def on_request(self, body: Any, message: Any) -> None:
            self.producer.publish(
                body**2,
                exchange="",
                routing_key=message.properties["reply_to"],
                correlation_id=message.properties["correlation_id"],
                retry=True,
            )
            message.ack()

    worker = Worker(connect(url))
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        assert ready.wait(10)
        connection = connect(url)
        answers: dict[str, Any] = {}
        replies = lib.Queue(exclusive=True, auto_delete=True)
        replies(connection.default_channel)

        def on_answer(body: Any, message: Any) -> None:
            answers[message.properties["correlation_id"]] = body
            message.ack()

        with connection.Consumer(replies, callbacks=[on_answer]) as consumer:
            address = consumer.queues[0].name
            producer = connection.Producer()
            for number in range(5):
                producer.publish(number, routing_key=name, reply_to=address, correlation_id=str(number))
            while len(answers) < 5:
                connection.drain_events(timeout=5)
        assert answers == {str(number): number**2 for number in range(5)}
    finally:
        worker.should_stop = True
        thread.join(10)
    assert not thread.is_alive()


def test_the_global_pools_lend_connections_and_producers(lib: Library, connection: Any, url: str, name: str) -> None:
    """``pools.connections`` and ``pools.producers``, by what a connection goes to."""
    pools = lib.module("pools")
    queue = lib.Queue(name, durable=True)
    try:
        with pools.connections[connection].acquire(block=True, timeout=5) as lent:
            lent.connect()
            assert lent.connected
            assert lent.as_uri() == connection.as_uri()
        with pools.producers[connection].acquire(block=True, timeout=5) as producer:
            producer.publish("by way of a pool", routing_key=name, declare=[queue])
        assert pools.producers[connection.clone()] is pools.producers[connection]
        assert queue(connection).get(no_ack=True).payload == "by way of a pool"
        queue(connection).delete()
    finally:
        pools.reset()
