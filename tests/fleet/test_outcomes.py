"""What becomes of a message is what its handler says, on every broker."""

from __future__ import annotations

import trio

from kombu_actors.broker import Broker, QueueSpec
from kombu_actors.fleet import Message, Reject, Retry, Snooze
from tests.conformance.realms import Realm

from .support import PATIENCE, make_fleet, ready, running, take


async def test_a_handled_message_is_acked(realm: Realm, broker: Broker) -> None:
    """It is gone from its queue, and counted; the queue and that of its dead letters are made where there were none."""
    fleet = make_fleet(realm)
    got, done = list[object](), trio.Event()

    @fleet.consumer("jobs")
    async def handle(payload: dict[str, int]) -> None:
        got.append(payload)
        done.set()

    async with running(fleet) as left:
        await broker.publish({"id": 1}, routing_key="jobs", mandatory=True)
        with trio.fail_after(PATIENCE):
            await done.wait()
    assert got == [{"id": 1}]
    assert left.certificate.queues["jobs"].acked == 1
    assert not left.certificate.cold
    assert await ready(broker, "jobs") == await ready(broker, "jobs.dead") == 0


async def test_a_failed_message_is_tried_again_and_then_dead(realm: Realm, broker: Broker) -> None:
    """After each delay of the policy, with the attempt counted; then it is a dead letter that tells its story."""
    fleet = make_fleet(realm, retry=Retry(delays=(0.05, 0.1)))
    attempts = list[tuple[int, str]]()

    @fleet.consumer("jobs")
    async def handle(payload: str, message: Message) -> None:
        attempts.append((message.attempt, message.id))
        raise KeyError(payload)

    async with running(fleet) as left:
        await broker.publish("a", routing_key="jobs", message_id="m1", headers={"mine": 1}, priority=3)
        [dead] = await take(broker, "jobs.dead")
    assert attempts == [(1, "m1"), (2, "m1"), (3, "m1")]
    assert (dead.payload, dead.message_id, dead.properties["priority"]) == ("a", "m1", 3)
    headers = dict(dead.headers)
    assert "raise KeyError(payload)" in str(headers.pop("ka-stack"))
    first_at, dead_at = headers.pop("ka-first-at"), headers.pop("ka-dead-at")
    assert isinstance(first_at, float)
    assert isinstance(dead_at, float)
    assert 0.15 <= dead_at - first_at < PATIENCE
    assert headers == {
        "mine": 1,
        "ka-attempt": 3,
        "ka-queue": "jobs",
        "ka-error": "KeyError",
        "ka-reason": "failed 3 times, at last: KeyError: 'a'",
        "ka-handler": handle.__module__ + "." + handle.__qualname__,
    }
    count = left.certificate.queues["jobs"]
    assert (count.received, count.retried, count.dead_lettered) == (3, 2, 1)


async def test_reject_and_give_up_dead_letter_at_once(realm: Realm, broker: Broker) -> None:
    """Neither waits for a delay."""
    fleet = make_fleet(realm, retry=Retry(delays=(60,), give_up_on=(LookupError,)))

    @fleet.consumer("jobs", dead_letter="elsewhere")
    async def handle(payload: str) -> None:
        raise Reject("empty path") if payload == "reject" else KeyError(payload)

    async with running(fleet):
        await broker.publish_many(["reject", "give up"], routing_key="jobs")
        dead = await take(broker, "elsewhere", 2)
    assert [(one.payload, one.headers["ka-reason"], one.headers["ka-attempt"]) for one in dead] == [
        ("reject", "empty path", 1),
        ("give up", "not tried again: KeyError: 'give up'", 1),
    ]


async def test_what_is_no_payload_is_dead_at_once_with_a_sentence(realm: Realm, broker: Broker) -> None:
    """Bodies that can't be decoded, kinds that aren't accepted, and what the annotation doesn't allow."""
    fleet = make_fleet(realm, retry=Retry(delays=(60,)))

    @fleet.consumer("jobs")
    async def handle(payload: dict[str, str]) -> None:
        raise AssertionError("never called")

    async with running(fleet):
        await broker.publish(b"{", content_type="application/json", routing_key="jobs")
        await broker.publish(b"\x80", content_type="application/x-python-serialize", routing_key="jobs")
        await broker.publish({"customer": 3}, routing_key="jobs")
        dead = await take(broker, "jobs.dead", 3)
    reasons = [str(one.headers["ka-reason"]) for one in dead]
    assert all(reason.startswith("undecodable: ") for reason in reasons)
    assert "x-python-serialize" in reasons[1]
    assert reasons[2] == "undecodable: $.customer: expected str, got 3"


async def test_snooze_is_no_attempt(realm: Realm, broker: Broker) -> None:
    """It comes again after that time, as the same attempt, also when it has failed before."""
    fleet = make_fleet(realm, retry=Retry(delays=(0.05,)))
    attempts, done = list[int](), trio.Event()

    @fleet.consumer("jobs")
    async def handle(payload: str, message: Message) -> None:
        attempts.append(message.attempt)
        match len(attempts):
            case 1 | 3:
                raise Snooze(0.05)
            case 2:
                raise ValueError
            case _:
                done.set()

    async with running(fleet) as left:
        await broker.publish("a", routing_key="jobs")
        with trio.fail_after(PATIENCE):
            await done.wait()
    assert attempts == [1, 1, 2, 2]
    count = left.certificate.queues["jobs"]
    assert (count.retried, count.snoozed, count.acked) == (3, 2, 1)


async def test_a_reply_that_nobody_waits_for_is_counted_and_no_failure(realm: Realm, broker: Broker) -> None:
    """The asker is gone, and its queue: the work is done all the same, and the message acked."""
    fleet = make_fleet(realm)
    done = trio.Event()

    @fleet.consumer("price")
    async def price(sku: str) -> int:
        done.set()
        return 42

    async with running(fleet) as left:
        await broker.publish("tea", routing_key="price", reply_to="gone", correlation_id="1")
        with trio.fail_after(PATIENCE):
            await done.wait()
    count = left.certificate.queues["price"]
    assert (count.acked, count.unclaimed, count.retried, count.dead_lettered) == (1, 1, 0, 0)


async def test_a_handler_that_takes_too_long_has_failed(realm: Realm, broker: Broker) -> None:
    """It is cancelled, and its attempt counts."""
    fleet = make_fleet(realm, retry=Retry(delays=()))

    @fleet.consumer("jobs", timeout=0.05)
    async def handle(payload: str) -> None:
        await trio.sleep_forever()

    async with running(fleet):
        await broker.publish("a", routing_key="jobs")
        [dead] = await take(broker, "jobs.dead")
    assert dead.headers["ka-error"] == "HandlerTimeout"


async def test_queues_of_others_are_left_as_they_are(realm: Realm, broker: Broker) -> None:
    """A queue that is only named is not declared again; one whose spec is given is declared like that."""
    await broker.declare(QueueSpec(name="theirs", max_length=10))
    fleet = make_fleet(realm)
    got, done = list[object](), trio.Event()

    @fleet.consumer("theirs")
    @fleet.consumer(QueueSpec(name="ours", max_length=11))
    async def handle(payload: str) -> None:
        got.append(payload)
        if len(got) == 2:
            done.set()

    async with running(fleet):
        await broker.declare(QueueSpec(name="ours", max_length=11))
        await broker.publish("a", routing_key="theirs")
        await broker.publish("b", routing_key="ours")
        with trio.fail_after(PATIENCE):
            await done.wait()
    assert sorted(map(str, got)) == ["a", "b"]
