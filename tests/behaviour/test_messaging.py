"""``Producer``, ``Consumer`` and ``Message``: everything that is documented of them, over brokers."""

from __future__ import annotations

import datetime
import decimal
import pickle
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import amqp
import pytest

from .conftest import POLLED
from .libraries import Library

BODIES: list[Any] = [
    {"a": [1, None, "é"]}, [], "text é", b"\xff\x00", "", b"", None, 0, True, 1.5,
    decimal.Decimal("1.10"), uuid.UUID(int=5), datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
    "x" * 200_000,
]  # fmt: skip


class Box:
    """A queue of this test's own with its connection, and what arrives from it."""

    def __init__(self, lib: Library, connection: Any, name: str) -> None:
        self.lib, self.connection, self.name = lib, connection, name
        self.queue = lib.Queue(name, lib.Exchange(name, "direct"), name)
        self.queue(connection).declare()
        self.got: list[Any] = []
        self.messages: list[Any] = []

    def publish(self, body: Any = "x", **options: Any) -> None:
        exchange = self.queue.exchange
        self.connection.Producer(exchange=exchange, routing_key=self.name).publish(body, **options)

    def get(self, **options: Any) -> Any:
        return self.queue(self.connection).get(**options)

    def take(self, body: Any, message: Any) -> None:
        self.got.append(body)
        self.messages.append(message)

    def drain(self, count: int, timeout: float = 5) -> None:
        while len(self.got) < count:
            self.connection.drain_events(timeout=timeout)

    def nothing_comes(self) -> None:
        with pytest.raises(TimeoutError):
            self.connection.drain_events(timeout=0.1)


@pytest.fixture
def box(lib: Library, connection: Any, name: str) -> Any:
    made = Box(lib, connection, name)
    yield made
    made.queue(connection).delete()
    lib.Exchange(name)(connection).delete()


@pytest.fixture
def amqp_box(lib: Library, broker_url: str, connect: Callable[..., Any], name: str) -> Any:
    connection = connect(broker_url)
    made = Box(lib, connection, name)
    yield made
    channel = connection.channel()
    made.queue(channel).delete()
    made.queue.exchange(channel).delete()


# Producer


@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body)[:20])
def test_bodies_arrive_as_they_were(box: Box, body: Any) -> None:
    """With the default serializer."""
    box.publish(body)
    message = box.get(no_ack=True)
    if body in ("", b"") and message.body in ("", b""):  # kombu lets the transport say what it was
        other = "" if box.connection.as_uri().startswith("amqp") else b""
        body = box.lib.either("empty-bodies", kombu=other, actors=body)
    assert message.payload == body
    assert type(message.payload) is type(body)


@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml", "msgpack", "raw"])
@pytest.mark.parametrize("compression", [None, "zlib", "bzip2", "gzip"])
def test_serializers_and_compressions(box: Box, serializer: str, compression: str | None) -> None:
    """Said in the message, undone on arrival."""
    pytest.importorskip({"yaml": "yaml", "msgpack": "msgpack"}.get(serializer, "json"))
    body: Any = b"bytes" if serializer == "raw" else {"a": [1, "é"]}
    box.publish(body, serializer=serializer, compression=compression)
    message = box.get(no_ack=True, accept=["application/data" if serializer == "raw" else serializer])
    assert message.payload == body
    assert ("compression" in message.headers) is (compression is not None)


def test_properties_and_headers_arrive(box: Box) -> None:
    """Whatever AMQP has."""
    properties: dict[str, Any] = {
        "correlation_id": "c", "reply_to": "r", "message_id": "m", "type": "t", "app_id": "app", "expiration": 60,
        "priority": 3, "delivery_mode": 1,
    }  # fmt: skip
    box.publish({"a": 1}, headers={"h": {"deep": [1, "x"]}}, **properties)
    message = box.get(no_ack=True)
    assert message.headers == {"h": {"deep": [1, "x"]}}
    arrived = {name: message.properties[name] for name in properties}
    assert arrived == {**properties, "expiration": "60000"}
    assert (message.content_type, message.content_encoding) == ("application/json", "utf-8")


