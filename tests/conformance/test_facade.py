"""The documented blocking API over every transport: what the native API's tests can't speak for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kombu_actors import Connection, Exchange, Queue
from kombu_actors.errors import PublishRefused, PublishReturned, StaleDelivery
from kombu_actors.message import Message
from tests.support.processes import wait_until

from .native import PATIENCE
from .realms import Realm

HARM = pytest.mark.parametrize("harm", ["drop_connections", "cut_connections"])


def drain(connection: Connection, done: Callable[[], object]) -> None:
    """Handle events until a condition holds."""
    while not done():
        connection.drain_events(timeout=PATIENCE)


@HARM
def test_a_consumer_goes_on_after_a_loss(realm: Realm, connection: Connection, harm: str) -> None:
    """``drain_events`` rides it out: topology, QoS and consumer are restored, and the caller does nothing."""
    got: list[Message] = []
    exchange = Exchange("news", "topic", durable=False, auto_delete=True)
    mine = Queue("mine", exchange, "news.#", exclusive=True, durable=False)
    producer = connection.Producer(exchange=exchange)
    with connection.Consumer([mine], on_message=got.append, prefetch_count=2):
        for round in range(3):
            got.clear()
            for number in range(4):
                producer.publish(number, f"news.{round}", retry=True, mandatory=True)
            drain(connection, lambda: len(got) == 2)
            assert realm.depths() == {"mine": 2}
            epochs = connection.connect().sessions
            getattr(realm, harm)()
            wait_until(later_session(connection, epochs), timeout=PATIENCE, waiting_for="the next session")


def later_session(connection: Connection, epochs: int) -> Callable[[], bool]:
    """Whether a session after that one is up."""
    session = connection.connect().actor.session
    return lambda: connection.connected and session.epochs > epochs


@HARM
def test_a_stale_ack_goes_nowhere(realm: Realm, connection: Connection, harm: str) -> None:
    """StaleDelivery; ``ack_log_error`` logs it; the message comes again under a tag of its own."""
    queue = Queue("q")
    got: list[Message] = []
    connection.Producer().publish("m", routing_key="q", declare=[queue])
    with connection.Consumer([queue], on_message=got.append):
        drain(connection, lambda: got)
        getattr(realm, harm)()
        drain(connection, lambda: len(got) == 2)
        old, new = got
        with pytest.raises(StaleDelivery, match="nothing was sent"):
            old.ack()
        assert isinstance(StaleDelivery(), connection.connection_errors)
        assert new.delivery_info["redelivered"]
        assert new.delivery_tag > old.delivery_tag
        new.ack()
    wait_until(lambda: realm.depths() == {"q": 0}, timeout=PATIENCE, waiting_for="the ack")


def test_prefetch_is_for_each_consumer_of_a_channel(realm: Realm, connection: Connection) -> None:
    """Two of them hold a message each; where prefetch is the channel's they hold one between them."""
    got: list[Message] = []
    queues = [Queue("a"), Queue("b")]
    for queue in queues:
        for number in range(2):
            connection.Producer().publish(number, routing_key=queue.name, declare=[queue])
    with connection.Consumer(queues, on_message=got.append, prefetch_count=1):
        held = 2 if realm.able.consumer_prefetch else 1
        for settled in range(4):
            count = min(settled + held, 4)
            while len(got) < count:
                connection.drain_events(timeout=PATIENCE)
            assert len(got) == count
            assert sum(realm.depths().values()) == 4 - len(got)
            got[settled].ack()


def test_a_queue_the_broker_named_is_followed(realm: Realm, connection: Connection) -> None:
    """Consumer, bindings and publishes to its first name go to the queue of the present session."""
    got: list[Any] = []
    channel = connection.channel()
    name = channel.queue_declare("", exclusive=True).queue
    channel.queue_bind(name, "amq.fanout")
    channel.basic_consume(name, callback=lambda message: got.append(message.payload), no_ack=True)
    realm.drop_connections()
    wait_until(lambda: realm.depths() and name not in realm.depths(), timeout=PATIENCE, waiting_for="a new name")
    channel.wait_open(PATIENCE)
    producer = connection.Producer(channel)
    producer.publish("all", exchange="amq.fanout", mandatory=True)
    producer.publish("mine", routing_key=name, mandatory=True)
    drain(connection, lambda: len(got) == 2)
    assert got == ["all", "mine"]


