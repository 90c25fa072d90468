"""A message knows how it came, what it says, and that it is decided about once."""

from __future__ import annotations

import copy
import logging
import zlib
from typing import Any

import pytest

from kombu_actors import compression
from kombu_actors._values.model import Delivery
from kombu_actors.errors import ContentDisallowed, DecodeError, MessageStateError, StaleDelivery
from kombu_actors.message import Message
from kombu_actors.serialization import dumps
from tests.facade.oracle import message as oracle
from tests.facade.recording import RecordingChannel

JSON = {"application/json"}


def deliver(body: Any, *, tag: str = "None1", **properties: Any) -> Delivery:
    content_type, encoding, payload = dumps(body, properties.pop("serializer", None))
    given = {"content_type": content_type, "content_encoding": encoding, "headers": {}, **properties}
    raw = payload.encode() if isinstance(payload, str) else payload
    return Delivery(tag, 42, True, "news", "news.eu", given, raw)


def receive(body: Any, channel: Any = None, **options: Any) -> Message:
    names = ("accept", "no_ack", "message_count", "text_body")
    made = {name: options.pop(name) for name in names if name in options}
    return Message.from_delivery(deliver(body, **options), channel, **made)


def compressed(body: bytes, **properties: Any) -> Delivery:
    packed, method = compression.compress(body, "gzip")
    given = {"content_type": "application/json", "content_encoding": "utf-8", **properties}
    return Delivery("t", 1, False, "", "q", {**given, "headers": {"compression": method}}, packed)


def test_a_delivery_becomes_a_message() -> None:
    """Everything kombu documents about a received message is there."""
    message = receive({"a": 1}, correlation_id="c", headers={"h": 1}, priority=3)
    assert message.payload == message.decode() == {"a": 1}
    assert message.body == b'{"a": 1}'
    assert (message.content_type, message.content_encoding) == ("application/json", "utf-8")
    assert message.delivery_tag == 42
    assert message.headers == {"h": 1}
    assert message.properties["correlation_id"] == "c"
    assert message.properties["application_headers"] == {"h": 1}
    assert message.delivery_info == {
        "consumer_tag": "None1", "delivery_tag": 42, "redelivered": True, "exchange": "news", "routing_key": "news.eu",
    }  # fmt: skip
    assert message.errors == []
    assert not message.acknowledged


def test_a_polled_message_says_how_many_are_left() -> None:
    """And has no consumer tag."""
    info = receive(1, tag="", message_count=0).delivery_info
    assert info["message_count"] == 0
    assert "consumer_tag" not in info


def test_the_delivery_info_shows_the_tag_that_the_channel_knows() -> None:
    """Tags are made unique over the epochs of a channel after the message was made."""
    message = receive(1, message_count=1)
    message.delivery_tag = 1042
    assert message.delivery_info["delivery_tag"] == 1042


def test_tables_are_private_to_the_message() -> None:
    """Deliveries with equal properties share them; changing one message changes no other."""
    delivery = deliver(1, headers={"a": 1}, type="x")
    one, other = Message.from_delivery(delivery, None), Message.from_delivery(delivery, None)
    one.headers.pop("a")
    one.properties.clear()
    one.delivery_info.clear()
    assert other.headers == {"a": 1}
    assert other.properties["type"] == "x"
    assert delivery.properties["headers"] == {"a": 1}
    assert one.headers == {}


