"""What is Redis's own: both libraries on an empty database, side by side."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from time import monotonic, sleep
from typing import Any

import amqp
import pytest

from tests.support.brokers import RedisNode, free_port
from tests.support.proxy import FaultProxy

from .libraries import Library


@pytest.fixture
def url(redis_url: str) -> str:
    """An empty database of the run's Redis server."""
    return redis_url


@pytest.fixture
def dead_url() -> str:
    """Where nobody listens."""
    return f"redis://127.0.0.1:{free_port()}/0"


def declared(lib: Library, connection: Any, name: str, **options: Any) -> Any:
    """A queue that exists."""
    queue = lib.Queue(name, **options)(connection)
    queue.declare()
    return queue


def code_of(error: amqp.AMQPError) -> int:
    """kombu's virtual transports write it as text."""
    return int(error.reply_code)


# Messages


def test_a_message_says_what_celery_reads(lib: Library, connection: Any, name: str) -> None:
    """Its priority, where it was published, whether it came before; and what each library adds."""
    queue = declared(lib, connection, name)
    connection.Producer().publish({"a": 1}, routing_key=name, priority=5, correlation_id="c", headers={"h": 1})
    connection.Producer().publish({"a": 2}, routing_key=name, priority=9)
    first, second = queue.get(), queue.get()
    assert (first.properties["priority"], second.properties["priority"]) == (5, 9)
    assert (first.properties["correlation_id"], first.properties["delivery_mode"]) == ("c", 2)
    assert (first.delivery_info["exchange"], first.delivery_info["routing_key"]) == ("", name)
    transports_own = {"delivery_info", "body_encoding", "delivery_tag"}
    as_on_amqp = {"content_type", "content_encoding", "application_headers"}
    assert set(first.properties) - {"priority", "correlation_id", "delivery_mode"} == lib.either(
        "virtual-properties", kombu=transports_own, actors=as_on_amqp
    )
    assert set(first.delivery_info) - {"exchange", "routing_key"} == lib.either(
        "virtual-properties", kombu=set(), actors={"delivery_tag", "redelivered", "message_count"}
    )
    assert isinstance(first.delivery_tag, lib.either("virtual-properties", kombu=str, actors=int))
    second.ack()
    first.requeue()
    again = queue.get()
    assert again.delivery_info["redelivered"] is True
    assert again.headers == lib.either("redelivered-header", kombu={"h": 1, "redelivered": True}, actors={"h": 1})
    again.ack()
    queue.delete()


def test_the_lowest_step_of_priorities_is_served_first(lib: Library, connection: Any, name: str) -> None:
    """kombu's order, which Celery's documentation describes; by polling and by consuming."""
    queue = declared(lib, connection, name)
    order = [0, None, 1, 5, 3, 7, 9]  # steps 0, 3, 6 and 9; within a step as they came

    def publish() -> None:
        for priority in (9, 0, 5, 3, None, 7, 1):
            connection.Producer().publish(priority, routing_key=name, priority=priority)

    publish()
    assert [queue.get(no_ack=True).payload for _ in order] == order
    publish()
    got: list[Any] = []
    with connection.Consumer(queue, callbacks=[lambda body, message: got.append(body)], no_ack=True):
        while len(got) < len(order):
            connection.drain_events(timeout=5)
    assert got == order
    queue.delete()


@pytest.mark.parametrize(("priority", "arrives"), [(-1, "before"), (200, "after"), ("high", "before")])
def test_priorities_out_of_range(lib: Library, connection: Any, name: str, priority: Any, arrives: str) -> None:
    """Too high counts as 9; what is none at all is refused here."""
    queue = declared(lib, connection, name)
    producer = connection.Producer(routing_key=name)
    producer.publish("fifth", priority=5)
    if priority == 200 or lib.either("bad-priorities", kombu=True, actors=False):
        producer.publish("odd", priority=priority)
        arrived = [queue.get(no_ack=True).payload for _ in range(2)]
        assert arrived == (["odd", "fifth"] if arrives == "before" else ["fifth", "odd"])
    else:
        with pytest.raises(ValueError, match="priority"):
            producer.publish("odd", priority=priority)
    queue.delete()


