"""A message is checked before a byte is sent, and says everything that the publish script asks for."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from kombu_actors._values.model import BODY_MAX, Returned
from kombu_actors.protocols.redis.envelope import decode
from kombu_actors.protocols.redis.layout import Layout
from kombu_actors.protocols.redis.preparing import PreparedMessage, message_arguments, prepare

from .stock import TAG, StockChannel

LAYOUT = Layout()


def prepared(body: Any = b"body", properties: dict[str, Any] | None = None, **options: Any) -> PreparedMessage:
    options = {"exchange": "ex", "routing_key": "key", "layout": LAYOUT, "new_tag": lambda: TAG, **options}
    return prepare(body, properties=properties or {}, **options)


def test_a_message_becomes_the_arguments_of_publish() -> None:
    """exchange, mandatory, step, expiration, keys, queues to leave out, envelope; all bytes."""
    message = prepared(properties={"priority": 5, "expiration": "60"}, mandatory=True)
    assert message.arguments[:-1] == (b"ex", b"1", b"3", b"60", b"1", b"key", b"0")
    assert message.size == len(message.arguments[-1])
    plain = prepared(exchange="", routing_key="é")
    assert plain.arguments[:-1] == (b"", b"0", b"0", b"", b"1", "é".encode(), b"0")


def test_the_envelope_is_the_one_that_kombu_publishes() -> None:
    """Headers with types that AMQP would flatten included."""
    properties = {
        "headers": {"binary": b"abc", "when": datetime.datetime(2026, 1, 2, 3, 4, 5, 678)},
        "content_type": "text/plain",
        "content_encoding": "utf-8",
        "delivery_mode": 2,
        "correlation_id": "c",
        "priority": 9,
    }
    assert prepared(properties=properties).arguments[-1] == StockChannel().written(b"body", properties, "ex", "key")


def test_absent_properties_are_not_sent() -> None:
    """None stands for absent, as on every transport."""
    properties = {"reply_to": None, "priority": None, "headers": None, "content_type": None}
    message = prepared(properties=properties)
    assert message.properties == {}
    assert message.arguments[-1] == StockChannel().written(b"body", {}, "ex", "key")


def test_copies_go_to_more_keys_and_blind_ones_are_not_told() -> None:
    """CC and BCC are RabbitMQ's; receivers see the former."""
    headers = {"CC": ["c1", "c2"], "BCC": ["b"], "other": 1}
    message = prepared(properties={"headers": headers})
    assert message.arguments[4:9] == (b"4", b"key", b"c1", b"c2", b"b")
    seen = {"CC": ["c1", "c2"], "other": 1}
    assert message.properties["headers"] == decode(message.arguments[-1]).properties["headers"] == seen
    assert headers["BCC"] == ["b"]


def test_a_message_that_comes_back_is_the_one_that_was_sent() -> None:
    """As the sender of a mandatory message is told."""
    message = prepared(properties={"reply_to": "r", "headers": {"a": b"x"}}, mandatory=True)
    expected = {"reply_to": "r", "headers": {"a": "x"}}
    assert message.returned() == Returned(312, "NO_ROUTE", "ex", "key", expected, b"body")


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_a_body_that_may_change_is_copied(kind: type) -> None:
    """Whoever publishes may reuse the buffer."""
    buffer = bytearray(b"before")
    message = prepared(kind(buffer))
    buffer[:] = b"after!"
    assert message.body == decode(message.arguments[-1]).body == b"before"
    assert type(message.body) is bytes


def test_headers_that_change_later_were_sent_as_they_were() -> None:
    """Nothing given is kept."""
    nested = {"list": [1]}
    message = prepared(properties={"headers": nested})
    nested["list"].append(2)
    assert message.properties["headers"] == {"list": [1]}
    assert decode(message.arguments[-1]).properties["headers"] == {"list": [1]}


@pytest.mark.parametrize(
    ("properties", "named"),
    [
        ({"headers": {1: "a"}}, "key of headers"),
        ({"headers": {"a": {"b": object()}}}, r"headers\['a'\]\['b'\]"),
        ({"priority": 256}, "priority"),
        ({"expiration": 60}, "expiration"),
        ({"colour": "red"}, "colour"),
        ({"reply_to": "\ud800"}, "reply_to"),
        ({"headers": {"CC": "k"}}, "CC"),
    ],
)
def test_what_amqp_cannot_carry_is_refused_by_name(properties: dict[str, Any], named: str) -> None:
    """The rules of all transports: what works here works there."""
    with pytest.raises(ValueError, match=named):
        prepared(properties=properties)


def test_bodies_that_cannot_be_sent_are_refused() -> None:
    """By type, and by size before half a gigabyte is copied."""
    with pytest.raises(TypeError, match="serialize"):
        prepared("text")
    with pytest.raises(ValueError, match="body_max allows 1000"):
        prepared(bytes(1001), body_max=1000)
    with pytest.raises(ValueError, match=str(BODY_MAX)):
        prepared(bytes(BODY_MAX + 1))


def test_the_body_may_be_written_as_text() -> None:
    """Option ``body_encoding``."""
    message = prepared(b"text", body_encoding=None)
    assert b'"body": "text"' in message.arguments[-1]
    assert decode(message.arguments[-1]).body == b"text"


def test_dead_letters_name_the_queues_to_leave_out() -> None:
    """In the same order that a publish has."""
    arguments = message_arguments("x", ("a", "b"), b"{}", step=6, never_to=("q", "é"))
    assert arguments == (b"x", b"0", b"6", b"", b"2", b"a", b"b", b"2", b"q", "é".encode(), b"{}")