@pytest.mark.parametrize(
    ("body", "serializer", "text"),
    [
        ({"a": "é"}, None, '{"a": "\\u00e9"}'), ("é", None, "é"), (b"\xff", None, b"\xff"),
    ],
)  # fmt: skip
def test_on_amqp_a_textual_body_is_text(body: Any, serializer: Any, text: str | bytes) -> None:
    """As kombu's amqp transport has it; its other transports, and ours, leave bytes."""
    message = receive(body, text_body=True)
    assert message.body == text
    assert message.payload == body
    assert receive(body).body == (text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize("encoding", ["utf-8", "us-ascii", "rot13", "nope", None])
def test_a_body_that_is_not_text_stays_bytes(encoding: str | None) -> None:
    """Complaining is ``decode``'s business."""
    message = Message.from_delivery(
        Delivery("", 1, False, "", "", {"content_encoding": encoding, "content_type": "text/plain"}, b"\xff"),
        None, text_body=True,
    )  # fmt: skip
    assert message.body == b"\xff"
    with pytest.raises((DecodeError, ContentDisallowed)):
        message.decode()


@pytest.mark.parametrize("body", [None, 0, "", [], {}, False])
def test_a_payload_is_decoded_once(body: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Falsy ones, too."""
    message = receive(body, serializer="json")
    assert message.payload == body
    message.body = b"something else"
    assert message.payload == message.decode() == body


def test_each_payload_is_its_own() -> None:
    """Nothing decoded is shared between messages."""
    delivery = deliver({"a": []})
    one, other = Message.from_delivery(delivery, None), Message.from_delivery(delivery, None)
    one.payload["a"].append(1)
    assert other.payload == {"a": []}


def test_a_compressed_body_is_decompressed() -> None:
    """``body`` is the plain one, the header stays."""
    message = Message.from_delivery(compressed(b"[1]"), None)
    assert message.body == b"[1]"
    assert message.payload == [1]
    assert message.errors == []
    assert message.headers == {"compression": "application/x-gzip"}


def test_a_refused_body_is_not_decompressed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checked first: what isn't wanted costs nothing."""
    monkeypatch.setitem(compression._bounded, "application/x-gzip", lambda body, limit: pytest.fail("decompressed"))
    for accept, content_type in ((set[str](), "application/json"), (None, "application/x-python-serialize")):
        message = Message.from_delivery(compressed(b"[1]", content_type=content_type), None, accept)
        with pytest.raises(ContentDisallowed):
            message.decode()


def test_a_damaged_compressed_body_is_an_error_of_the_message() -> None:
    """``errors`` has it for those who look, ``decode`` raises it; the raw body stays."""
    delivery = compressed(b"[1]")
    message = Message.from_delivery(delivery.but(body=delivery.body[:-1]), None)
    kind, error, _ = message.errors[0]
    assert kind is DecodeError
    with pytest.raises(DecodeError, match="ends too early"):
        message.decode()
    assert message.body == delivery.body[:-1]
    heard: list[Any] = []
    message._reraise_error(lambda *args: heard.append(args))
    assert heard == [(message, error)]


def test_ack_reject_and_requeue_reach_the_channel() -> None:
    """Each with what the broker needs to know."""
    channel = RecordingChannel()
    receive(1, channel).ack(multiple=True)
    receive(1, channel).reject()
    receive(1, channel).reject(requeue=True)
    receive(1, channel).requeue()
    assert channel.calls == [
        ("basic_ack", {"tag": 42, "multiple": True}),
        ("basic_reject", {"tag": 42, "requeue": False}),
        ("basic_reject", {"tag": 42, "requeue": True}),
        ("basic_reject", {"tag": 42, "requeue": True}),
    ]


@pytest.mark.parametrize("first", ["ack", "reject", "requeue"])
@pytest.mark.parametrize("second", ["ack", "reject", "requeue"])
def test_a_message_is_decided_about_once(first: str, second: str) -> None:
    """A second decision would cost the channel its life; it is refused here, in kombu's words."""
    channel = RecordingChannel()
    ours, theirs = receive(1, channel), oracle.Message(channel=RecordingChannel(), delivery_tag=42)
    theirs.channel.no_ack_consumers = None
    getattr(ours, first)()
    getattr(theirs, first)()
    assert ours.acknowledged
    with pytest.raises(oracle.MessageStateError) as expected:
        getattr(theirs, second)()
    with pytest.raises(MessageStateError) as caught:
        getattr(ours, second)()
    assert str(caught.value) == str(expected.value)
    assert len(channel.calls) == 1


def test_a_decision_that_failed_was_not_made() -> None:
    """The channel refused it: the message is still undecided."""
    channel = RecordingChannel()
    channel.failures["basic_ack"] = [StaleDelivery("gone")]
    message = receive(1, channel)
    with pytest.raises(StaleDelivery):
        message.ack()
    assert not message.acknowledged
    message.ack()
    assert message.acknowledged


def test_a_message_without_channel_cannot_be_decided_about() -> None:
    """Made by hand, or a test's."""
    for decide in (Message().ack, Message().reject, Message().requeue):
        with pytest.raises(MessageStateError, match="does not have a receiving channel"):
            decide()


def test_no_ack_messages_need_no_decision() -> None:
    """``ack`` does nothing, however often; rejecting what the broker forgot is an error, not a dead channel."""
    channel = RecordingChannel()
    message = receive(1, channel, no_ack=True)
    message.ack()
    message.ack()
    assert not message.acknowledged
    for decide in (message.reject, message.requeue):
        with pytest.raises(MessageStateError, match="no_ack"):
            decide()
    assert channel.calls == []


def test_log_error_variants_log_what_they_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """And raise everything else."""
    logger = logging.getLogger("worker")
    for name, call in (("basic_ack", "ack_log_error"), ("basic_reject", "reject_log_error")):
        channel = RecordingChannel()
        channel.failures[name] = [StaleDelivery("gone"), ValueError("other")]
        getattr(receive(1, channel), call)(logger, (StaleDelivery,))
        assert "Couldn't" in caplog.text
        assert "gone" in caplog.text
        caplog.clear()
        with pytest.raises(ValueError, match="other"):
            getattr(receive(1, channel), call)(logger, (StaleDelivery,))
        assert caplog.text == ""
        getattr(receive(1, channel), call)(logger, (StaleDelivery,))
        assert channel.names() == [name]
    channel = RecordingChannel()
    channel.failures["basic_ack"] = [BrokenPipeError("pipe")]
    with pytest.raises(BrokenPipeError):
        receive(1, channel).ack_log_error(logger, (OSError,))
    assert "pipe" in caplog.text


def test_a_message_made_by_hand_is_kombus() -> None:
    """The documented constructor, its defaults and its unpacking."""
    packed = zlib.compress(b"text")
    options: list[dict[str, Any]] = [
        {},
        {"body": b"[1]", "content_type": "application/json", "content_encoding": "utf-8", "delivery_tag": 3},
        {"body": "é", "postencode": "latin-1", "content_encoding": "latin-1"},
        {"body": packed, "headers": {"compression": "gzip"}, "content_type": "application/text"},
        {"properties": {"a": 1}, "delivery_info": {"exchange": "e"}, "accept": JSON},
    ]
    names = (
        "body", "delivery_tag", "content_type", "content_encoding", "delivery_info", "headers", "properties",
        "accept", "channel", "errors", "acknowledged", "payload",
    )  # fmt: skip
    for given in options:
        ours, theirs = Message(**copy.deepcopy(given)), oracle.Message(**copy.deepcopy(given))
        assert {name: getattr(ours, name) for name in names} == {name: getattr(theirs, name) for name in names}
        assert repr(ours).split("details")[1] == repr(theirs).split("details")[1]
    broken = Message(body=b"x", headers={"compression": "gzip"})
    assert [kind for kind, _, _ in broken.errors] == [DecodeError]


def test_attributes_of_your_own_and_attributes_that_are_not() -> None:
    """Code written for kombu hangs things onto messages."""
    message = receive(1)
    message.seen_at = 3  # type: ignore[attr-defined]
    assert message.seen_at == 3  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="'Message' object has no attribute 'bdoy'"):
        message.bdoy  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(AttributeError):
        Message.__new__(Message).headers  # noqa: B018
    assert copy.copy(message).payload == 1


def test_a_repr_shows_no_body() -> None:
    """Bodies may be private, and large."""
    assert "secret" not in repr(receive({"password": "secret"}, channel=RecordingChannel()))