def test_a_reply_queue_given_itself(lib: Library, connection: Any, name: str) -> None:
    """Its name."""
    queue = declared(lib, connection, name)
    connection.Producer().publish("x", routing_key=name, reply_to=lib.Queue("answers"))
    assert queue.get(no_ack=True).properties["reply_to"] == "answers"
    queue.delete()


def test_acknowledging_a_message_that_needs_none(lib: Library, connection: Any, name: str) -> None:
    """Does nothing, and nothing is kept of it."""
    got: list[Any] = []
    with connection.Consumer(lib.Queue(name), no_ack=True, callbacks=[lambda body, message: got.append(message)]):
        connection.Producer().publish("x", routing_key=name)
        connection.drain_events(timeout=5)
    got[0].ack()
    assert lib.Queue(name)(connection).get() is None


def test_a_consumer_that_acknowledges_nothing(lib: Library, connection: Any, name: str) -> None:
    """kombu takes one message at a time; here the server forgets what it sends, as RabbitMQ does."""
    queue = declared(lib, connection, name)
    got: list[Any] = []
    for number in range(5):
        connection.Producer().publish(number, routing_key=name)
    with connection.Consumer(queue, callbacks=[lambda body, message: got.append(body)], no_ack=True):
        connection.drain_events(timeout=5)
    assert got == [0]
    left = [message.payload for message in iter(lambda: queue.get(no_ack=True), None)]
    assert left == lib.either("no-ack-takes-all", kombu=[1, 2, 3, 4], actors=[])


def test_recover_delivers_again(lib: Library, connection: Any, name: str) -> None:
    """What wasn't acknowledged."""
    queue = declared(lib, connection, name)
    got: list[Any] = []
    connection.Producer().publish("again", routing_key=name)
    with connection.Consumer(queue, callbacks=[lambda body, message: got.append(message)]) as consumer:
        connection.drain_events(timeout=5)
        consumer.recover(requeue=True)
        while len(got) < 2:
            connection.drain_events(timeout=5)
        got[1].ack()
    assert [message.payload for message in got] == ["again", "again"]
    assert got[1].delivery_info["redelivered"]
    queue.delete()


# What RabbitMQ's manners are worth on Redis


def test_a_queue_exists_while_it_is_empty(lib: Library, connection: Any, name: str) -> None:
    """kombu has no other trace of it than its list, which Redis deletes when it is empty."""
    queue = declared(lib, connection, name)
    simple = connection.SimpleQueue(name)
    if lib.either("empty-queues", kombu=True, actors=False):
        with pytest.raises(amqp.ChannelError) as caught:
            simple.qsize()
        assert code_of(caught.value) == 404
    else:
        assert simple.qsize() == 0
        assert tuple(queue.queue_declare(passive=True)) == (name, 0, 0)
    simple.close()
    queue.delete()


def test_what_nobody_declared(lib: Library, connection: Any, name: str) -> None:
    """kombu finds nothing in it and loses what is sent there; here it is a 404, as on RabbitMQ."""
    silent = lib.either("undeclared", kombu=True, actors=False)
    queue = lib.Queue(name)
    if silent:
        assert queue(connection.channel()).get() is None
        assert queue(connection.channel()).purge() == 0
        connection.Producer(connection.channel()).publish("lost", exchange=name, routing_key=name)
    else:
        uses: list[Callable[[], Any]] = [
            lambda: queue(connection.channel()).get(),
            lambda: queue(connection.channel()).purge(),
            lambda: connection.Producer(connection.channel()).publish("x", exchange=name, routing_key=name),
        ]
        for use in uses:
            with pytest.raises(amqp.NotFound):
                use()


