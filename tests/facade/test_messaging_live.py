"""Documented behaviour of entities, producers and consumers, on brokers: in memory and RabbitMQ."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import count
from typing import Any

import amqp
import pytest
from amqp.exceptions import ChannelError, NotFound

from kombu_actors import Connection, Consumer, Exchange, Producer, Queue, binding
from kombu_actors.errors import ContentDisallowed, MessageStateError, PublishReturned
from kombu_actors.message import Message
from kombu_actors.utils.uuid import uuid

kombu: Any = import_module("kombu")
numbers = count(1)


@pytest.fixture(params=["memory", "amqp"])
def url(request: pytest.FixtureRequest) -> str:
    """A broker of this test's own."""
    if request.param == "amqp":
        found: str = request.getfixturevalue("amqp_url")
        return found
    return f"memory://{uuid()}"


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    """A connection to it, whose publishes return when the broker has the message: then it can be polled."""
    with Connection(url, transport_options={"confirm_publish": True}) as made:
        yield made


@pytest.fixture
def name() -> str:
    """A name nobody else uses."""
    return f"facade-{next(numbers)}"


def drain(connection: Connection, messages: int, timeout: float = 5) -> None:
    """Have that many messages handled."""
    for _ in range(messages):
        connection.drain_events(timeout=timeout)


def nothing_comes(connection: Connection) -> None:
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.2)


def get(queue: Queue, **options: Any) -> Message:
    message: Message | None = queue.get(**options)
    assert message is not None
    return message


def test_a_message_goes_from_producer_to_callback(connection: Connection, name: str) -> None:
    """Body, headers, properties and how it came; nobody declared anything by hand."""
    exchange = Exchange(name, "topic")
    heard: list[tuple[Any, Message]] = []
    with connection.Consumer(Queue(name, exchange, "news.#"), callbacks=[lambda *args: heard.append(args)]):
        producer = connection.Producer(exchange=exchange)
        producer.publish(
            {"a": [1, None, "é"]}, "news.eu", headers={"h": {"deep": 1}}, compression="gzip", correlation_id="c",
            reply_to=Queue("answers"), priority=3, message_id="m",
        )  # fmt: skip
        drain(connection, 1)
    body, message = heard[0]
    assert body == message.payload == {"a": [1, None, "é"]}
    assert message.headers == {"h": {"deep": 1}, "compression": "application/x-gzip"}
    assert (message.delivery_info["exchange"], message.delivery_info["routing_key"]) == (name, "news.eu")
    assert not message.delivery_info["redelivered"]
    expected = {"correlation_id": "c", "reply_to": "answers", "priority": 3, "delivery_mode": 2, "message_id": "m"}
    assert expected.items() <= message.properties.items()
    message.ack()
    with pytest.raises(MessageStateError):
        message.ack()


@pytest.mark.parametrize("body", [{"a": 1}, "text é", b"\xff\x00", [], None, "", b"", 0, "x" * 300_000])
def test_bodies_come_back(connection: Connection, name: str, body: Any) -> None:
    """Whatever they are, by polling."""
    queue = Queue(name)(connection)
    queue.declare()
    Producer(connection, routing_key=name).publish(body)
    message = get(queue)
    assert message.payload == body
    message.ack()
    assert queue.get() is None


def test_get_respects_no_ack_and_accept(connection: Connection, name: str) -> None:
    """No acknowledgement needed, and nothing decoded that isn't accepted."""
    queue = Queue(name)(connection)
    queue.declare()
    producer = Producer(connection, routing_key=name, serializer="pickle")
    producer.publish([1])
    producer.publish([2])
    refused = get(queue, no_ack=True)
    with pytest.raises(ContentDisallowed):
        refused.decode()
    refused.ack()
    accepted = get(queue, accept=["pickle"])
    assert accepted.payload == [2]
    accepted.ack()


def test_unbound_routing(connection: Connection, name: str) -> None:
    """Exchange to exchange to queue; several bindings; unbinding ends it."""
    source, target = Exchange(f"{name}.from", "fanout")(connection), Exchange(f"{name}.to", "topic")(connection)
    queue = Queue(name, [binding(Exchange(target.name, "topic"), "a.*"), binding(Exchange(target.name, "topic"), "b")])
    queue = queue(connection)
    queue.declare()
    source.declare()
    target.bind_to(source)
    for key in ("a.b", "b", "c"):
        source.publish(key, routing_key=key)
    got = [get(queue, no_ack=True).body for _ in range(2)]
    assert sorted(body if isinstance(body, str) else body.decode() for body in got) == ["a.b", "b"]
    target.unbind_from(source)
    source.publish("a.b", routing_key="a.b")
    assert queue.get() is None
    target.delete()
    source.delete()
    assert queue.delete() == 0


