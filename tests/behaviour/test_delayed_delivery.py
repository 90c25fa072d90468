"""Native delayed delivery: RabbitMQ holds messages back for a number of seconds, bit by bit."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from kombu_actors import Connection, Exchange, Queue, binding
from kombu_actors.errors import PreconditionFailed
from kombu_actors.transport import native_delayed_delivery as delayed
from tests.support.brokers import RabbitMQNode
from tests.support.proxy import FaultProxy

from .libraries import Library

MODULE = "transport.native_delayed_delivery"


def test_routing_keys_have_a_word_for_each_bit(lib: Library) -> None:
    """28 of them, the largest first; there is no delay of 0."""
    module = lib.module(MODULE)
    assert module.calculate_routing_key(10, "dest") == "0." * 24 + "1.0.1.0.dest"
    assert module.calculate_routing_key(2**28 - 1, "a.b") == "1." * 28 + "a.b"
    for countdown, key in ((0, "x"), (-1, "x"), (5, "")):
        with pytest.raises(ValueError):
            module.calculate_routing_key(countdown, key)
    assert (module.level_name(5), module.level_name(5, "p")) == ("celery_delayed_5", "p_celery_delayed_5")
    with pytest.raises(ValueError):
        module.level_name(-1)


def test_a_delayed_message_that_is_delayed_again_has_one_delay(lib: Library) -> None:
    """A task's retry gives the routing key it came with, which would outgrow a short string's 255 bytes in time."""
    module = lib.module(MODULE)
    first = module.calculate_routing_key(10, "dest.of.0.1")
    again = module.calculate_routing_key(3, first)
    assert again == module.calculate_routing_key(3, "dest.of.0.1")
    for key in (
        "0.1." * 13 + "dest",
        "2" + ".0" * 27 + ".dest",
        ".".join("01" * 14),
    ):  # as deep, but no delay before a key
        assert module.calculate_routing_key(3, key) == module.calculate_routing_key(3, "k")[:-1] + key


def test_a_delay_that_has_no_bits_is_refused() -> None:
    """kombu makes a routing key of 29 words of it, and the message is lost."""
    with pytest.raises(ValueError, match=r"below 2 \*\* 28"):
        delayed.calculate_routing_key(2**28, "x")


def test_messages_arrive_when_their_time_has_come(
    lib: Library, connect: Callable[..., Any], broker_url: str, name: str
) -> None:
    """By the levels of their bits, whichever library declared those."""
    module, connection = lib.module(MODULE), connect(broker_url)
    module.declare_native_delayed_delivery_exchanges_and_queues(connection, "classic", name)
    queue = lib.Queue(name, lib.Exchange(name, type="topic"), routing_key="work")(connection.default_channel)
    queue.declare()
    module.bind_queue_to_native_delayed_delivery_exchange(connection, queue, name)
    began = time.monotonic()
    connection.Producer().publish(
        "later", exchange=module.level_name(27, name), routing_key=module.calculate_routing_key(1, "work")
    )
    assert queue.get() is None
    while (message := queue.get(no_ack=True)) is None:
        assert time.monotonic() - began < 10
        time.sleep(0.05)
    assert (message.payload, time.monotonic() - began > 0.9) == ("later", True)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # kombu forgets the channel
@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_both_libraries_declare_the_same(broker_url: str, name: str, queue_type: str) -> None:
    """Or the second would be refused."""
    for library in (Library("kombu"), Library("kombu_actors")):
        with library.Connection(broker_url) as connection:
            declare = library.module(MODULE).declare_native_delayed_delivery_exchanges_and_queues
            declare(connection, queue_type, name)


def test_only_two_types_of_queues(lib: Library, connection: Any) -> None:
    """A misspelt one is found out."""
    with pytest.raises(ValueError, match="classic or quorum"):
        lib.module(MODULE).declare_native_delayed_delivery_exchanges_and_queues(connection, "streams")


def test_a_direct_exchange_is_left_alone(lib: Library, connection: Any, caplog: pytest.LogCaptureFixture) -> None:
    """And said to be, in words that both libraries' users search for: the delay is in front of the routing key."""
    queue = lib.Queue("plain", lib.Exchange("plain", type="direct"), routing_key="k")
    lib.module(MODULE).bind_queue_to_native_delayed_delivery_exchange(connection, queue)
    assert [record.getMessage() for record in caplog.records] == [
        "Exchange plain is a direct exchange and native delayed delivery do not support direct exchanges.\n"
        "ETA tasks published to this exchange will block the worker until the ETA arrives."
    ]


def test_one_refused_entity_keeps_no_other_from_being_declared(broker_url: str, name: str) -> None:
    """It is raised when all the rest is there."""
    with Connection(broker_url) as connection:
        channel = connection.default_channel
        Queue(delayed.level_name(20, name), queue_arguments={"x-max-length": 1})(channel).declare()
        with pytest.raises(PreconditionFailed, match="celery_delayed_20"):
            delayed.declare_native_delayed_delivery_exchanges_and_queues(connection, "classic", name)
        for level in range(28):
            channel.queue_declare(queue=delayed.level_name(level, name), passive=True)
        ways = [binding(Exchange(f"{name}-missing", "topic"), "a"), binding(Exchange(f"{name}-there", "topic"), "b")]
        Exchange(f"{name}-there", "topic")(channel).declare()
        queue = Queue(name, bindings=ways)
        Queue(name)(channel).declare()
        with pytest.raises(Exception, match="missing"):
            delayed.bind_queue_to_native_delayed_delivery_exchange(connection, queue, name)


def test_levels_are_restored_after_a_fault(rabbitmq: RabbitMQNode, shared_vhost: str, name: str) -> None:
    """Deleted behind the connection's back, they are there again in its next session."""
    with (
        FaultProxy(rabbitmq.port) as proxy,
        Connection(rabbitmq.url(port=proxy.port, vhost=shared_vhost)) as connection,
        Connection(rabbitmq.url(vhost=shared_vhost)) as other,
    ):
        delayed.declare_native_delayed_delivery_exchanges_and_queues(connection, "classic", name)
        sessions = connection.connect().sessions
        other.default_channel.queue_delete(queue=delayed.level_name(3, name))
        proxy.reset()
        while not (connection.connected and connection.connect().sessions > sessions):
            connection.ensure_connection(timeout=10)
        connection.connect()
        other.default_channel.queue_declare(queue=delayed.level_name(3, name), passive=True)