def test_a_queue_to_be_is_sent_to(lib: Library, connection: Any, name: str) -> None:
    """By its name, before anybody declared it: a worker that starts later finds the messages."""
    connection.Producer().publish("early", routing_key=name)
    assert declared(lib, connection, name).get(no_ack=True).payload == "early"


def test_mandatory_messages(lib: Library, connection: Any, name: str) -> None:
    """kombu's transport has no such thing."""
    if lib.either("redis-mandatory", kombu=True, actors=False):
        connection.Producer().publish("x", routing_key=name, mandatory=True)
    else:
        with pytest.raises(amqp.ChannelError) as caught:
            connection.Producer().publish("x", routing_key=name, mandatory=True)
        assert code_of(caught.value) == 312


def test_other_settings(lib: Library, connection: Any, name: str) -> None:
    """kombu doesn't look at a queue's settings; an exchange of another type is an error of no known family."""
    declared(lib, connection, name, durable=True)
    lib.Exchange(name, "direct")(connection).declare()
    if lib.either("redis-settings", kombu=True, actors=False):
        lib.Queue(name, durable=False)(connection.channel()).declare()
        refused: Any = Exception
    else:
        with pytest.raises(amqp.PreconditionFailed):
            lib.Queue(name, durable=False)(connection.channel()).declare()
        refused = amqp.PreconditionFailed
    with pytest.raises(refused) as caught:
        lib.Exchange(name, "topic")(connection.channel()).declare()
    assert isinstance(caught.value, connection.channel_errors) is lib.either("redis-settings", kombu=False, actors=True)


def test_exclusive_queues(lib: Library, connection: Any, url: str, connect: Callable[..., Any], name: str) -> None:
    """Here they are one connection's."""
    declared(lib, connection, name, exclusive=True)
    other = connect(url)
    if lib.either("redis-exclusive", kombu=True, actors=False):
        declared(lib, other, name, exclusive=True)
    else:
        with pytest.raises(amqp.ResourceLocked):
            declared(lib, other, name, exclusive=True)


def test_limits_of_queues_and_messages(lib: Library, connection: Any, name: str) -> None:
    """Time to live and length: kombu sends them along, and that's all."""
    kept = lib.either("redis-limits", kombu=True, actors=False)
    short = declared(lib, connection, f"{name}-ttl", message_ttl=0.05)
    small = declared(lib, connection, f"{name}-length", max_length=2)
    plain = declared(lib, connection, name)
    producer = connection.Producer()
    producer.publish("old", routing_key=short.name)
    producer.publish("old", routing_key=name, expiration=0.05)
    for number in range(3):
        producer.publish(number, routing_key=small.name)
    sleep(0.2)  # a time to live is the broker's clock
    assert (short.get() is not None) is kept
    assert (plain.get() is not None) is kept
    assert small.get(no_ack=True).payload == (0 if kept else 1)
    if kept:
        declared(lib, connection, f"{name}-bytes", max_length_bytes=1000)
    else:
        with pytest.raises(amqp.PreconditionFailed):
            declared(lib, connection, f"{name}-bytes", max_length_bytes=1000)


def test_an_unused_queue_expires_with_its_messages(lib: Library, connection: Any, name: str) -> None:
    """The one limit that kombu keeps on Redis."""
    queue = declared(lib, connection, name, expires=0.1)
    connection.Producer().publish("forgotten", routing_key=name)
    sleep(0.4)  # so is this one
    with pytest.raises(amqp.ChannelError) as caught:
        queue.queue_declare(passive=True)
    assert code_of(caught.value) == 404


def test_conditions_of_deleting(lib: Library, connection: Any, name: str) -> None:
    """kombu keeps the queue without a word."""
    queue = declared(lib, connection, name)
    connection.Producer().publish("kept", routing_key=name)
    if lib.either("redis-conditions", kombu=True, actors=False):
        queue.delete(if_empty=True)
    else:
        with pytest.raises(amqp.PreconditionFailed):
            lib.Queue(name)(connection.channel()).delete(if_empty=True)
    assert lib.Queue(name)(connection.channel()).get(no_ack=True).payload == "kept"


