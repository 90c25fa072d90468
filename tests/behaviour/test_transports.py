"""What programs ask transports and channels for, and what they are told where they would make their own."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

from .libraries import Library

SCHEMES = ("amqp", "amqps", "pyamqp", "redis", "rediss", "sentinel", "memory")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_transports_have_classes(lib: Library, scheme: str) -> None:
    """By URL scheme, with their drivers, defaults and errors; a connection's is of its class."""
    transport = lib.module("transport")
    found = transport.get_transport_cls(scheme)
    oracle = Library("kombu").module("transport").get_transport_cls(scheme)
    assert (found.driver_type, found.driver_name) == (oracle.driver_type, oracle.driver_name)
    assert found.can_parse_url is False
    assert found.implements.heartbeats is oracle.implements.heartbeats
    assert found.implements.asynchronous is oracle.implements.asynchronous
    assert issubclass(found, lib.module("transport.base").Transport)
    connection = lib.Connection(f"{scheme}://h")
    assert type(connection.transport) is type(connection.create_transport()) is connection.get_transport_cls() is found
    assert transport.resolve_transport(found) is found
    home, _, name = transport.TRANSPORT_ALIASES[scheme].partition(":")
    assert issubclass(found, getattr(import_module(home), name))


def test_an_unknown_transport_is_told_with_the_one_that_was_meant(lib: Library) -> None:
    """Perhaps."""
    resolve = lib.module("transport").resolve_transport
    with pytest.raises(KeyError, match="Did you mean redis"):
        resolve("reddis")


def test_a_transport_does_what_its_connection_does(lib: Library, connection: Any, url: str) -> None:
    """Under the names that kombu's transports have."""
    transport = connection.transport
    established = connection.connection
    assert transport.verify_connection(established)
    channel = transport.create_channel(established)
    channel.queue_declare(queue="transports", auto_delete=True, durable=False)
    channel.close()
    assert transport.get_heartbeat_interval(established) is not None
    assert transport.qos_semantics_matches_spec(established) is connection.qos_semantics_matches_spec
    assert transport.supports_ev is connection.is_evented
    transport.heartbeat_check(established)
    with pytest.raises(TimeoutError):
        transport.drain_events(established, timeout=0.05)


def test_channels_are_of_their_kinds(lib: Library, connection: Any, url: str) -> None:
    """Programs tell them apart by ``isinstance``."""
    channel = connection.default_channel
    scheme = url.partition(":")[0]
    assert isinstance(channel, lib.module("transport.base").StdChannel)
    assert isinstance(channel, lib.module("transport.pyamqp").Channel) is (scheme == "amqp")
    assert isinstance(channel, lib.module("transport.virtual").Channel) is (scheme != "amqp")
    assert isinstance(channel, lib.module("transport.redis").Channel) is (scheme == "redis")
    assert isinstance(channel, lib.module("transport.memory").Channel) is (scheme == "memory")
    assert not isinstance(connection, lib.module("transport.base").StdChannel)
    channel.after_reply_message_received("nothing")
    with channel as same:
        assert same is channel


def test_queue_options_become_arguments(lib: Library) -> None:
    """Seconds in milliseconds; unknown ones are found out."""
    convert = lib.module("transport.base").to_rabbitmq_queue_arguments
    assert convert({"a": 1}, expires=1.5, max_length=3, message_ttl=None) == {
        "a": 1,
        "x-expires": 1500,
        "x-max-length": 3,
    }
    with pytest.raises(KeyError):
        convert({}, foo=1)


def test_bodies_as_base64(lib: Library) -> None:
    """Text goes in as UTF-8."""
    codec = lib.module("transport.virtual").Base64()
    assert (codec.encode("é"), codec.decode(codec.encode(b"\xff"))) == ("w6k=", b"\xff")


def test_what_was_published_in_a_batch_is_there_after_it(lib: Library, connection: Any, name: str, url: str) -> None:
    """At once, where the transport has no batches."""
    queue = lib.Queue(name, auto_delete=False)(connection.default_channel)
    queue.declare()
    producer = connection.Producer()
    assert producer.supports_batch_publish is (url.startswith("redis") and lib.name == "kombu")
    with producer.batch():
        producer.publish("x", routing_key=name)
    assert queue.get().payload == "x"
    with pytest.raises(ValueError), producer.batch(max_size=0):
        pass
    queue.delete()


def test_who_would_make_a_transport_is_told_that_there_are_none() -> None:
    """At once, and what to read; names of kombu's insides can be imported and say the same."""
    base, virtual = import_module("kombu_actors.transport.base"), import_module("kombu_actors.transport.virtual")
    with pytest.raises(NotImplementedError, match=r"no.* of a program's own"):
        type("Mine", (base.Transport,), {"__module__": "mine"})
    with pytest.raises(NotImplementedError, match="no transports of a program's own"):
        type("Mine", (virtual.Channel,), {"__module__": "mine"})
    with pytest.raises(NotImplementedError, match=r"made by connection.channel\(\)"):
        virtual.Channel()
    for use in (lambda: virtual.QoS(None), lambda: exec("class Mine(QoS): pass", {"QoS": virtual.QoS})):
        with pytest.raises(NotImplementedError, match="kombu's own state"):
            use()
    with pytest.raises(AttributeError, match="kombu's own state"):
        _ = virtual.BrokerState.exchanges
    assert not isinstance(3, virtual.QoS)