def test_passive_declarations_check_and_create_nothing(connection: Connection, name: str) -> None:
    """The error is the channel's, and the channel goes on working."""
    declarations: list[Callable[..., Any]] = [
        Exchange(name)(connection).declare,
        Queue(name)(connection).queue_declare,
    ]
    for declare in declarations:
        with pytest.raises(NotFound) as caught:
            declare(passive=True)
        assert isinstance(caught.value, ChannelError)
        assert isinstance(caught.value, connection.channel_errors)
    heard: list[tuple[str, int, int]] = []
    Queue(name, on_declared=lambda *args: heard.append(args))(connection).declare()
    Queue(name)(connection).queue_declare(passive=True)
    assert heard == [(name, 0, 0)]


def test_a_nameless_queue_gets_a_name(connection: Connection, name: str) -> None:
    """And is bound, consumed from and purged by it."""
    exchange = Exchange(name, "fanout")
    queue = Queue(exchange=exchange, exclusive=True)(connection)
    assert queue.declare() == queue.name
    assert queue.name
    Producer(connection, exchange).publish("x")
    assert get(queue, no_ack=True).payload == "x"


def test_rejected_and_requeued_messages(connection: Connection, name: str) -> None:
    """Gone, or back and marked."""
    queue = Queue(name)(connection)
    queue.declare()
    Producer(connection, routing_key=name).publish("x")
    get(queue).requeue()
    again = get(queue)
    assert again.delivery_info["redelivered"]
    again.reject(requeue=True)
    get(queue).reject()
    assert queue.get() is None


def test_unacknowledged_messages_return_when_their_channel_closes(connection: Connection, name: str) -> None:
    """To whoever asks next."""
    channel = connection.channel()
    queue = Queue(name)(channel)
    queue.declare()
    Producer(channel, routing_key=name).publish("x")
    get(queue)
    channel.close()
    assert get(Queue(name)(connection)).delivery_info["redelivered"]


def test_prefetch_bounds_what_is_unacknowledged(connection: Connection, name: str) -> None:
    """Until something is acknowledged; ``no_ack`` consumers aren't bound."""
    held: list[Message] = []
    producer = Producer(connection, routing_key=name)
    with Consumer(connection, Queue(name), on_message=held.append, prefetch_count=2):
        for number in range(4):
            producer.publish(number)
        drain(connection, 2)
        nothing_comes(connection)
        held[0].ack()
        drain(connection, 1)
        nothing_comes(connection)
    assert [message.payload for message in held] == [0, 1, 2]


def test_consumers_come_and_go(connection: Connection, name: str) -> None:
    """Queues are added and cancelled one by one; the consumer is left with all of them."""
    heard: list[Any] = []
    consumer = Consumer(connection, Queue(f"{name}.1"), callbacks=[lambda body, _: heard.append(body)], no_ack=True)
    producer = Producer(connection)
    with consumer:
        consumer.add_queue(Queue(f"{name}.2"))
        producer.publish("early", routing_key=f"{name}.2")
        nothing_comes(connection)
        consumer.consume()
        drain(connection, 1)
        consumer.cancel_by_queue(f"{name}.1")
        producer.publish("unheard", routing_key=f"{name}.1")
        nothing_comes(connection)
    producer.publish("late", routing_key=f"{name}.2")
    nothing_comes(connection)
    assert heard == ["early"]
    consumer.add_queue(Queue(f"{name}.1"))
    assert consumer.purge() == 2


def test_mandatory_messages_come_back(url: str, connection: Connection, name: str) -> None:
    """To ``on_return``, while the connection drains events; a publish that waits for its outcome raises it."""
    returned: list[tuple[Any, ...]] = []
    with Connection(url) as unconfirmed:
        producer = Producer(unconfirmed, on_return=lambda *args: returned.append(args))
        producer.publish("x", routing_key=name, mandatory=True)
        drain(unconfirmed, 1)
    error, exchange, routing_key, _ = returned[0]
    assert isinstance(error, ChannelError)
    assert (exchange, routing_key) == ("", name)
    with pytest.raises(PublishReturned, match=name):
        Producer(connection).publish("x", routing_key=name, mandatory=True)


