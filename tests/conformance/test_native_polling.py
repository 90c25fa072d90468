"""``Broker.get``: one message, if there is one; and what ``declare`` answers."""

from __future__ import annotations

import pytest
import trio

from kombu_actors.broker import Broker, ExchangeSpec, QueueSpec
from kombu_actors.errors import ConnectionClosed, NotFound

from .native import PATIENCE, fill, queue, ready, to_queue
from .realms import Realm
from .test_recovery import lose_session


async def test_get_takes_the_next_message_or_none(broker: Broker) -> None:
    """In order; what is settled is gone, what isn't comes again."""
    await queue(broker, "q")
    assert await broker.get("q") is None
    await fill(broker, "q", 1, 2)
    first, second = await broker.get("q"), await broker.get("q")
    assert first is not None
    assert second is not None
    assert (first.payload, second.payload, await broker.get("q")) == (1, 2, None)
    assert first.ack()
    assert second.requeue()
    again = await broker.get("q", no_ack=True)
    assert again is not None
    assert (again.payload, again.redelivered, again.settled) == (2, True, True)
    assert await ready(broker, "q") == 0


async def test_a_queue_that_is_not_there_is_an_error_of_this_call(broker: Broker) -> None:
    """The next one works."""
    await queue(broker, "q")
    await fill(broker, "q", 1)
    with pytest.raises(NotFound):
        await broker.get("nowhere")
    message = await broker.get("q")
    assert message is not None
    assert message.ack()


async def test_what_was_got_and_not_settled_goes_back_with_the_session(realm: Realm, broker: Broker) -> None:
    """Settling it comes too late then; getting goes on in the next session."""
    await queue(broker, "q")
    await fill(broker, "q", 1)
    message = await broker.get("q")
    assert message is not None
    await lose_session(realm, broker, "cut_connections")
    assert message.stale
    assert not message.ack()
    with trio.fail_after(PATIENCE):
        while (again := await broker.get("q")) is None:
            """The broker has not taken it back yet."""
    assert (again.payload, again.redelivered, again.ack()) == (1, True, True)


async def test_what_was_got_and_not_settled_goes_back_with_the_broker(realm: Realm, broker: Broker) -> None:
    """Leaving the block is enough."""
    await queue(broker, "q")
    await fill(broker, "q", 1)
    async with realm.open_broker() as other:
        message = await other.get("q")
        assert message is not None
    assert not message.ack()
    with pytest.raises(ConnectionClosed):
        await other.get("q")
    assert await ready(broker, "q") == 1


async def test_a_queue_by_its_options_is_the_queue_by_its_arguments(broker: Broker) -> None:
    """Declared with the one, declared again with the other: the same; and both do what they say."""
    await queue(broker, "dead")
    spec = QueueSpec(
        name="q", ttl=0.05, expires=60, max_length=2, dead_letter_exchange="", dead_letter_routing_key="dead"
    )
    arguments = {
        "x-message-ttl": 50,
        "x-expires": 60_000,
        "x-max-length": 2,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "dead",
    }
    assert spec == QueueSpec(name="q", arguments=arguments)
    assert await broker.declare(spec) == ("q", 0, 0)
    await fill(broker, "q", 1, 2, 3)
    await queue(broker, "q", arguments)
    with trio.fail_after(PATIENCE):
        while await ready(broker, "dead") < 3:
            """They expire."""


async def test_declare_answers_for_its_queue(broker: Broker) -> None:
    """Also in front of its bindings, and behind its exchange."""
    await queue(broker, "q")
    await fill(broker, "q", 1)
    info = await broker.declare(QueueSpec(name="q"), to_queue("q", "amq.direct", "k"))
    assert (info.name, info.messages) == ("q", 1)
    info = await broker.declare(ExchangeSpec(name="x"), QueueSpec(name="q"), to_queue("q", "x", "k"))
    assert info.messages == 1
    assert await broker.declare(ExchangeSpec(name="x")) is None
