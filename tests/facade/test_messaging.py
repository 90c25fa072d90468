"""Producers and consumers say kombu's words to their channel, and keep their hands off what is yours."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
from amqp.exceptions import ConnectionError, NotFound, RecoverableConnectionError

from kombu_actors import compression
from kombu_actors._values.model import Delivery
from kombu_actors.errors import ContentDisallowed, DecodeError, EncodeError, SerializerNotInstalled
from kombu_actors.message import Message
from kombu_actors.messaging import Consumer, Exchange, Producer, Queue
from tests.facade.recording import RecordingChannel, recording_channel, recording_connection


def published(channel: RecordingChannel) -> list[dict[str, Any]]:
    return channel.called("basic_publish")


def text_message(body: bytes = b'{"a": 1}', content_type: str = "application/json", **options: Any) -> Message:
    channel = options.pop("channel", None)
    properties = {"content_type": content_type, "content_encoding": "utf-8", **options}
    return Message.from_delivery(Delivery("t", 1, False, "", "q", properties, body), channel)


# Producer


def test_a_publish_says_what_kombu_says() -> None:
    """An empty header table and priority 0 included: they are on kombu's wire."""
    channel = recording_channel()
    answer: object = Producer(channel, routing_key="k").publish({"a": 1})
    assert answer == "published"
    assert published(channel) == [
        {
            "message": {
                "body": '{"a": 1}',
                "priority": 0,
                "content_type": "application/json",
                "content_encoding": "utf-8",
                "headers": {},
                "properties": {"delivery_mode": 2},
            },
            "exchange": "",
            "routing_key": "k",
            "mandatory": False,
            "immediate": False,
            "timeout": None,
            "confirm_timeout": None,
        }
    ]


def test_publish_takes_all_that_is_documented() -> None:
    """Each argument goes where it belongs."""
    channel = recording_channel()
    Producer(channel).publish(
        b"x", "k", "transient", True, False, 3, "image/png", "binary", None, {"h": 1}, None, Exchange("e"),
        expiration=1.5, timeout=2, confirm_timeout=3, correlation_id="c", reply_to=Queue("answers"),
    )  # fmt: skip
    sent = published(channel)[0]
    assert sent["message"] == {
        "body": b"x",
        "priority": 3,
        "content_type": "image/png",
        "content_encoding": "binary",
        "headers": {"h": 1},
        "properties": {"delivery_mode": 1, "expiration": "1500", "correlation_id": "c", "reply_to": "answers"},
    }
    assert (sent["exchange"], sent["routing_key"], sent["mandatory"]) == ("e", "k", True)
    assert (sent["timeout"], sent["confirm_timeout"]) == (2, 3)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"body": "text"}, (b"text", "text/plain", "utf-8")),
        ({"body": b"raw"}, (b"raw", "application/data", "binary")),
        ({"body": [1], "serializer": "json"}, ("[1]", "application/json", "utf-8")),
        ({"body": "é", "content_type": "text/html"}, ("é".encode(), "text/html", "utf-8")),
        ({"body": "é", "content_type": "a/b", "content_encoding": "latin-1"}, (b"\xe9", "a/b", "latin-1")),
        ({"body": b"x", "content_type": "a/b"}, (b"x", "a/b", "binary")),
        ({"body": b"x", "content_type": "a/b", "content_encoding": "utf-8"}, (b"x", "a/b", "utf-8")),
    ],
)
def test_content_type_and_encoding_match_the_body(given: dict[str, Any], expected: tuple[Any, ...]) -> None:
    """Serialized unless you say that you have done it."""
    channel = recording_channel()
    Producer(channel).publish(**given)
    message = published(channel)[0]["message"]
    assert (message["body"], message["content_type"], message["content_encoding"]) == expected


def test_the_producers_defaults_apply() -> None:
    """And each publish overrides them."""
    channel = recording_channel()
    producer = Producer(channel, Exchange("e", delivery_mode=1), "k", "pickle", False, "gzip")
    producer.publish([1])
    producer.publish([1], routing_key="", serializer="json", compression="", exchange="other", delivery_mode=2)
    first, second = published(channel)
    assert (first["exchange"], first["routing_key"]) == ("e", "k")
    assert first["message"]["content_type"] == "application/x-python-serialize"
    assert pickle.loads(compression.decompress(first["message"]["body"], "gzip")) == [1]
    assert first["message"]["headers"] == {"compression": "application/x-gzip"}
    assert first["message"]["properties"]["delivery_mode"] == 1
    assert (second["exchange"], second["routing_key"]) == ("other", "")
    assert (second["message"]["body"], second["message"]["headers"]) == ("[1]", {})
    assert second["message"]["properties"]["delivery_mode"] == 2