def test_the_reply_queue_may_be_given_itself(amqp_box: Box) -> None:
    """By its name."""
    if amqp_box.lib.either("reply-to-queue", kombu=True, actors=False):
        with pytest.raises(TypeError):
            amqp_box.publish(reply_to=amqp_box.lib.Queue("answers"))
    else:
        amqp_box.publish(reply_to=amqp_box.lib.Queue("answers"))
        assert amqp_box.get(no_ack=True).properties["reply_to"] == "answers"


@pytest.mark.parametrize(
    ("options", "body", "expected"),
    [
        ({"content_type": "text/plain"}, "é", ("text/plain", "utf-8")),
        ({"content_type": "text/plain", "content_encoding": "latin-1"}, "é", ("text/plain", "latin-1")),
        ({"content_type": "application/data"}, b"\xff", ("application/data", "binary")),
        ({"serializer": "raw"}, b"\xff", ("application/data", "binary")),
        ({}, "é", ("text/plain", "utf-8")),
        ({}, b"\xff", ("application/data", "binary")),
        ({}, ["é"], ("application/json", "utf-8")),
    ],
)
def test_content_type_and_encoding(box: Box, options: dict[str, Any], body: Any, expected: tuple[str, str]) -> None:
    """Given, or found out."""
    box.publish(body, **options)
    message = box.get(no_ack=True, accept=["json", "text/plain", "application/data"])
    assert (message.content_type, message.content_encoding) == expected
    assert message.payload == body


def test_a_producer_has_defaults(lib: Library, connection: Any, name: str) -> None:
    """Exchange, key, serializer, compression; each may be overridden."""
    queue = lib.Queue(name, lib.Exchange(name), name)(connection)
    queue.declare()
    producer = lib.Producer(
        connection, exchange=queue.exchange, routing_key=name, serializer="pickle", compression="zlib",
        auto_declare=False,
    )  # fmt: skip
    assert (producer.routing_key, producer.serializer, producer.compression) == (name, "pickle", "zlib")
    assert producer.auto_declare is False
    assert producer.on_return is None
    assert producer.exchange.name == name
    producer.publish([1])
    producer.publish([2], serializer="json", exchange="", routing_key=name)
    assert queue.get(no_ack=True, accept=["pickle"]).payload == [1]
    assert queue.get(no_ack=True).payload == [2]
    queue.delete()


def test_the_exchange_is_declared_when_publishing(lib: Library, connection: Any, name: str) -> None:
    """And what ``declare`` lists; nothing given is changed."""
    queue = lib.Queue(name, lib.Exchange(name), name)
    declare, headers = [queue], {"a": 1}
    producer = connection.Producer(exchange=queue.exchange)
    producer.publish("x", routing_key=name, declare=declare, headers=headers)
    assert declare[:1] == [queue]
    assert len(declare) == lib.either("declare-unchanged", kombu=2, actors=1)
    assert headers == {"a": 1}
    assert queue(connection).get(no_ack=True).payload == "x"
    producer.declare()
    queue(connection).delete()


def test_compressing_leaves_the_headers_alone(box: Box) -> None:
    """They may be used again."""
    headers = {"a": 1}
    box.publish("x", headers=headers, compression="zlib")
    kept = {"a": 1}
    changed = {"a": 1, "compression": "application/x-gzip"}
    assert headers == box.lib.either("headers-unchanged", kombu=changed, actors=kept)


def test_maybe_declare_declares_once(box: Box) -> None:
    """Per connection."""
    producer = box.connection.Producer()
    other = box.lib.Queue(f"{box.name}-other", durable=True)
    assert producer.maybe_declare(other)
    assert not producer.maybe_declare(other)
    assert producer.maybe_declare(None) is None
    other(box.connection).delete()


def test_a_message_nobody_gets_comes_back(amqp_box: Box) -> None:
    """To ``on_return``, when it was mandatory."""
    returned: list[Any] = []
    channel = amqp_box.connection.channel()
    producer = amqp_box.lib.Producer(channel, on_return=lambda *args: returned.append(args))
    if amqp_box.lib.either("mandatory-confirmed", kombu=True, actors=False):
        producer.publish("x", routing_key="nobody", mandatory=True)
    else:
        with pytest.raises(amqp.ChannelError):
            producer.publish("x", routing_key="nobody", mandatory=True)
    if not returned:
        amqp_box.connection.drain_events(timeout=5)
    error, exchange, routing_key, message = returned[0]
    assert isinstance(error, amqp.ChannelError)
    assert (exchange, routing_key) == ("", "nobody")
    assert message is not None
    channel.close()