def test_exchanges_bound_to_exchanges_and_headers(lib: Library, connection: Any, name: str) -> None:
    """kombu's Redis knows neither."""
    inner = lib.Exchange(f"{name}-inner", "headers")
    queue = lib.Queue(name, inner, binding_arguments={"x-match": "all", "kind": "a"})
    outer = lib.Exchange(f"{name}-outer", "direct")(connection)
    outer.declare()
    if lib.either("redis-exchange-types", kombu=True, actors=False):
        with pytest.raises(KeyError):
            queue(connection).declare()
        with pytest.raises(NotImplementedError):
            inner(connection).bind_to(outer, routing_key="k")
        return
    queue(connection).declare()
    bound = inner(connection)
    bound.bind_to(outer, routing_key="k")
    for kind in "ab":
        connection.Producer().publish(kind, exchange=outer.name, routing_key="k", headers={"kind": kind})
    assert queue(connection).get(no_ack=True).payload == "a"
    assert queue(connection).get() is None
    bound.unbind_from(outer, routing_key="k")
    connection.Producer().publish("a", exchange=outer.name, routing_key="k", headers={"kind": "a"})
    assert queue(connection).get() is None
    outer.delete()
    inner(connection).delete()
    with pytest.raises(amqp.NotFound):
        inner(connection.channel()).declare(passive=True)


def test_flow(lib: Library, connection: Any) -> None:
    """Switching it on is what RabbitMQ allows, and here."""
    if lib.either("redis-flow", kombu=True, actors=False):
        with pytest.raises(NotImplementedError):
            connection.channel().flow(True)
    else:
        connection.channel().flow(True)


def test_the_manager(lib: Library, connection: Any, name: str) -> None:
    """kombu's lists the bindings that this process made; here the answer is that there is none."""
    if lib.either("redis-manager", kombu=True, actors=False):
        declared(lib, connection, name, exchange=lib.Exchange(name), routing_key="k")
        binding = {"destination": name, "source": name, "routing_key": "k"}
        assert binding in list(connection.manager.get_bindings())
    else:
        with pytest.raises(NotImplementedError, match="redis:// has no management API"):
            _ = connection.manager


# The connection


def test_the_database_is_the_virtual_host(
    lib: Library, redis_server: RedisNode, url: str, connect: Callable[..., Any], name: str
) -> None:
    """And a ``global_keyprefix`` parts the users of one database."""
    one, other = connect(url), connect(redis_server.url(db=1))
    prefixed = connect(url, transport_options={"global_keyprefix": "mine:"})
    assert (one.virtual_host, other.virtual_host) == ("0", "1")
    for number, connection in enumerate((one, other, prefixed)):
        declared(lib, connection, name)
        connection.Producer().publish(number, routing_key=name)
    queues = [lib.Queue(name)(connection) for connection in (one, other, prefixed)]
    assert [[queue.get(no_ack=True).payload, queue.get()] for queue in queues] == [[0, None], [1, None], [2, None]]


OPTIONS: list[dict[str, Any]] = [
    {"visibility_timeout": 43200, "unacked_key": "u", "unacked_index_key": "i", "unacked_mutex_key": "m"},
    {"unacked_mutex_expire": 60, "unacked_restore_limit": 5, "ack_emulation": True},
    {"fanout_prefix": True, "fanout_patterns": True, "sep": ":"},
    {"priority_steps": list(range(10)), "queue_order_strategy": "priority"},
    {"socket_timeout": 5, "socket_connect_timeout": 5, "health_check_interval": 25, "retry_on_timeout": True},
    {"socket_keepalive": True, "socket_keepalive_options": {socket.TCP_KEEPIDLE: 60}, "max_connections": 20},
    {"client_name": "worker-1", "body_encoding": None, "deadletter_queue": "dead", "polling_interval": 1},
    {"max_retries": 3, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.5},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: next(iter(options)))
