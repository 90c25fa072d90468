"""One limit for the bodies that are sent and received; what is over it costs nobody else anything."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from amqp.exceptions import ContentTooLarge

from kombu_actors import Connection, Consumer, Producer, Queue
from kombu_actors.broker import ExchangeSpec
from tests.support.processes import wait_until

from .native import PATIENCE, payloads, queue, ready, restarted, take, to_queue
from .realms import ABLE, REALMS, Realm

LIMIT = 1_000
LARGE = "x" * (3 * 131_072)
"""Several AMQP frames."""


@pytest.fixture(params=["amqp", "memory", "redis"])
def realm(request: pytest.FixtureRequest) -> Iterator[Realm]:
    """A broker that takes more than a client of ours does."""
    yield from REALMS[request.param](request)


async def test_publishing_more_is_a_value_error_and_nothing_is_sent(realm: Realm) -> None:
    """The option has the same name everywhere; the error says what to do."""
    async with realm.open_broker(body_max=LIMIT) as broker:
        await queue(broker, "q")
        with pytest.raises(ValueError, match=r"body has 1001 bytes, and body_max allows 1000: raise"):
            await broker.publish(b"x" * 1001, routing_key="q", content_type="application/octet-stream")
        await broker.publish(b"x" * 1000, routing_key="q", content_type="application/octet-stream")
        assert await ready(broker, "q") == 1
        assert restarted(broker) == []


def test_publishing_more_is_a_value_error_in_the_blocking_api_too(realm: Realm) -> None:
    """Before anything is accepted; the channel goes on."""
    with realm.connect(transport_options={"body_max": LIMIT, "confirm_publish": True}) as connection:
        producer = Producer(connection)
        with pytest.raises(ValueError, match="body_max allows 1000"):
            producer.publish(LARGE, routing_key="q")
        producer.publish("small", routing_key="q", declare=[Queue("q")])


@pytest.mark.parametrize("wrong", [0, -1, "64 MiB", True, 1.5])
def test_a_limit_that_is_none_is_refused(realm: Realm, wrong: Any) -> None:
    """When the connection is made."""
    with pytest.raises(ValueError, match="body_max must be a number of bytes above 0"):
        realm.connect(transport_options={"body_max": wrong})


async def test_a_delivery_over_the_limit_is_dead_lettered_and_the_next_message_comes(
    realm: Realm, caplog: pytest.LogCaptureFixture
) -> None:
    """An ERROR names queue, exchange, size and limit; the channel lives, and the message takes no prefetch."""
    async with realm.open_broker() as other, realm.open_broker(body_max=LIMIT) as broker:
        await other.declare(ExchangeSpec(name="x"))
        await queue(other, "dead")
        await queue(other, "q", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
        await other.declare(to_queue("q", "x", "k"))
        async with broker.subscribe("q", prefetch=1) as messages:
            for body in (1, LARGE, 2, LARGE, LARGE, 3):
                await other.publish(body, exchange="x", routing_key="k")
            for number in (1, 2, 3):
                assert await payloads(messages, 1) == [number]
            assert restarted(broker) == []
        async with other.subscribe("dead") as dead:
            assert await payloads(dead, 3) == [LARGE] * 3
        assert await ready(other, "q") == 0
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 3
    for text in (f"{len(LARGE)} bytes", "'x'", "queue 'q'", "body_max, 1000", "rejected"):
        assert text in errors[0]


async def test_with_no_ack_a_delivery_over_the_limit_is_lost_and_logged(
    realm: Realm, caplog: pytest.LogCaptureFixture
) -> None:
    """There is nothing to reject; the next message comes."""
    async with realm.open_broker() as other, realm.open_broker(body_max=LIMIT) as broker:
        await queue(other, "q")
        async with broker.subscribe("q", no_ack=True) as messages:
            await other.publish(LARGE, routing_key="q")
            await other.publish("next", routing_key="q")
            (message,) = await take(messages, 1)
            assert message.payload == "next"
            assert restarted(broker) == []
    assert "from queue 'q' is lost: it was consumed with no_ack" in caplog.text


@pytest.mark.parametrize("no_ack", [False, True])
def test_getting_a_message_over_the_limit_says_so_and_the_next_get_has_the_next(
    realm: Realm, caplog: pytest.LogCaptureFixture, no_ack: bool
) -> None:
    """ContentTooLarge, which an ensured function rides out by calling again; the message is rejected.

    On Redis, whose scripts see its length before it is anybody's, that holds with ``no_ack``, too.
    """
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    with realm.connect(transport_options={"confirm_publish": True}) as other:
        for each in (Queue("dead"), Queue("q", queue_arguments=arguments)):
            each(other).declare()
        for body in ("first", LARGE, "second", LARGE, "third"):
            Producer(other).publish(body, routing_key="q")
        with realm.connect(transport_options={"body_max": LIMIT}) as connection:
            bound = Queue("q", queue_arguments=arguments)(connection)

            def get() -> Any:
                message = bound.get(no_ack=no_ack)
                assert message is not None
                message.ack()
                return message.payload

            assert get() == "first"
            with pytest.raises(ContentTooLarge, match=r"queue 'q' has 393\d+ bytes, where body_max allows 1000"):
                get()
            assert get() == "second"
            assert connection.ensure(bound, get, max_retries=1)() == "third"
            assert bound.get() is None
        assert caplog.text.count("is larger than body_max") == 2
        dead = Queue("dead")(other)
        expected = 0 if no_ack and realm.able != ABLE["redis"] else 2
        wait_until(
            lambda: dead.queue_declare(passive=True).message_count == expected,
            timeout=PATIENCE,
            waiting_for="the dead letters",
        )


def test_a_consumer_goes_on_behind_messages_over_the_limit(realm: Realm) -> None:
    """The blocking API: callbacks hear the others, the channel is not opened again."""
    received: list[Any] = []
    with (
        realm.connect(transport_options={"confirm_publish": True}) as other,
        realm.connect(transport_options={"body_max": LIMIT}) as connection,
    ):
        kept = Queue("q")
        kept(other).declare()
        channel = connection.channel()

        def collect(message: Any) -> None:
            received.append(message.payload)
            message.ack()

        with Consumer(channel, [kept], on_message=collect, prefetch_count=2):
            for body in (LARGE, 1, LARGE, LARGE, 2):
                Producer(other).publish(body, routing_key="q")
            drain(connection, lambda: received == [1, 2])
            assert connection.call(epochs_of, channel.handle.actor) == 1
        assert kept(other).queue_declare(passive=True).message_count == 0


def drain(connection: Connection, done: Callable[[], object]) -> None:
    """Handle events until a condition holds."""
    while not done():
        connection.drain_events(timeout=PATIENCE)


async def epochs_of(actor: Any) -> int:
    """How often a channel has been opened."""
    view = actor.owner.supervisor.snapshot().find(f"channels/{actor.number}/channel")
    epoch: int = view.epoch
    return epoch