def test_a_publish_ends_by_its_timeout(box: Box) -> None:
    """Which is accepted, in seconds."""
    box.publish("x", timeout=5)
    assert box.get(no_ack=True).payload == "x"


@pytest.mark.parametrize("body", [object(), {1, 2}.__iter__()])
def test_what_cannot_be_serialized_is_refused(box: Box, body: Any) -> None:
    """With ``EncodeError``, before anything is sent."""
    with pytest.raises(box.lib.module("exceptions").EncodeError):
        box.publish(body)
    assert box.get() is None


def test_an_unknown_serializer_is_refused(box: Box) -> None:
    """By name."""
    with pytest.raises(box.lib.module("exceptions").SerializerNotInstalled):
        box.publish("x", serializer="nosuch")


def test_producers_are_pickled_and_used_as_contexts(box: Box) -> None:
    """Without their channel."""
    with box.connection.Producer(routing_key=box.name, serializer="json") as producer:
        producer.publish("x")
        copied = pickle.loads(pickle.dumps(producer))
    assert (copied.routing_key, copied.serializer) == (box.name, "json")
    assert box.get(no_ack=True).payload == "x"
    producer.revive(box.connection.channel())
    producer.publish("y")
    assert box.get(no_ack=True).payload == "y"


# Consumer


def test_callbacks_get_body_and_message(box: Box) -> None:
    """All of them, in order; one more may be registered."""
    order: list[str] = []
    consumer = box.connection.Consumer(box.queue, callbacks=[box.take, lambda *_: order.append("second")])
    consumer.register_callback(lambda *_: order.append("third"))
    with consumer:
        box.publish({"a": 1})
        box.drain(1)
        assert consumer.consuming_from(box.name)
        assert consumer.consuming_from(box.queue)
    assert box.got == [{"a": 1}]
    assert order == ["second", "third"]
    assert not consumer.consuming_from(box.name)
    box.messages[0].ack()
    assert box.get() is None


def test_on_message_takes_the_callbacks_place(box: Box) -> None:
    """And gets the message undecoded."""
    with box.connection.Consumer(box.queue, on_message=lambda message: box.take(message.body, message)):
        box.publish([1], compression="zlib")
        box.drain(1)
    message = box.messages[0]
    assert message.payload == [1]
    assert box.got[0] in ("[1]", b"[1]")
    message.ack()


def test_no_ack_needs_no_acknowledgement(box: Box) -> None:
    """The broker has forgotten the message."""
    with box.connection.Consumer(box.queue, no_ack=True, callbacks=[box.take]):
        box.publish()
        box.drain(1)
    assert box.get() is None


def test_acknowledging_a_message_that_needs_none(amqp_box: Box) -> None:
    """The broker knows no such delivery, and closes the channel of who insists."""
    with amqp_box.connection.Consumer(amqp_box.queue, no_ack=True, callbacks=[amqp_box.take]):
        amqp_box.publish()
        amqp_box.drain(1)
    channel = amqp_box.connection.default_channel
    amqp_box.messages[0].ack()
    if amqp_box.lib.either("no-ack-acknowledged", kombu=True, actors=False):
        with pytest.raises(amqp.PreconditionFailed):
            amqp_box.connection.drain_events(timeout=5)
    else:
        amqp_box.nothing_comes()
        assert channel.is_open


def test_a_consumer_says_what_it_is_made_of(box: Box) -> None:
    """Documented attributes."""
    consumer = box.connection.Consumer([box.queue], callbacks=[box.take], accept=["json"], auto_declare=False)
    assert consumer.channel is box.connection.default_channel
    assert consumer.connection is box.connection
    assert [queue.name for queue in consumer.queues] == [box.name]
    assert (consumer.no_ack, consumer.auto_declare) == (None, False)
    assert (consumer.on_message, consumer.on_decode_error) == (None, None)
    assert consumer.callbacks == [box.take]
    assert consumer.accept == {"application/json"}
    consumer.declare()
    assert box.name in repr(consumer)


