"""Details of the documented objects that programs read: drivers, sockets, makers on channels, what publish returns."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from .libraries import Library

DRIVERS = {"amqp": ("py-amqp", "amqp"), "redis": ("redis", "redis"), "memory": ("memory", "memory")}


def test_the_transport_names_its_driver(connection: Any, url: str) -> None:
    """With its version, for bug reports."""
    transport = connection.transport
    name, kind = DRIVERS[url.partition(":")[0]]
    assert (transport.driver_name, transport.driver_type) == (name, kind)
    version = transport.driver_version()
    assert (version == "N/A") is (kind == "memory")
    assert version == "N/A" or version[0].isdigit()


def test_a_closed_connection_has_no_connection(connection: Any) -> None:
    """``None`` after ``close()``, so that looking at it doesn't reconnect; the next use does."""
    assert connection.connection is not None
    connection.close()
    assert connection.connection is None
    assert not connection.connected
    connection.connect()
    assert connection.connection is not None


def test_the_established_connection_shows_the_broker(connect: Callable[..., Any], broker_url: str) -> None:
    """Its ``server_properties``, and a socket to ask for addresses."""
    connection = connect(broker_url)
    established = connection.connection
    assert established.server_properties["product"] == "RabbitMQ"
    assert established.sock.getpeername()[1] == connection.port
    assert established.sock.getsockname()[0] == "127.0.0.1"


def test_channels_make_producers_and_consumers(lib: Library, connection: Any, name: str) -> None:
    """``channel.Producer`` and ``channel.Consumer``, as connections do."""
    channel = connection.channel()
    heard: list[Any] = []

    def handle(body: Any, message: Any) -> None:
        heard.append(body)
        message.ack()

    queue = lib.Queue(name, lib.Exchange(name, type="direct"), routing_key="k")
    with channel.Consumer([queue], callbacks=[handle]) as consumer:
        assert consumer.channel is channel
        channel.Producer().publish("x", exchange=name, routing_key="k")
        while not heard:
            connection.drain_events(timeout=5)
    assert heard == ["x"]


def test_confirms_may_be_asked_for_by_hand(lib: Library, connect: Callable[..., Any], broker_url: str) -> None:
    """``channel.confirm_select()``; publishing goes on."""
    channel = connect(broker_url, transport_options={}).channel()
    channel.confirm_select()
    channel.Producer().publish("x", routing_key="nobody")


def test_publish_returns_a_kept_promise(lib: Library, connect: Callable[..., Any], broker_url: str) -> None:
    """Whose ``then`` calls back at once, and chains."""
    results: list[Any] = []

    def first() -> str:
        results.append("first")
        return "passed on"

    sent = lib.Producer(connect(broker_url)).publish("x", routing_key="nobody")
    sent.then(first).then(results.append)
    assert results == ["first", "passed on"]
    assert sent.ready


def test_unknown_message_properties_are_left_out(
    lib: Library, connect: Callable[..., Any], broker_url: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What AMQP has no place for doesn't arrive, and fails nothing: frameworks hand their own options through."""
    connection = connect(broker_url)
    queue = lib.Queue(name, durable=True)
    with caplog.at_level(logging.WARNING, "kombu_actors"):
        for _ in range(2):
            producer = lib.Producer(connection)
            producer.publish("x", routing_key=name, declare=[queue], time_limit=3, app_id="me", colour=None)
    message = queue(connection).get(no_ack=True)
    assert message.properties["app_id"] == "me"
    assert "time_limit" not in message.properties
    if lib.name == "kombu_actors":
        assert [record.getMessage() for record in caplog.records if "'time_limit'" in record.getMessage()] == [
            "'time_limit' is not a message property of AMQP 0-9-1 and is not sent; is it meant as a header?"
        ]
    queue(connection).delete()


def test_mandatory_none_is_not_mandatory(lib: Library, connection: Any, name: str) -> None:
    """As any false value."""
    queue = lib.Queue(name, durable=True)
    lib.Producer(connection).publish("x", routing_key=name, declare=[queue], mandatory=None)
    assert queue(connection).get(no_ack=True).payload == "x"


def test_returned_messages_show_their_headers(lib: Library, connect: Callable[..., Any], broker_url: str) -> None:
    """The message given to ``on_return`` has headers, properties and body as a received one."""
    connection = connect(broker_url, transport_options={})
    returned: list[Any] = []
    producer = lib.Producer(connection.channel(), on_return=lambda *args: returned.append(args))
    producer.publish("x", routing_key="nobody", mandatory=True, headers={"h": 1}, correlation_id="c")
    connection.drain_events(timeout=5)
    *_, message = returned[0]
    assert message.headers == {"h": 1}
    assert message.body == "x"
    assert message.properties["correlation_id"] == "c"
    assert message.properties["application_headers"] == {"h": 1}


def test_a_binding_without_a_key_has_the_empty_one(
    lib: Library, connect: Callable[..., Any], broker_url: str, name: str
) -> None:
    """``binding(exchange, None)``."""
    connection = connect(broker_url)
    exchange = lib.Exchange(name, type="direct")
    queue = lib.Queue(name, bindings=[lib.binding(exchange, None)])
    queue(connection).declare()
    lib.Producer(connection).publish("x", exchange=exchange, routing_key="")
    assert queue(connection).get(no_ack=True).payload == "x"
    queue(connection).delete()
    exchange(connection).delete()


def test_amqplain_logs_in(lib: Library, connect: Callable[..., Any], broker_url: str) -> None:
    """RabbitMQ's own login method, with the same credentials as PLAIN."""
    connection = connect(broker_url, login_method="AMQPLAIN")
    connection.connect()
    assert connection.connected


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("REDIS://h/1", ("redis", None)),
        ("AMQP://h//", ("amqp", None)),
        ("pyamqp://h//", ("pyamqp", None)),
        ("redis+socket:///x", ("redis", "redis")),
    ],
)
def test_schemes_are_shown_as_kombu_does(lib: Library, url: str, shown: tuple[str, str | None]) -> None:
    """Whatever their case; a prefixed one by its parts."""
    connection = lib.Connection(url)
    assert (connection.transport_cls, connection.uri_prefix) == shown