def test_documented_options_are_taken(
    lib: Library, url: str, connect: Callable[..., Any], name: str, options: dict[str, Any]
) -> None:
    """By the names and in the forms that kombu and Celery document."""
    connection = connect(url, transport_options=options)
    queue = declared(lib, connection, name)
    connection.Producer().publish("x", routing_key=name, priority=7)
    message = queue.get()
    assert message.payload == "x"
    message.ack()
    assert connection.transport_options == options
    queue.delete()


def test_an_unknown_option(lib: Library, url: str) -> None:
    """A misspelt ``visibility_timeout`` is no visibility timeout."""
    options = {"visibilty_timeout": 3}
    if lib.either("redis-unknown-options", kombu=True, actors=False):
        lib.Connection(url, transport_options=options)
    else:
        with pytest.raises(ValueError, match="did you mean 'visibility_timeout'"):
            lib.Connection(url, transport_options=options)


def test_events_are_waited_for_as_long_as_told(lib: Library, connection: Any, name: str) -> None:
    """kombu begins anew whenever its BRPOP of one second ends."""
    with connection.Consumer(lib.Queue(name), callbacks=[print]):
        for timeout, at_most in ((0.05, 0.5), (1.2, lib.either("redis-drain-timeout", kombu=3, actors=1.6))):
            begin = monotonic()
            with pytest.raises(TimeoutError):
                connection.drain_events(timeout=timeout)
            assert timeout * 0.9 <= monotonic() - begin < at_most


def test_error_tuples(lib: Library, connection: Any) -> None:
    """Ours are py-amqp's and ``OSError``, on every broker; kombu's are redis-py's too, and ``KeyError``."""
    foreign = lib.either("redis-errors", kombu=True, actors=False)
    errors = {
        amqp.ConnectionError: (True, False), OSError: (True, False), amqp.ChannelError: (False, True),
        KeyError: (foreign, False), ValueError: (False, False),
    }  # fmt: skip
    for error, (of_connection, of_channel) in errors.items():
        assert issubclass(error, connection.connection_errors) is of_connection, error
        assert issubclass(error, connection.channel_errors) is of_channel, error


def test_a_refused_connect(lib: Library, dead_url: str) -> None:
    """A recoverable connection error; ``ensure_connection`` gives up with ``OperationalError``."""
    heard: list[float] = []
    connection = lib.Connection(dead_url)
    with pytest.raises(connection.recoverable_connection_errors):
        connection.connect()
    with pytest.raises(lib.module("exceptions").OperationalError):
        connection.ensure_connection(
            lambda _, interval: heard.append(interval), max_retries=2, interval_start=0, interval_step=0.01
        )
    assert heard == [0, 0.01]
    connection.release()


def test_a_wrong_password(lib: Library, redis_server: RedisNode) -> None:
    """Waiting doesn't make it right."""
    redis_server.ask("ACL", "SETUSER", "behaviour", "reset", "on", ">right", "~*", "&*", "+@all")
    url = redis_server.url().replace("redis://", "redis://behaviour:wrong@")
    heard: list[float] = []
    connection = lib.Connection(url)
    retried = lib.either("redis-wrong-password", kombu=2, actors=0)
    with pytest.raises(lib.module("exceptions").OperationalError if retried else amqp.AccessRefused) as caught:
        connection.ensure_connection(
            lambda _, interval: heard.append(interval), max_retries=2, interval_start=0, interval_step=0
        )
    assert len(heard) == retried
    assert "wrong@" not in str(caught.value)
    connection.release()
    redis_server.ask("ACL", "DELUSER", "behaviour")


@pytest.fixture
def by_proxy(
    redis_server: RedisNode, url: str, fault_proxy: Callable[[int], FaultProxy], connect: Callable[..., Any]
) -> tuple[Any, FaultProxy]:
    """A connection that a proxy can break."""
    proxy = fault_proxy(redis_server.port)
    return connect(redis_server.url(port=proxy.port)), proxy


