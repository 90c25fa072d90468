"""A message that kills its process is found, and no other is blamed."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kombu_actors.broker import Broker
from kombu_actors.fleet._hands import JOB, Hands, in_hand, job_label, label_of, queue_label, shown
from kombu_actors.fleet.processes._suspects import Suspects, Verdict
from tests.conformance.realms import Realm
from tests.fleet.support import ready, take

from .support import declare, running, take_all

SEED, INNOCENTS, POISONS = 1, 60, 3
"""Seeds 1 and 2 with 200 and 5 were tried as well: twice 40 s."""
REASON_ENDS = "time, and alone: it was killed by signal 9 (SIGKILL)"
REASON = "was in hand when the process died, for the 3rd time, and alone: it was killed by signal 9 (SIGKILL)"


ON_RABBITMQ = pytest.mark.parametrize("realm", ["amqp"], indirect=True)
"""Where what a killed process held is back at once, and not when its lease is over."""


@pytest.fixture
async def each_broker(each_realm: Realm) -> AsyncIterator[Broker]:
    """A native connection to it."""
    async with each_realm.open_broker() as broker:
        yield broker


@ON_RABBITMQ
async def test_of_ten_in_hand_the_one_that_kills_is_parked(realm: Realm, broker: Broker) -> None:
    """It is dead-lettered with its reason after its third death, which it died alone; all others are handled."""
    await declare(broker, "work.begun", "work.done")
    async with running(realm, count=1) as watched:
        innocents = {f"innocent-{number}" for number in range(9)}
        for name in innocents:
            await broker.publish({"seconds": 0.2}, routing_key="work", message_id=name)
        await broker.publish({"seconds": 0.1, "die": True}, routing_key="work", message_id="poison")
        (dead,) = await take(broker, "work.dead")
        assert (dead.message_id, dead.headers["ka-reason"]) == ("poison", REASON)
        await take_all(broker, "work.done", "id", innocents)
        deaths = watched.named("process_died")
        assert len(deaths) == 3
        assert deaths[-1].record["in_hand"] == ["poison of 'work'"]
        tree = watched.program.tree()
        assert tree is not None
        assert tree["children"][0]["restarts"] == 2  # the last death's cause is known
        assert await ready(broker, "work.dead") == 0
    assert await ready(broker, "work") == 0


@ON_RABBITMQ
@pytest.mark.parametrize("queue", ["batches", "threads"])
async def test_it_is_found_in_batches_and_threads(queue: str, realm: Realm, broker: Broker) -> None:
    """With or without an id of its own; a suspect of a batch is a batch of one."""
    await declare(broker, "work.begun", "work.done")
    async with running(realm, count=1):
        innocents = {f"innocent-{number}" for number in range(3)}
        for name in innocents:
            await broker.publish({"seconds": 0.1, "id": name}, routing_key=queue)
        await broker.publish({"seconds": 0.1, "id": "poison", "die": True}, routing_key=queue)
        (dead,) = await take(broker, f"{queue}.dead")
        assert (dead.payload_as(dict)["id"], dead.headers["ka-reason"]) == ("poison", REASON)
        await take_all(broker, "work.done", "id", innocents)
        assert await ready(broker, f"{queue}.dead") == 0


@ON_RABBITMQ
async def test_a_message_that_is_at_work_when_others_kill_its_process_is_acquitted(
    realm: Realm, broker: Broker
) -> None:
    """Two kills from outside make it a suspect; it is run alone, and handled like any other."""
    await declare(broker, "work.begun", "work.done")
    async with running(realm, count=1) as watched:
        await broker.publish({"seconds": 2.0}, routing_key="work", message_id="slow")
        for number in range(2):
            (begun,) = await take(broker, "work.begun")
            os.kill(begun.payload_as(dict)["pid"], signal.SIGKILL)
            await watched.wait_event("process_died", count=number + 1)
        (begun,) = await take(broker, "work.begun")
        await broker.publish({"seconds": 0.0}, routing_key="work", message_id="next")
        ids = [message.payload_as(dict)["id"] for message in await take(broker, "work.done", 2)]
        assert ids == ["slow", "next"]  # nothing else began meanwhile
        assert await ready(broker, "work.dead") == 0


async def test_of_many_poisons_among_many_innocents_each_is_parked_and_nobody_else(
    each_realm: Realm, each_broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In slots, lanes, batches and threads of four processes; and no poison kills more than three times."""
    deaths = tmp_path / "deaths"
    monkeypatch.setenv("SHOP_DEATHS", str(deaths))
    rng, broker = random.Random(SEED), each_broker
    await declare(broker, "work.begun", "work.done")
    names = [f"innocent-{number}" for number in range(INNOCENTS)] + [f"poison-{number}" for number in range(POISONS)]
    rng.shuffle(names)
    queues = dict.fromkeys(names, "")
    async with running(each_realm, count=4, restarts=100) as watched:
        for name in names:
            queue = queues[name] = rng.choice(["work", "lanes", "batches", "threads"])
            task = {"id": name, "seconds": rng.uniform(0.0, 0.3)}
            if "poison" in name:
                task["die in key" if queue == "lanes" and rng.random() < 0.7 else "die"] = True
            await broker.publish(task, routing_key=queue, message_id=name)
        for name in names:
            if "poison" in name:
                await watched.wait_event("message_dead_lettered", message_id=name)
        await take_all(broker, "work.done", "id", {name for name in names if "innocent" in name})
        assert {event.record["message_id"] for event in watched.named("message_dead_lettered")} == {
            name for name in names if "poison" in name
        }
        for name, queue in queues.items():
            if "poison" in name:
                (dead,) = await take(broker, f"{queue}.dead")
                assert str(dead.headers["ka-reason"]).endswith(REASON_ENDS)
        for queue in {*queues.values()}:
            assert await ready(broker, f"{queue}.dead") == 0
    kills = Counter(deaths.read_text().split())
    assert len(kills) == POISONS
    assert max(kills.values()) <= 3, kills