def test_an_exchange_given_by_name_has_the_default_exchanges_delivery_mode() -> None:
    """As in kombu."""
    channel = recording_channel()
    Producer(channel, Exchange("e", delivery_mode=1)).publish(1, exchange="other")
    assert published(channel)[0]["message"]["properties"]["delivery_mode"] == 1


def test_publish_changes_nothing_of_yours() -> None:
    """Not the headers (compression), not the list of declarations, not the policy."""
    channel = recording_channel()
    headers, declare, policy = {"a": 1}, [Queue("q")], {"max_retries": 1}
    producer = Producer(channel, Exchange("e"))
    producer.publish({}, headers=headers, compression="gzip", declare=declare, retry=True, retry_policy=policy)
    assert headers == {"a": 1}
    assert declare == [Queue("q")]
    assert policy == {"max_retries": 1}
    assert published(channel)[0]["message"]["headers"] == {"a": 1, "compression": "application/x-gzip"}


def test_the_exchange_is_declared_once_and_before_the_message() -> None:
    """And what ``declare`` lists before it."""
    channel = recording_channel()
    producer = Producer(channel, Exchange("e"))
    assert channel.calls == []
    producer.publish(1, declare=[Queue("q")])
    producer.publish(1, declare=[Queue("q")])
    assert channel.names() == ["queue_declare", "exchange_declare", "basic_publish", "basic_publish"]


def test_without_auto_declare_nothing_is_declared() -> None:
    """Until asked to."""
    channel = recording_channel()
    producer = Producer(channel, Exchange("e"), auto_declare=False)
    producer.publish(1)
    assert channel.names() == ["basic_publish"]
    producer.declare()
    producer.declare()
    assert len(channel.called("exchange_declare")) == 2
    assert producer.maybe_declare(Queue("q")) is True
    assert producer.maybe_declare(Queue("q")) is False
    assert producer.maybe_declare(None) is None


def test_an_exchange_may_be_given_by_name() -> None:
    """As documented; kombu fails there."""
    channel = recording_channel()
    Producer(channel, "e").publish(1)
    assert published(channel)[0]["exchange"] == "e"
    assert channel.called("exchange_declare")[0]["exchange"] == "e"


def test_a_producer_on_a_connection_opens_its_channel_at_the_first_publish() -> None:
    """Making one costs nothing, nor does looking at it."""
    connection = recording_connection()
    producer = Producer(connection, Exchange("e"), on_return=print)
    repr(producer)
    repr(producer.exchange)
    assert connection.opened == 0
    producer.publish(1)
    producer.publish(1)
    assert connection.opened == 1
    assert producer.connection is connection
    assert producer.channel is connection.default_channel
    assert producer.exchange.channel is connection.default_channel
    assert connection.default_channel.events["basic_return"] == {print}


def test_retrying_is_the_connections_ensure() -> None:
    """The policy is handed over, once, and kept nowhere; each attempt takes the channel of the moment."""
    connection = recording_connection()
    channel = recording_channel(connection)
    channel.failures["basic_publish"] = [RecoverableConnectionError("lost")]
    channel.failures["queue_declare"] = [RecoverableConnectionError("lost")]
    producer = Producer(channel)
    with pytest.raises(RecoverableConnectionError):
        producer.publish(1, declare=[Queue("q")], retry=True, retry_policy={"max_retries": 3})
    producer.publish(1, declare=[Queue("q")], retry=True)
    assert connection.ensured == [(producer, {"max_retries": 3}), (producer, {})]
    assert channel.names() == ["queue_declare", "basic_publish"]


def test_without_retry_the_error_comes_at_once() -> None:
    """No hidden second attempt."""
    channel = recording_channel()
    channel.failures["basic_publish"] = [RecoverableConnectionError("lost")]
    with pytest.raises(RecoverableConnectionError):
        Producer(channel).publish(1)
    assert channel.calls == []
    assert channel.connection.ensured == []


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"body": object()}, EncodeError),
        ({"body": {}, "serializer": "jsno"}, SerializerNotInstalled),
        ({"body": {}, "compression": "gzpi"}, EncodeError),
        ({"body": "é", "content_type": "text/plain", "content_encoding": "us-ascii"}, EncodeError),
        ({"body": "é", "content_type": "text/plain", "content_encoding": "nope"}, EncodeError),
        ({"body": {}, "expiration": -1}, ValueError),
        ({"body": {}, "expiration": float("nan")}, ValueError),
        ({"body": {}, "delivery_mode": "presistent"}, ValueError),
    ],
)
def test_a_bad_publish_fails_before_anything_is_sent(given: dict[str, Any], error: type[Exception]) -> None:
    """Not even the exchange is declared, nor a channel opened."""
    connection = recording_connection()
    with pytest.raises(error):
        Producer(connection, Exchange("e")).publish(**given, retry=True)
    assert connection.opened == 0