def test_queues_are_added_and_cancelled_one_by_one(box: Box) -> None:
    """``add_queue``, ``consume``, ``cancel_by_queue``, ``cancel``, ``close``."""
    other = box.lib.Queue(f"{box.name}-other", durable=True)
    consumer = box.connection.Consumer(box.queue, callbacks=[box.take])
    consumer.consume()
    consumer.add_queue(other)
    assert not consumer.consuming_from(other)
    consumer.consume()
    assert consumer.consuming_from(other)
    box.connection.Producer().publish("to the other", routing_key=other.name)
    box.drain(1)
    box.messages[0].ack()
    consumer.cancel_by_queue(other.name)
    assert not consumer.consuming_from(other)
    assert consumer.consuming_from(box.name)
    consumer.cancel()
    assert not consumer.consuming_from(box.name)
    consumer.close()
    other(box.connection).delete()


@pytest.mark.parametrize("end", ["release", "collect", "close"])
def test_cancelling_what_has_gone_with_its_channel_does_nothing(box: Box, end: str) -> None:
    """Celery cancels consumers after it has dropped their connection."""
    channel = box.connection.channel()
    consumer = box.connection.Consumer(box.queue, channel, callbacks=[box.take])
    consumer.consume()
    if end == "close":
        channel.close()
    else:
        getattr(box.connection, end)()
    consumer.cancel()
    assert not consumer.consuming_from(box.name)


def test_what_a_cancelled_consumer_had_no_time_for_goes_back(box: Box) -> None:
    """Nobody's messages are kept by a connection that goes on with something else."""
    for number in range(5):
        box.publish(number)
    with box.connection.Consumer(box.queue, callbacks=[box.take]):
        box.drain(1)
        box.messages[0].ack()
    with suppress(TimeoutError):
        while True:
            box.connection.drain_events(timeout=0.1)  # kombu puts them back here, one by one
    if box.lib.either("cancel-delivers", kombu=box.connection.as_uri().startswith("amqp"), actors=False):
        assert box.got == [0, 1, 2, 3, 4]
    else:
        assert box.got == [0]
        assert [box.get(no_ack=True).payload for _ in range(4)] == [1, 2, 3, 4]


def test_purge_counts(box: Box) -> None:
    """Over all queues."""
    for _ in range(3):
        box.publish()
    assert box.connection.Consumer(box.queue).purge() == 3
    assert box.get() is None


def test_prefetch_bounds_the_unacknowledged(box: Box) -> None:
    """By ``prefetch_count`` and by ``qos``."""
    for number in range(3):
        box.publish(number)
    with box.connection.Consumer(box.queue, callbacks=[box.take], prefetch_count=1) as consumer:
        box.drain(1)
        box.nothing_comes()
        box.messages[0].ack()
        box.drain(2)
        assert box.got == [0, 1]
        box.messages[1].ack()
        box.drain(3)
        box.messages[2].ack()
        consumer.qos(prefetch_size=0, prefetch_count=5, apply_global=False)


def test_recover_delivers_again(amqp_box: Box) -> None:
    """What wasn't acknowledged."""
    amqp_box.publish("again")
    with amqp_box.connection.Consumer(amqp_box.queue, callbacks=[amqp_box.take]) as consumer:
        amqp_box.drain(1)
        consumer.recover(requeue=True)
        amqp_box.drain(2)
        assert amqp_box.got == ["again", "again"]
        assert amqp_box.messages[1].delivery_info["redelivered"]
        amqp_box.messages[1].ack()


def test_flow_may_be_switched_on(amqp_box: Box) -> None:
    """RabbitMQ refuses to switch it off: 540, which closes kombu's connection."""
    amqp_box.connection.Consumer(amqp_box.queue).flow(True)


def test_what_cannot_be_decoded_goes_to_its_callback(box: Box) -> None:
    """Or is raised where events are drained."""
    failed: list[Any] = []
    box.publish(b"{not json", content_type="application/json", content_encoding="utf-8")
    consumer = box.connection.Consumer(
        box.queue, callbacks=[box.take], on_decode_error=lambda message, exc: failed.append((message, exc))
    )
    with consumer:
        box.connection.drain_events(timeout=5)
    message, error = failed[0]
    assert isinstance(error, box.lib.module("exceptions").DecodeError)
    message.reject()
    box.publish(b"{not json", content_type="application/json", content_encoding="utf-8")
    with (
        box.connection.Consumer(box.queue, callbacks=[box.take], no_ack=True),
        pytest.raises(box.lib.module("exceptions").DecodeError),
    ):
        box.connection.drain_events(timeout=5)
    assert not box.got