def test_what_became_of_a_publish_is_told(connection: Connection) -> None:
    """With ``confirm_publish``: returned and refused publishes raise, each its own."""
    Queue("full", max_length=1, queue_arguments={"x-overflow": "reject-publish"})(connection).declare()
    producer = connection.Producer()
    producer.publish(1, routing_key="full", mandatory=True)
    with pytest.raises(PublishRefused, match="'full'"):
        producer.publish(2, routing_key="full", mandatory=True)
    with pytest.raises(PublishReturned, match="'nowhere'"):
        producer.publish(3, routing_key="nowhere", mandatory=True)
    assert isinstance(PublishRefused(), connection.recoverable_connection_errors)


def test_the_documented_queue_options_mean_the_same(realm: Realm, connection: Connection) -> None:
    """In seconds: ``message_ttl``, ``expires``, a message's ``expiration``; and ``max_length``, ``max_priority``."""
    dead = Queue("dead", Exchange("dlx", "fanout"))
    queues = [
        dead,
        Queue("ttl", message_ttl=0.05, queue_arguments={"x-dead-letter-exchange": "dlx"}),
        Queue("short", max_length=1),
        Queue("ranked", max_priority=9),
        Queue("fleeting", expires=0.1),
    ]
    producer = connection.Producer()
    messages: list[tuple[str, dict[str, Any]]] = [
        ("ttl", {}), ("short", {}), ("short", {}), ("ranked", {"priority": 1}), ("ranked", {"priority": 7}),
        ("short", {"expiration": 0.0}),
    ]  # fmt: skip
    for payload, (name, options) in enumerate(messages):
        producer.publish(payload, routing_key=name, declare=queues, **options)
    expected = {"dead": 1, "ttl": 0, "short": 0, "ranked": 2}
    wait_until(lambda: realm.depths() == expected, timeout=PATIENCE, waiting_for=f"{expected}, not {realm.depths()}")
    ranked = queues[3](connection)
    assert [message.payload for message in (ranked.get(), ranked.get()) if message] == [4, 3]
    letter = dead(connection).get()
    assert letter is not None
    assert (letter.headers["x-death"][0]["reason"], letter.headers["x-death"][0]["queue"]) == ("expired", "ttl")


def test_recover_brings_unsettled_messages_back(connection: Connection) -> None:
    """All of the channel's, marked; ``requeue=False`` is refused by RabbitMQ, and so everywhere."""
    queue = Queue("q")
    for number in range(3):
        connection.Producer().publish(number, routing_key="q", declare=[queue])
    channel = connection.channel()
    taken = [channel.basic_get("q") for _ in range(3)]
    assert all(taken)
    channel.basic_recover(requeue=True)
    again = [channel.basic_get("q") for _ in range(3)]
    assert [(m.payload, m.delivery_info["redelivered"]) for m in again if m] == [(0, True), (1, True), (2, True)]


def test_a_deleted_queue_is_told_and_restored(realm: Realm, connection: Connection) -> None:
    """``on_cancel`` hears of it; the queue is declared again, and the consumer gets what comes then."""
    got: list[Any] = []
    cancelled: list[str] = []
    channel = connection.channel()
    Queue("q", Exchange("x"), "k")(channel).declare()
    channel.basic_consume(
        "q", "tag", callback=lambda message: got.append(message.payload), on_cancel=cancelled.append, no_ack=True
    )
    with realm.connect() as other:
        other.default_channel.queue_delete("q")
    drain(connection, lambda: cancelled)
    assert cancelled == ["tag"]
    producer = connection.Producer(exchange="x", auto_declare=False)
    wait_until(lambda: realm.depths() == {"q": 0}, timeout=PATIENCE, waiting_for="the queue")
    channel.wait_open(PATIENCE)
    producer.publish("m", "k", mandatory=True, retry=True, retry_policy={"retry_errors": (PublishReturned,)})
    drain(connection, lambda: got)
    assert got == ["m"]


def test_what_a_transport_can_do_is_as_documented(realm: Realm, connection: Connection) -> None:
    """The table of docs/capabilities.md, of every transport tested here."""
    able = connection.transport_driver.capabilities
    assert able.confirms
    assert able.server_named_queues
    assert able.exchange_types == {"direct", "topic", "fanout", "headers"}
    assert able.heartbeats is realm.able.heartbeats