def test_returned_messages_have_their_callback() -> None:
    """Registered with the channel, also with the one it moves to."""
    first, second = recording_channel(), recording_channel()
    producer = Producer(first, on_return=print)
    producer.revive(second)
    assert first.events["basic_return"] == second.events["basic_return"] == {print}
    assert producer.channel is second
    assert producer.exchange.channel is second


def test_a_producer_is_pickled_without_its_channel() -> None:
    """With all its defaults; it gets a channel by ``revive``."""
    producer = Producer(recording_channel(), Exchange("e"), "k", "json", False, "gzip")
    copy = pickle.loads(pickle.dumps(producer))
    assert (copy.exchange, copy.routing_key, copy.serializer) == (Exchange("e"), "k", "json")
    assert (copy.auto_declare, copy.compression) == (False, "gzip")
    assert copy.connection is None
    channel = recording_channel()
    copy.revive(channel)
    copy.publish(1)
    assert len(published(channel)) == 1


def test_a_producer_is_a_context_manager() -> None:
    """Leaving it closes nothing that others use."""
    channel = recording_channel()
    with Producer(channel) as producer:
        producer.publish(1)
    producer.release()
    producer.close()
    assert channel.names() == ["basic_publish"]


def test_a_subclass_may_set_the_defaults() -> None:
    """kombu's attributes are class attributes."""

    class Telegraph(Producer):
        routing_key = "k"
        serializer = "pickle"
        auto_declare = False

    channel = recording_channel()
    Telegraph(channel, Exchange("e")).publish([1])
    assert published(channel)[0]["routing_key"] == "k"
    assert published(channel)[0]["message"]["content_type"] == "application/x-python-serialize"
    assert channel.names() == ["basic_publish"]


# Consumer


def consumer_of(channel: Any, *queues: Queue, **options: Any) -> Consumer:
    return Consumer(channel, list(queues) or [Queue("q")], **options)


def test_queues_are_declared_when_the_consumer_is_made() -> None:
    """One or several; not without ``auto_declare``."""
    channel = recording_channel()
    Consumer(channel, Queue("one"))
    Consumer(channel, [Queue("two"), Queue("three")])
    assert [one["queue"] for one in channel.called("queue_declare")] == ["one", "two", "three"]
    quiet = recording_channel()
    consumer = Consumer(quiet, Queue("q"), auto_declare=False)
    assert quiet.calls == []
    consumer.declare()
    assert quiet.names() == ["queue_declare"]


def test_consuming_subscribes_to_each_queue_once() -> None:
    """Under tags that begin with the prefix; later calls add what is new."""
    channel = recording_channel()
    consumer = consumer_of(channel, Queue("one"), Queue("two", no_ack=True), tag_prefix="worker-")
    consumer.consume()
    consumer.consume()
    consumer.add_queue(Queue("three"))
    assert consumer.consuming_from("one")
    assert consumer.consuming_from(Queue("two"))
    assert not consumer.consuming_from("three")
    consumer.consume(no_ack=True)
    subscribed = channel.called("basic_consume")
    assert [one["queue"] for one in subscribed] == ["one", "two", "three"]
    assert [one["no_ack"] for one in subscribed] == [False, True, True]
    tags = [one["consumer_tag"] for one in subscribed]
    assert len(set(tags)) == 3
    assert all(tag.startswith("worker-") for tag in tags)


def test_tags_without_prefix_are_kombus() -> None:
    """``None1``: monitoring knows them."""
    channel = recording_channel()
    consumer_of(channel).consume()
    tag = channel.called("basic_consume")[0]["consumer_tag"]
    assert tag.startswith("None")
    assert tag[4:].isdigit()


def test_the_consumers_no_ack_overrides_the_queues() -> None:
    """And ``consume``'s overrides both."""
    for consumers, queues, call, expected in (
        (None, True, None, True), (False, True, None, False), (True, False, None, True), (True, True, False, False),
    ):  # fmt: skip
        channel = recording_channel()
        consumer_of(channel, Queue("q", no_ack=queues), no_ack=consumers).consume(call)
        assert channel.called("basic_consume")[0]["no_ack"] is expected


