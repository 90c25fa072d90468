"""``Broker.publish_many``: in order, all confirmed, or an account of what was not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio

from kombu_actors.actors.publisher import WINDOW_MESSAGES
from kombu_actors.broker import Broker, QueueSpec
from kombu_actors.errors import (
    ConnectionLost,
    DeadlineExceeded,
    EncodeError,
    PublishErrors,
    PublishRefused,
    PublishReturned,
)
from kombu_actors.supervisors import Backoff
from kombu_actors.supervisors.events import ChildBackingOff

from .native import PATIENCE, drained, queue, ready
from .realms import Realm

MANY = WINDOW_MESSAGES + 500
"""More than fit into the window."""


async def test_many_are_published_in_order_and_confirmed(broker: Broker) -> None:
    """More than the window holds, out of a generator; the properties are the same for all."""
    await queue(broker, "q")
    count = await broker.publish_many((number for number in range(MANY)), routing_key="q", app_id="many", timeout=60)
    assert count == MANY
    assert await ready(broker, "q") == MANY
    async with broker.subscribe("q", no_ack=True) as messages:
        with trio.fail_after(3 * PATIENCE):
            for number in range(MANY):
                message = await anext(messages)
                assert (message.payload, message.properties["app_id"]) == (number, "many")


async def test_none_is_none(broker: Broker) -> None:
    """An empty sequence is no error."""
    assert await broker.publish_many([], routing_key="q") == 0


async def test_they_arrive_over_a_lost_session_in_order(realm: Realm, broker: Broker) -> None:
    """Repetitions aside; it returns when all are confirmed."""
    await queue(broker, "q")

    def numbers() -> Iterator[int]:
        for number in range(2000):
            if number == 1000:
                realm.cut_connections()
            yield number

    assert await broker.publish_many(numbers(), routing_key="q") == 2000
    got = await drained(broker, "q")
    assert list(dict.fromkeys(got)) == list(range(2000))


async def test_the_first_failure_ends_it_and_every_outcome_is_told(broker: Broker) -> None:
    """A queue that takes three and refuses the others: which are in it is known."""
    await broker.declare(QueueSpec(name="q", max_length=3, overflow="reject-publish"))
    with pytest.raises(PublishErrors, match="were not confirmed, the first of them message 3") as caught:
        await broker.publish_many(range(MANY), routing_key="q")
    outcomes = caught.value.outcomes
    confirmed = [number for number, error in enumerate(outcomes) if error is None]
    assert all(isinstance(error, PublishRefused) for error in outcomes if error is not None)
    assert confirmed == await drained(broker, "q") == [0, 1, 2]


async def test_the_errors_can_be_told_apart(broker: Broker) -> None:
    """``except*`` gets each kind; the group has no others."""
    seen: list[BaseException] = []
    try:
        await broker.publish_many(["m"], routing_key="nowhere", mandatory=True)
    except* PublishReturned as group:
        seen.extend(group.exceptions)
    assert [type(error) for error in seen] == [PublishReturned]


async def test_what_cannot_be_encoded_ends_it_there(broker: Broker) -> None:
    """Those before it are confirmed, nothing behind it is sent."""
    await queue(broker, "q")
    with pytest.raises(PublishErrors) as caught:
        await broker.publish_many([1, 2, object(), 4], routing_key="q")
    assert [type(error) for error in caught.value.outcomes] == [type(None), type(None), EncodeError]
    assert await drained(broker, "q") == [1, 2]


async def test_an_error_of_the_generator_comes_through(broker: Broker) -> None:
    """As it is."""

    def numbers() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError

    await queue(broker, "q")
    with pytest.raises(ZeroDivisionError):
        await broker.publish_many(numbers(), routing_key="q")


async def test_each_message_has_its_time(realm: Realm) -> None:
    """While there is no session: what was not sent by its deadline is given up, and nothing behind it is sent."""
    long = Backoff(first=60.0, base=60.0, maximum=60.0)
    async with realm.open_broker(backoff=long) as broker:
        await queue(broker, "q")
        await broker.publish_many([0], routing_key="q")
        link = broker._actor.session.require_link()
        async with broker.events() as stream:
            link.kill(ConnectionLost("cut by the test"))
            async for event in stream:
                if isinstance(event, ChildBackingOff):
                    break
        with pytest.raises(PublishErrors) as caught:
            await broker.publish_many(range(MANY), routing_key="q", timeout=0.1)
        outcomes = caught.value.outcomes
        assert len(outcomes) == WINDOW_MESSAGES  # what is behind them was not begun
        assert all(isinstance(error, DeadlineExceeded) for error in outcomes)
    async with realm.open_broker() as broker:
        assert await drained(broker, "q") == [0]
