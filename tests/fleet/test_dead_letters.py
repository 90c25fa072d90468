"""Dead letters: looking changes nothing, a replay loses nothing, and what stays keeps its place."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from kombu_actors.broker import Broker, QueueSpec
from kombu_actors.errors import NotFound
from kombu_actors.fleet._looking import HELD_MAX
from kombu_actors.fleet.dead_letters import DeadLetters, open_dead_letters
from kombu_actors.fleet.errors import FleetMistake
from tests.conformance.native import PATIENCE, payloads, ready, take
from tests.conformance.realms import Realm
from tests.conformance.test_recovery import lose_session
from tests.fleet.burying import DEAD, bury
from tests.fleet.test_client import address

REPOSITORY = Path(__file__).parents[2]
KILLS = 2


@pytest.fixture
async def dead(realm: Realm) -> AsyncIterator[DeadLetters]:
    """The dead letters of ``orders``."""
    async with open_dead_letters(address(realm), "orders", DEAD) as dead:
        yield dead


async def in_queue(broker: Broker, queue: str) -> list[int]:
    """The ids in a queue, in order, taken out of it."""
    count = await ready(broker, queue)
    async with broker.subscribe(queue) as messages:
        return [payload["id"] for payload in await payloads(messages, count)]


async def test_a_listing_tells_all_and_leaves_all_in_place(broker: Broker, dead: DeadLetters) -> None:
    """In order, as often as one likes, its beginning as well as all; by criteria, too."""
    await bury(broker, *range(5))
    await bury(broker, 5, kind=KeyError, age=100, handler="shop.ship", queue="parcels")
    for _ in range(3):
        assert [letter.id for letter in await dead.list()] == ["0", "1", "2", "3", "4", "5"]
        assert [letter.id for letter in await dead.list(2)] == ["0", "1"]
        (letter,) = await dead.list(error="KeyError")
    assert (letter.queue, letter.error, letter.reason) == ("parcels", "KeyError", "failed 5 times")
    assert (letter.attempts, letter.handler, letter.payload) == (5, "shop.ship", {"id": 5})
    assert letter.dead_at is not None
    assert letter.first_at is not None
    assert 99 < time.time() - letter.dead_at < 100 + PATIENCE
    assert letter.dead_at - letter.first_at == pytest.approx(671)
    assert letter.stack.endswith("KeyError: 'order 5'\n")
    assert letter.headers["mine"] == "x"
    assert letter.to_dict()["body"] == '{"id": 5}'
    for criteria in ({"handler": "ship"}, {"handler": "shop.ship"}, {"older_than": 50}, {"ids": ["5", "7"]}):
        assert [letter.id for letter in await dead.list(**criteria)] == ["5"]
    assert [letter.id for letter in await dead.list(newer_than=50, where=lambda one: one.payload != {"id": 1})] == [
        *("0", "2", "3", "4")
    ]
    shown = await dead.show("3")
    assert shown is not None
    assert shown.payload == {"id": 3}
    assert await dead.show("9") is None
    assert await dead.count() == 6
    assert await in_queue(broker, DEAD) == [0, 1, 2, 3, 4, 5]


async def test_a_replay_sends_what_matches_home_and_keeps_the_rest_in_order(broker: Broker, dead: DeadLetters) -> None:
    """As if it had never been tried: our headers are gone, the publisher's and the id are there."""
    await broker.declare(QueueSpec(name="orders"))
    for number in range(10):
        await bury(broker, number, kind=KeyError if number % 2 else ValueError)
    tried = await dead.replay(error="KeyError", dry_run=True)
    assert str(tried) == "5 of 10 dead letters would be replayed"
    assert await ready(broker, "orders") == 0
    some = await dead.replay(error="KeyError", limit=2)
    assert (some.replayed, some.looked_at, some.left) == (2, 4, 6)
    assert str(some) == "2 of 4 dead letters replayed; 6 more were not looked at"
    rest = await dead.replay(error="KeyError")
    assert (rest.replayed, rest.looked_at, rest.left) == (3, 8, 0)
    async with broker.subscribe("orders") as orders:
        came = await take(orders, 5)
    assert [message.message_id for message in came] == ["1", "3", "5", "7", "9"]
    assert all(dict(message.headers) == {"mine": "x"} for message in came)
    assert [message.payload for message in came] == [{"id": number} for number in (1, 3, 5, 7, 9)]
    assert await in_queue(broker, DEAD) == [0, 2, 4, 6, 8]


async def test_a_letter_whose_queue_is_gone_stays_and_says_so(broker: Broker, dead: DeadLetters) -> None:
    """Those of other queues go; it goes, too, once its queue is there."""
    await broker.declare(QueueSpec(name="orders"))
    await bury(broker, 0, 1, queue="gone")
    await bury(broker, 2)
    for dry_run in (True, False):
        done = await dead.replay(dry_run=dry_run)
        assert (done.replayed, done.homeless) == (1, {"gone": 2})
        assert "2 stay, for their queue 'gone' does not exist: declare it and replay again" in str(done)
    assert [letter.id for letter in await dead.list()] == ["0", "1"]
    await broker.declare(QueueSpec(name="gone"))
    assert (await dead.replay()).replayed == 2
    assert await in_queue(broker, "gone") == [0, 1]