def test_cancelling_ends_subscriptions() -> None:
    """All, or one queue's, which is forgotten."""
    channel = recording_channel()
    consumer = consumer_of(channel, Queue("one"), Queue("two"), Queue("three"))
    consumer.consume()
    tags = [one["consumer_tag"] for one in channel.called("basic_consume")]
    consumer.cancel_by_queue("two")
    consumer.cancel_by_queue(Queue("unheard-of"))
    assert [queue.name for queue in consumer.queues] == ["one", "three"]
    consumer.cancel()
    consumer.close()
    assert [one["consumer_tag"] for one in channel.called("basic_cancel")] == [tags[1], tags[0], tags[2]]
    assert not consumer.consuming_from("one")


def test_a_subscription_that_failed_can_be_tried_again() -> None:
    """It is not remembered as made."""
    channel = recording_channel()
    channel.failures["basic_consume"] = [NotFound("no queue")]
    consumer = consumer_of(channel)
    with pytest.raises(NotFound):
        consumer.consume()
    assert not consumer.consuming_from("q")
    consumer.consume()
    assert consumer.consuming_from("q")


def test_nameless_queues_are_all_consumed_from() -> None:
    """kombu keeps them by name, and so only the last."""
    channel = recording_channel()
    names = iter(["amq.gen-1", "amq.gen-2"])
    channel.queue_declare = lambda queue="", **options: (queue or next(names), 0, 0)
    consumer = consumer_of(channel, Queue(), Queue())
    consumer.consume()
    assert [one["queue"] for one in channel.called("basic_consume")] == ["amq.gen-1", "amq.gen-2"]


def test_a_queue_of_the_same_name_replaces_the_former() -> None:
    """As in kombu."""
    channel = recording_channel()
    consumer = consumer_of(channel, Queue("q", routing_key="old"), Queue("q", routing_key="new"))
    assert [queue.routing_key for queue in consumer.queues] == ["new"]


def test_a_context_consumes_and_cancels() -> None:
    """Also when the body failed, even with a connection error: it would be restored otherwise."""
    for error in (None, ValueError, RecoverableConnectionError):
        channel = recording_channel()
        consumer = consumer_of(channel)
        try:
            with consumer as same:
                assert same is consumer
                assert consumer.consuming_from("q")
                if error is not None:
                    raise error
        except (ValueError, RecoverableConnectionError):
            assert error is not None
        assert len(channel.called("basic_cancel")) == 1


def test_leaving_a_context_does_not_hide_why(caplog: pytest.LogCaptureFixture) -> None:
    """Nor fail because there is nothing left to cancel; any other error is no expected one."""
    channel = recording_channel()
    channel.failures["basic_cancel"] = [ConnectionError("lost"), KeyError("bug")]
    with pytest.raises(ValueError, match="body"), consumer_of(channel):
        raise ValueError("body")
    assert "was not cancelled" in caplog.text
    with pytest.raises(KeyError), consumer_of(channel):
        pass


def test_prefetch_count_is_set_before_consuming() -> None:
    """So that no message comes too early; ``qos`` changes it."""
    channel = recording_channel()
    consumer = consumer_of(channel, prefetch_count=10)
    consumer.consume()
    consumer.qos(prefetch_count=5, apply_global=True)
    assert channel.names() == ["queue_declare", "basic_qos", "basic_consume", "basic_qos"]
    assert channel.called("basic_qos") == [
        {"size": 0, "count": 10, "a_global": False},
        {"size": 0, "count": 5, "a_global": True},
    ]


def test_the_other_verbs_reach_the_channel() -> None:
    """purge, flow, recover."""
    channel = recording_channel()
    consumer = consumer_of(channel, Queue("one"), Queue("two"))
    assert consumer.purge() == 10
    consumer.flow(False)
    consumer.recover(requeue=True)
    assert channel.called("flow") == [{"args": (False,)}]
    assert channel.called("basic_recover") == [{"requeue": True}]


def test_moving_to_another_channel_restores_what_was_consumed() -> None:
    """With its own no_ack, and nothing more."""
    first, second = recording_channel(), recording_channel()
    consumer = consumer_of(first, Queue("one"), prefetch_count=3)
    consumer.consume(no_ack=True)
    consumer.add_queue(Queue("two"))
    consumer.revive(second)
    assert second.names() == ["queue_declare", "queue_declare", "basic_qos", "basic_consume"]
    assert second.called("basic_consume")[0]["no_ack"] is True
    assert all(queue.channel is second for queue in consumer.queues)