def test_declarations_are_sent_once_per_connection(connection: Connection, name: str) -> None:
    """The cache is the connection's, documented as a set."""
    producer = Producer(connection, Exchange(name), routing_key="k")
    queue = Queue(name, Exchange(name), "k")
    assert producer.maybe_declare(queue) is True
    assert producer.maybe_declare(queue) is False
    producer.publish("x", declare=[queue])
    assert get(queue(connection)).payload == "x"
    assert len(connection.declared_entities) == 2
    connection.declared_entities.clear()
    assert producer.maybe_declare(queue) is True


def test_publishing_with_retry(connection: Connection, name: str) -> None:
    """Through the connection's ``ensure``, whose options it leaves alone."""
    options = dict(connection.transport_options)
    queue = Queue(name)
    Producer(connection, routing_key=name).publish(
        "x", retry=True, retry_policy={"max_retries": 3, "interval_start": 0}, declare=[queue]
    )
    assert get(queue(connection)).payload == "x"
    assert connection.transport_options == options


def test_messages_expire(connection: Connection, name: str) -> None:
    """After ``expiration`` seconds; the queue's ``message_ttl`` does it for all."""
    dead = Queue(f"{name}.dead")
    heard: list[Message] = []
    with Consumer(connection, dead, on_message=heard.append):
        for queue, expiration in ((Queue(name), 0.05), (Queue(f"{name}.ttl", message_ttl=0.05), None)):
            queue.queue_arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead.name}
            producer = Producer(connection, routing_key=queue.name)
            producer.publish(queue.name, declare=[queue], expiration=expiration)
            drain(connection, 1)
            assert queue(connection).get() is None
    assert [message.payload for message in heard] == [name, f"{name}.ttl"]


# On the wire of RabbitMQ, beside kombu itself.

SAID: list[tuple[Any, dict[str, Any]]] = [
    ({"a": 1, "é": [1.5, None]}, {}),
    ("text é", {"headers": {"x": 1, "nested": {"y": [1, "z"]}}}),
    (b"\x00\xff", {"priority": 4, "delivery_mode": "transient"}),
    ([1], {"serializer": "pickle", "compression": "bzip2", "expiration": 60}),
    ({"a": b"\xff"}, {"correlation_id": "c", "reply_to": "r", "message_id": "m", "type": "t", "app_id": "a"}),
    ("<p>", {"content_type": "text/html"}),
]


@pytest.mark.parametrize(("body", "options"), SAID)
def test_a_publish_is_kombus_on_the_wire(amqp_url: str, name: str, body: Any, options: dict[str, Any]) -> None:
    """py-amqp, which is no part of either, receives the same body and the same properties."""
    options_of_both = {"confirm_publish": True}
    with (
        Connection(amqp_url, transport_options=options_of_both) as ours,
        kombu.Connection(amqp_url, transport_options=options_of_both) as theirs,
    ):
        queue = Queue(name)(ours)
        queue.declare()
        channel = theirs.default_channel
        seen = []
        for producer in (Producer(ours, routing_key=name), kombu.Producer(theirs, routing_key=name)):
            producer.publish(body, **options)
            message = amqp.Channel.basic_get(channel, name, no_ack=True)
            seen.append((message.body, message.properties))
        assert seen[0] == seen[1]


@pytest.mark.parametrize(("body", "options"), SAID)
def test_a_fleet_may_be_mixed(amqp_url: str, name: str, body: Any, options: dict[str, Any]) -> None:
    """What either publishes the other receives, and shows in the same way."""
    accept = ["json", "pickle", "text/plain", "text/html", "application/data"]
    with Connection(amqp_url) as ours, kombu.Connection(amqp_url) as theirs:
        Queue(name)(ours).declare()
        shown = []
        for sender, receiver, module in ((theirs, ours, None), (ours, theirs, kombu)):
            heard: list[Any] = []
            consumer = (module.Consumer if module else Consumer)(
                receiver,
                (module.Queue if module else Queue)(name),
                accept=accept,
                on_message=heard.append,
                auto_declare=False,
            )
            sender.Producer(routing_key=name).publish(body, **options)
            with consumer:
                receiver.drain_events(timeout=5)
            message = heard[0]
            info = {key: value for key, value in message.delivery_info.items() if key != "consumer_tag"}
            shown.append(
                (message.payload, message.body, message.headers, message.properties, info, message.content_type)
            )
            message.ack()
        assert shown[0] == shown[1]
        assert pickle.dumps(shown[0][0]) == pickle.dumps(body)