@ON_RABBITMQ
async def test_a_message_is_not_blamed_for_what_a_job_does(
    realm: Realm, broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A periodic job that kills its process thrice, with one message in hand, is company to it."""
    killer = tmp_path / "killer"
    killer.write_bytes(b"")
    monkeypatch.setenv("SHOP_KILLER", str(killer))
    await declare(broker, "work.begun", "work.done")
    async with running(realm, count=1, restarts=100) as watched:
        await broker.publish({"seconds": 1.5}, routing_key="work", message_id="slow")
        for number in range(3):
            (begun,) = await take(broker, "work.begun")
            if number < 2:
                killer.write_bytes(b".")
                died = await watched.wait_event("process_died", count=number + 1)
                assert sorted(died.record["in_hand"]) == ["job tests.fleet.processes.shop.clean", "slow of 'work'"]
        killer.write_bytes(b".")  # which waits, for the suspect is alone
        assert (await take(broker, "work.done"))[0].payload_as(dict) == begun.payload_as(dict)
        await watched.wait_event("process_died", count=3)
        assert await ready(broker, "work.dead") == 0


class TestSuspects:
    """The decisions."""

    def test_deaths_in_company_condemn_nobody(self) -> None:
        """However many: each of them is next run alone."""
        suspects = Suspects(deaths=3)
        for death in range(1, 6):
            suspects.died([("q", "a"), ("q", "b")], "was killed")
            assert suspects.verdict(("q", "a")) == Verdict(death, alone=death >= 2)

    def test_the_last_death_has_to_be_died_alone(self) -> None:
        """Then it is condemned, and the other one not."""
        suspects = Suspects(deaths=3)
        for those in ([("q", "a"), ("q", "b")], [("q", "a"), ("q", "b")], [("q", "a")]):
            suspects.died(those, "was killed by signal 11 (SIGSEGV)")
        assert suspects.verdict(("q", "a")).condemned == (
            "was in hand when the process died, for the 3rd time, and alone: it was killed by signal 11 (SIGSEGV)"
        )
        assert suspects.verdict(("q", "b")) == Verdict(2, alone=True)

    def test_who_survives_is_acquitted(self) -> None:
        """Its count begins anew."""
        suspects = Suspects(deaths=3)
        suspects.died([("q", "a")], "was killed")
        suspects.died([("q", "a")], "was killed")
        suspects.survived(("q", "a"))
        assert suspects.verdict(("q", "a")) == Verdict()

    def test_one_death_may_be_enough(self) -> None:
        """Alone; who had company is run alone."""
        suspects = Suspects(deaths=1)
        suspects.died([("q", "a")], "ended by itself with exit code 1")
        suspects.died([("q", "b"), ("q", "c")], "was killed")
        assert suspects.verdict(("q", "a")).condemned == (
            "was in hand when the process died: it ended by itself with exit code 1"
        )
        assert suspects.verdict(("q", "b")) == Verdict(1, alone=True)

    def test_a_job_is_company(self) -> None:
        """Nobody is blamed for a death that it may have caused, and it is not counted itself."""
        suspects = Suspects(deaths=1)
        assert not suspects.died([("q", "a"), (JOB, "sweep")], "was killed")
        assert not suspects.died([(JOB, "sweep")], "was killed")
        assert suspects.verdict(("q", "a")) == Verdict(1, alone=True)
        assert suspects.verdict((JOB, "sweep")) == Verdict()

    def test_memory_is_bounded(self) -> None:
        """The oldest are forgotten first."""
        suspects = Suspects()
        suspects.died([("q", str(number)) for number in range(10_001)], "was killed")
        assert suspects.verdict(("q", "0")) == Verdict()
        assert suspects.verdict(("q", "1")).deaths == 1


def test_hands_are_read_when_they_are_gone() -> None:
    """What is noted and not dropped, with names of any kind; a full memory notes nothing more."""
    descriptor = os.memfd_create("test")
    try:
        hands = Hands(descriptor)
        hands.reserve(3)
        cells = [hands.take(label_of(queue_label("bücher"), name)) for name in ("a", "ü" * 125, "c")]
        assert hands.take(label_of(queue_label("q"), "d")) == -1
        hands.drop(-1)
        hands.drop(cells[0])
        assert hands.take(job_label("sweep")) == cells[0]
        left = in_hand(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
        assert sorted(left) == [(JOB, "sweep"), ("bücher", "c"), ("bücher", "ü" * 125)]
        assert sorted(map(shown, left))[:2] == ["c of 'bücher'", "job sweep"]
    finally:
        os.close(descriptor)
