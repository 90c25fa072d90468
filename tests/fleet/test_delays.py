"""Delays: a message waits as long as it is to, in the order it came, through restarts, and comes back by itself."""

from __future__ import annotations

import math

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from kombu_actors.broker import Broker, QueueSpec
from kombu_actors.fleet._delays import Delay, delay_near, delay_of
from kombu_actors.fleet._postponing import Postponer
from kombu_actors.fleet.errors import FleetMistake
from kombu_actors.fleet.policy import DELAY_MAX
from tests.conformance.native import PATIENCE, payloads, take
from tests.conformance.realms import Realm


@given(st.floats(min_value=0.001, max_value=DELAY_MAX))
def test_an_arbitrary_delay_is_kept_within_five_percent(seconds: float) -> None:
    """And to no more than two digits, so that all of them are a few hundred queues at most."""
    near = delay_near(seconds)
    assert abs(near.milliseconds - seconds * 1000) <= max(0.05 * seconds * 1000, 0.5)
    assert near == delay_near(near.seconds)
    digits = str(near.milliseconds).rstrip("0")
    assert len(digits) <= 2 or near.seconds == DELAY_MAX


def test_all_arbitrary_delays_are_a_bounded_number_of_queues() -> None:
    """90 for each power of ten; exact ones are to the millisecond."""
    found = {delay_near(10**exponent * step / 1000) for exponent in range(5) for step in range(1000, 10_000, 7)}
    assert len(found) <= 5 * 90 + 1
    assert delay_of(1.234) == Delay(1234)
    assert delay_near(1.234) == Delay(1200)
    assert delay_near(DELAY_MAX).seconds == DELAY_MAX


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf, DELAY_MAX + 1, True, "5"])
def test_a_delay_that_no_queue_can_keep_is_refused(seconds: float) -> None:
    """With a sentence, before anything is declared."""
    with pytest.raises(FleetMistake, match="delay takes seconds above 0, and at most"):
        delay_of(seconds)


async def test_messages_come_back_after_their_delay_in_order(broker: Broker) -> None:
    """A shorter delay isn't held up by a longer one; what waits equally long keeps its order."""
    await broker.declare(QueueSpec(name="home"), QueueSpec(name="other"))
    postponer = Postponer(broker)
    began = trio.current_time()
    await postponer.publish(delay_of(0.6), "other", "long")
    for number in range(20):
        await postponer.publish(delay_of(0.3), "home", number, headers={"mine": "x"}, message_id=str(number))
    async with broker.subscribe("home") as home, broker.subscribe("other") as other:
        came = await take(home, 20)
        short = trio.current_time() - began
        assert [message.payload for message in came] == list(range(20))
        assert [message.message_id for message in came] == [str(number) for number in range(20)]
        assert all(message.headers["mine"] == "x" for message in came)
        assert await payloads(other, 1) == ["long"]
        assert 0.3 <= short < 0.6 + 0.5
        assert trio.current_time() - began >= 0.6


async def test_a_delay_that_was_deleted_is_declared_again(broker: Broker) -> None:
    """By the publish that notices, whether the exchange is gone, or the queue, or both."""
    await broker.declare(QueueSpec(name="home"))
    postponer = Postponer(broker)
    delay = delay_of(0.05)
    async with broker.subscribe("home") as home:
        await postponer.publish(delay, "home", 0)
        assert await payloads(home, 1) == [0]
        await broker.delete_queue(delay.name)
        await postponer.publish(delay, "home", 1)
        assert await payloads(home, 1) == [1]
        await broker.delete_exchange(delay.name)
        await postponer.publish(delay, "home", 2)
        assert await payloads(home, 1) == [2]
        await broker.delete_exchange(delay.name)
        await broker.delete_queue(delay.name)
        async with trio.open_nursery() as nursery:
            for number in range(3, 23):
                nursery.start_soon(postponer.publish, delay, "home", number)
        assert sorted(await payloads(home, 20), key=str) == sorted(range(3, 23), key=str)


async def test_somebody_else_deletes_the_delay(realm: Realm, broker: Broker) -> None:
    """An operator over another connection: nothing is lost of what is published after that."""
    await broker.declare(QueueSpec(name="home"))
    postponer = Postponer(broker)
    delay = delay_of(0.05)
    await postponer.publish(delay, "home", 0)
    async with broker.subscribe("home") as home:
        assert await payloads(home, 1) == [0]
        async with realm.open_broker() as operator:
            await operator.delete_queue(delay.name)
            await operator.delete_exchange(delay.name)
        await postponer.publish(delay, "home", 1)
        assert await payloads(home, 1) == [1]


async def test_a_lost_session_loses_nothing_that_waits(realm: Realm, broker: Broker) -> None:
    """The message is in the broker; the delay is declared again in the next session."""
    await broker.declare(QueueSpec(name="home"))
    postponer = Postponer(broker)
    await postponer.publish(delay_of(0.3), "home", 1)
    realm.cut_connections()
    await postponer.publish(delay_of(0.3), "home", 2)
    async with broker.subscribe("home") as home:
        assert await payloads(home, 2) == [1, 2]


async def test_a_message_that_would_expire_while_it_waits_is_refused(broker: Broker) -> None:
    """Its expiration would end the delay early."""
    with pytest.raises(ValueError, match="can't both wait 1 s and expire"):
        await Postponer(broker).publish(delay_of(1), "home", 1, expiration=5)


@pytest.mark.parametrize("realm", ["amqp", "redis"], indirect=True)
async def test_a_delay_needs_no_more_than_a_name(broker: Broker) -> None:
    """Two connections, or two fleets, share it: the declarations are the same."""
    await broker.declare(QueueSpec(name="home"))
    with trio.fail_after(PATIENCE):
        await Postponer(broker).publish(delay_of(0.05), "home", 1)
        await Postponer(broker).publish(delay_of(0.05), "home", 2)
    async with broker.subscribe("home") as home:
        assert await payloads(home, 2) == [1, 2]