def drain_on(connection: Any) -> None:
    while True:
        connection.drain_events(timeout=5)


def test_a_consumer_and_a_lost_connection(lib: Library, by_proxy: tuple[Any, FaultProxy], name: str) -> None:
    """kombu raises where events are drained; here the next message comes."""
    connection, proxy = by_proxy
    got: list[Any] = []
    queue = lib.Queue(name, durable=True)
    consumer = connection.Consumer(queue, callbacks=[lambda body, message: got.append(message)])
    consumer.consume()
    connection.Producer().publish("first", routing_key=name)
    connection.drain_events(timeout=5)
    proxy.reset()
    if lib.either("drain-events-recovers", kombu=True, actors=False):
        with pytest.raises(connection.recoverable_connection_errors):
            drain_on(connection)
        return
    connection.ensure_connection()
    connection.Producer().publish("second", routing_key=name, retry=True)
    while len(got) < 3:
        connection.drain_events(timeout=10)
    assert sorted((message.payload, message.delivery_info["redelivered"]) for message in got) == [
        ("first", False), ("first", True), ("second", False),
    ]  # fmt: skip
    with pytest.raises(connection.connection_errors):
        got[0].ack()  # the first delivery is nobody's any more
    for message in got[1:]:
        message.ack()


def test_publishing_with_retry_rides_out_a_reset(lib: Library, by_proxy: tuple[Any, FaultProxy], name: str) -> None:
    """And says so to the errback."""
    connection, proxy = by_proxy
    heard: list[float] = []
    queue = declared(lib, connection, name)
    producer = connection.Producer()
    producer.publish("before", routing_key=name)
    proxy.refuse()
    proxy.reset()

    def errback(_: BaseException, interval: float) -> None:
        heard.append(interval)
        proxy.heal()

    policy = {"max_retries": 10, "interval_start": 0.1, "interval_step": 0, "interval_max": 0.1, "errback": errback}
    producer.publish("after", routing_key=name, retry=True, retry_policy=policy)
    assert heard
    queue = lib.Queue(name)(connection.default_channel)
    assert [queue.get(no_ack=True).payload for _ in range(2)] == ["before", "after"]


# Fanout


def test_a_broadcast_by_a_publisher_that_did_not_declare_its_exchange(
    lib: Library, connection: Any, url: str, connect: Callable[..., Any], name: str
) -> None:
    """kombu knows an exchange's type only where it was declared, takes it for direct and loses the message."""
    got: list[Any] = []
    queue = lib.Queue(name, lib.Exchange(name, "fanout"), auto_delete=True)
    with connection.Consumer(queue, callbacks=[lambda body, message: got.append(body)], no_ack=True):
        with suppress(TimeoutError):
            connection.drain_events(timeout=0.05)  # kombu subscribes when it first waits
        connect(url).Producer().publish("hello", exchange=name)
        with suppress(TimeoutError):
            connection.drain_events(timeout=0.3)
    assert got == lib.either("undeclared-fanout", kombu=[], actors=["hello"])


def test_a_broadcast_without_listeners_is_gone(
    lib: Library, connection: Any, url: str, connect: Callable[..., Any], name: str
) -> None:
    """Pub/Sub keeps nothing; a durable fanout, if everybody asks for it, does (``durable_fanout``)."""
    queue = lib.Queue(name, lib.Exchange(name, "fanout"))
    queue(connection).declare()
    connection.Producer().publish("lost", exchange=name)
    assert queue(connection).get() is None
    if lib.either("durable-fanout", kombu=False, actors=True):
        keeping = connect(url, transport_options={"durable_fanout": True, "confirm_publish": True})
        queue(keeping).declare()
        keeping.Producer().publish("kept", exchange=name)
        assert queue(keeping).get(no_ack=True).payload == "kept"
    queue(connection).delete()