def test_a_consumer_without_channel_gets_one_later() -> None:
    """Nothing is declared before."""
    assert Consumer(None).connection is None
    consumer = Consumer(None, Queue("q"))
    channel = recording_channel()
    consumer.revive(channel)
    assert consumer.connection is channel.connection
    assert channel.names() == ["queue_declare"]


def test_callbacks_are_called_in_order_with_the_decoded_body() -> None:
    """Those given and those registered."""
    heard: list[Any] = []
    consumer = consumer_of(None, callbacks=[lambda body, message: heard.append(("first", body, message))])
    consumer.register_callback(lambda body, message: heard.append(("second", body, message)))
    message = text_message()
    consumer._receive_callback(message)
    assert heard == [("first", {"a": 1}, message), ("second", {"a": 1}, message)]


def test_callbacks_of_one_consumer_are_not_anothers() -> None:
    """Neither by default nor by subclass."""

    class Listener(Consumer):
        callbacks: Any = (print,)

    one, other = Listener(None), Listener(None)
    one.register_callback(lambda body, message: None)
    assert other.callbacks == [print]
    assert Consumer(None).callbacks == []


def test_a_message_without_anyone_to_take_it_is_an_error() -> None:
    """kombu's."""
    with pytest.raises(NotImplementedError, match="does not have any callbacks"):
        consumer_of(None)._receive_callback(text_message())


def test_on_message_gets_the_message_undecoded() -> None:
    """But decompressed; callbacks are not called."""
    heard: list[Message] = []
    consumer = consumer_of(None, on_message=heard.append, callbacks=[lambda body, message: pytest.fail("called")])
    body, method = compression.compress(b"not json", "gzip")
    consumer._receive_callback(text_message(body, headers={"compression": method}))
    assert heard[0].body == b"not json"


BAD: list[Callable[[], Message]] = [
    lambda: text_message(b"not json"),
    lambda: text_message(b"x", headers={"compression": "gzip"}),
    lambda: text_message(b"x", "application/x-python-serialize"),
]


@pytest.mark.parametrize("bad", BAD)
def test_a_message_that_cannot_be_decoded_goes_to_on_decode_error(bad: Callable[[], Message]) -> None:
    """With the reason; without it the reason is raised."""
    heard: list[tuple[Message, Exception]] = []
    message = bad()
    consumer = consumer_of(
        None, callbacks=[lambda *args: pytest.fail("called")], on_decode_error=lambda *args: heard.append(args)
    )
    consumer._receive_callback(message)
    assert [one for one, _ in heard] == [message]
    assert isinstance(heard[0][1], (DecodeError, ContentDisallowed))
    with pytest.raises((DecodeError, ContentDisallowed)):
        consumer_of(None)._receive_callback(bad())


def test_a_message_that_cannot_be_unpacked_never_reaches_on_message() -> None:
    """There is no body to give it."""
    heard: list[Any] = []
    bad = text_message(b"x", headers={"compression": "gzip"})
    consumer = consumer_of(None, on_message=lambda message: pytest.fail("called"))
    with pytest.raises(DecodeError):
        consumer._receive_callback(bad)
    consumer.on_decode_error = lambda *args: heard.append(args)
    consumer._receive_callback(bad)
    assert heard[0][0] is bad


def test_errors_of_a_callback_are_no_decode_errors() -> None:
    """They are the application's, and raised to it."""
    consumer = consumer_of(
        None,
        callbacks=[lambda body, message: [][1]],
        on_decode_error=lambda message, exc: pytest.fail("taken for a decode error"),
    )
    with pytest.raises(IndexError):
        consumer._receive_callback(text_message())


def test_accept_limits_what_is_decoded() -> None:
    """Names or content types; other messages are refused with the consumer's own list."""
    heard: list[Any] = []
    consumer = consumer_of(None, accept=["pickle", "text/plain"], callbacks=[lambda body, _: heard.append(body)])
    consumer._receive_callback(text_message(pickle.dumps([1]), "application/x-python-serialize"))
    consumer._receive_callback(text_message(b"x", "text/plain"))
    with pytest.raises(ContentDisallowed):
        consumer._receive_callback(text_message())
    assert heard == [[1], "x"]
    with pytest.raises(SerializerNotInstalled):
        consumer_of(None, accept=["jsno"])


def test_a_repr_names_the_queues() -> None:
    """As kombu's does."""
    assert repr(Consumer(None, Queue("q"))) == ("<Consumer: [<unbound Queue q -> <unbound Exchange ''(direct)> -> >]>")