async def test_a_replay_keeps_its_rate(broker: Broker, dead: DeadLetters) -> None:
    """So many a second at most."""
    await broker.declare(QueueSpec(name="orders"))
    await bury(broker, *range(5))
    began = trio.current_time()
    await dead.replay(rate=10)
    assert trio.current_time() - began >= 0.4
    for wrong in (0, -1, float("nan")):
        with pytest.raises(FleetMistake, match="rate= takes letters per second"):
            await dead.replay(rate=wrong)


async def test_what_is_dropped_is_gone_and_nothing_else(broker: Broker, dead: DeadLetters) -> None:
    """By the same criteria."""
    await bury(broker, *range(4))
    assert await dead.drop(ids=["1", "2"], dry_run=True) == 2
    assert await dead.drop(ids=["1", "2"], limit=1) == 1
    assert await dead.drop(ids=["1", "2"]) == 1
    assert await in_queue(broker, DEAD) == [0, 3]


async def test_there_is_no_queue_for_dead_letters(dead: DeadLetters) -> None:
    """``NotFound`` names it."""
    for call in (dead.list, dead.replay, dead.drop, dead.count):
        with pytest.raises(NotFound, match=r"orders\.dead"):
            await call()


async def test_what_the_broker_dead_lettered_is_a_dead_letter_too(broker: Broker, dead: DeadLetters) -> None:
    """Rejected by another library's consumer: it knows its queue and reason by the broker's headers."""
    await broker.declare(
        QueueSpec(name=DEAD),
        QueueSpec(name="foreign", dead_letter_exchange="", dead_letter_routing_key=DEAD),
    )
    await broker.publish("x", routing_key="foreign")
    async with broker.subscribe("foreign") as foreign:
        (message,) = await take(foreign, 1)
        message.reject()
    with trio.fail_after(PATIENCE):
        while not (found := await dead.list()):
            """It is on its way."""
    assert (found[0].queue, found[0].reason, found[0].id, found[0].error) == ("foreign", "rejected", "", "")
    assert (await dead.replay()).replayed == 1
    assert await ready(broker, "foreign") == 1


@pytest.mark.parametrize("harm", ["drop_connections", "cut_connections"])
async def test_a_replay_goes_on_over_a_lost_session(realm: Realm, broker: Broker, dead: DeadLetters, harm: str) -> None:
    """Each letter once, but for the one that was under way; those that don't match stay."""
    await broker.declare(QueueSpec(name="orders"))
    for number in range(40):
        await bury(broker, number, kind=KeyError if number % 2 else ValueError)
    async with trio.open_nursery() as nursery:

        async def replay() -> None:
            done = await dead.replay(error="KeyError", rate=100)
            assert done.replayed == 20

        nursery.start_soon(replay)
        with trio.fail_after(PATIENCE):
            while await ready(broker, "orders") < 5:
                """It is under way."""
        await lose_session(realm, broker, harm)
    came = await in_queue(broker, "orders")
    left = await in_queue(broker, DEAD)
    assert set(came) == set(range(1, 40, 2))
    assert len(came) <= 21
    assert [number for number in left if number % 2 == 0] == list(range(0, 40, 2))
    assert len(left) <= 21


@pytest.mark.parametrize("realm", ["amqp", "redis"], indirect=True)
async def test_a_replay_that_is_killed_loses_nothing(realm: Realm, broker: Broker) -> None:
    """Killed at any moment: each letter is at home or here; in both places are those whose ack was on its way."""
    await broker.declare(QueueSpec(name="orders"))
    count = 100
    await bury(broker, *range(count))
    for _ in range(KILLS):
        before = await ready(broker, "orders")
        process = await trio.to_thread.run_sync(_start_replaying, realm.url)
        with process:
            target = before + random.randint(1, 15)
            with trio.fail_after(PATIENCE):
                while await ready(broker, "orders") < target:
                    """It is under way."""
            process.kill()
        with trio.fail_after(PATIENCE):
            while await ready(broker, "orders") + await ready(broker, DEAD) < count:
                """The broker has yet to notice: it gives back what the dead process held."""
    came, left = await in_queue(broker, "orders"), await in_queue(broker, DEAD)
    assert set(came) | set(left) == set(range(count))
    assert len(came) + len(left) <= count + KILLS * 5
    assert left == sorted(left)


def _start_replaying(url: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.fleet.burying", url]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "replaying\n"
    return process


@pytest.mark.parametrize("realm", ["memory"], indirect=True)
async def test_a_search_in_a_long_queue_is_bounded_and_keeps_order(broker: Broker, dead: DeadLetters) -> None:
    """It holds 10,000 letters at most, and gives them back as they were."""
    await broker.declare(QueueSpec(name=DEAD))
    count = HELD_MAX + 2000
    await broker.publish_many(({"id": number} for number in range(count)), routing_key=DEAD)
    assert await dead.list(error="KeyError") == ()
    done = await dead.replay(error="KeyError")
    assert (done.looked_at, done.left) == (HELD_MAX, 2000)
    assert [letter.payload for letter in await dead.list(3)] == [{"id": 0}, {"id": 1}, {"id": 2}]
    assert await dead.drop() == count