def test_content_that_is_not_accepted_is_refused(box: Box) -> None:
    """Never decoded."""
    box.publish([1], serializer="pickle")
    disallowed = box.lib.module("exceptions").ContentDisallowed
    with (
        box.connection.Consumer(box.queue, callbacks=[box.take], no_ack=True),
        pytest.raises(disallowed),
    ):
        box.connection.drain_events(timeout=5)
    assert issubclass(box.lib.Consumer.ContentDisallowed, disallowed)
    box.publish([1], serializer="pickle")
    with box.connection.Consumer(box.queue, callbacks=[box.take], no_ack=True, accept=["pickle"]):
        box.drain(1)


def test_a_consumer_without_callbacks_has_nobody_to_tell(box: Box) -> None:
    """An error, not a lost message."""
    box.publish()
    with box.connection.Consumer(box.queue, no_ack=True), pytest.raises(NotImplementedError):
        box.connection.drain_events(timeout=5)


def test_a_get_finds_earlier_publishes(lib: Library, url: str, connect: Callable[..., Any], name: str) -> None:
    """From the first publish on, also when nobody waits for confirms."""
    connection = connect(url, transport_options={} if url.startswith("amqp") else POLLED)
    queue = lib.Queue(name, durable=True)(connection)
    queue.declare()
    producer = connection.Producer(routing_key=name)
    for number in range(20):
        producer.publish(number)
        assert queue.get(no_ack=True).payload == number
    queue.delete()


# Message


def test_messages_are_decided_about_once(box: Box) -> None:
    """Acknowledged, rejected or requeued."""
    wrong = box.lib.module("exceptions").MessageStateError
    for decide, state in (("ack", "ACK"), ("reject", "REJECTED"), ("requeue", "REQUEUED")):
        box.publish(decide)
        message = box.get()
        assert not message.acknowledged
        getattr(message, decide)()
        assert message.acknowledged
        assert state
        for again in ("ack", "reject", "requeue"):
            with pytest.raises(wrong):
                getattr(message, again)()
    message = box.get(no_ack=True)
    assert message.payload == "requeue"
    simulated = box.connection.as_uri().startswith("memory")
    assert message.delivery_info.get("redelivered", False) is box.lib.either(
        "memory-redelivered", kombu=not simulated, actors=True
    )


def test_the_log_error_variants_raise_nothing(box: Box) -> None:
    """When all is well, they are the same."""
    import logging

    for decide in ("ack_log_error", "reject_log_error"):
        box.publish()
        getattr(box.get(), decide)(logging.getLogger("behaviour"), (OSError,))
    assert box.get() is None


def test_a_message_knows_where_it_came_from(box: Box) -> None:
    """Polled and consumed."""
    box.publish("polled")
    info = box.get(no_ack=True).delivery_info
    assert (info["exchange"], info["routing_key"], bool(info.get("redelivered"))) == (box.name, box.name, False)
    box.publish("consumed")
    with box.connection.Consumer(box.queue, callbacks=[box.take], tag_prefix="mine-"):
        box.drain(1)
    message = box.messages[0]
    message.ack()
    assert (message.delivery_info["exchange"], message.delivery_info["routing_key"]) == (box.name, box.name)
    assert message.delivery_tag is not None
    assert message.channel is box.connection.default_channel
    assert message.errors == []
    assert message.decode() == message.payload == "consumed"


def test_unacknowledged_messages_return_with_their_channel(box: Box) -> None:
    """To the queue."""
    channel = box.connection.channel()
    box.publish("back")
    assert box.queue(channel).get().payload == "back"
    assert box.get() is None
    channel.close()
    kept = box.connection.as_uri().startswith("memory")
    returned = box.get(no_ack=True)
    if box.lib.either("memory-requeues-on-close", kombu=kept, actors=False):
        assert returned is None
    else:
        assert returned.payload == "back"


# Serializers


def test_insecure_serializers_are_switched_on_and_off(lib: Library, box: Box) -> None:
    """For the whole process."""
    try:
        lib.enable_insecure_serializers(["pickle"])
        box.publish([1], serializer="pickle")
        assert box.get(no_ack=True).payload == [1]
    finally:
        lib.disable_insecure_serializers(["json"])
    box.publish([1], serializer="pickle")
    with pytest.raises(lib.module("exceptions").ContentDisallowed):
        _ = box.get(no_ack=True).payload
