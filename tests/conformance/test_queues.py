"""What queues do on their own: limits, expiry, priorities, dead letters, exclusiveness, deletion."""

from __future__ import annotations

from functools import partial
from itertools import chain
from typing import Any

import pytest
import trio
from amqp.exceptions import AccessRefused, NotFound, PreconditionFailed, ResourceLocked

from kombu_actors.broker import Broker, Delivered, ExchangeSpec
from kombu_actors.errors import PublishRefused
from tests.support.processes import wait_until

from .native import PATIENCE, drained, fill, payloads, queue, ready, take, to_queue
from .realms import Realm


async def until(realm: Realm, depths: dict[str, int]) -> None:
    """Wait until the broker holds exactly these queues, with so many messages."""

    def reached() -> bool:
        return realm.depths() == depths

    waiting_for = f"{depths} (there is {realm.depths()})"
    await trio.to_thread.run_sync(partial(wait_until, reached, timeout=PATIENCE, waiting_for=waiting_for))


async def dead_letter_queue(broker: Broker) -> None:
    """A queue ``dead`` that everything sent to the exchange ``dlx`` gets into."""
    await broker.declare(ExchangeSpec(name="dlx", type="fanout"))
    await queue(broker, "dead")
    await broker.declare(to_queue("dead", "dlx"))


async def test_a_refused_declaration_is_no_hindrance_to_the_next_one(broker: Broker) -> None:
    """Each refusal costs the channel that declarations have; the next one has another, at once."""
    await queue(broker, "q")
    for _ in range(20):
        with pytest.raises(NotFound):
            await broker.declare(to_queue("q", "missing"))
    assert await drained(broker, "q") == []


# -- time --------------------------------------------------------------------------------------------


async def test_a_queues_ttl_ends_its_messages(realm: Realm, broker: Broker) -> None:
    """Those nobody took in time; a taken one stays its consumer's."""
    await queue(broker, "q", {"x-message-ttl": 150})
    async with broker.subscribe("q", prefetch=1) as messages:
        await fill(broker, "q", 1, 2)
        (kept,) = await take(messages, 1)
        await until(realm, {"q": 0})
        kept.ack()


async def test_a_messages_own_ttl_ends_it(realm: Realm, broker: Broker) -> None:
    """The shorter of its own and the queue's counts; 0 means now or never."""
    await queue(broker, "q", {"x-message-ttl": 60_000})
    await fill(broker, "q", 1, expiration=0.1)
    await until(realm, {"q": 0})
    await fill(broker, "q", 2, expiration=0)
    await until(realm, {"q": 0})
    await fill(broker, "q", 3, expiration=60)
    assert await drained(broker, "q") == [3]


async def test_messages_expire_at_the_head_only(realm: Realm, broker: Broker) -> None:
    """One that outlives its time behind a longer-lived one is still counted, and never delivered."""
    await dead_letter_queue(broker)
    await queue(broker, "q", {"x-dead-letter-exchange": "dlx"})
    await fill(broker, "q", "long", expiration=60)
    await fill(broker, "q", "short", expiration=0.001)
    await fill(broker, "dead", "later", expiration=0.05)
    await until(realm, {"q": 2, "dead": 0})  # 50 ms have passed
    async with broker.subscribe("q", prefetch=1) as messages:
        assert await payloads(messages, 1) == ["long"]
        await until(realm, {"q": 0, "dead": 1})
    assert await drained(broker, "dead") == ["short"]


async def test_an_unused_queue_expires(realm: Realm, broker: Broker) -> None:
    """With its messages; a consumer keeps it."""
    await queue(broker, "idle", {"x-expires": 150})
    await queue(broker, "busy", {"x-expires": 150})
    await fill(broker, "idle", 1)
    async with broker.subscribe("busy"):
        await until(realm, {"busy": 0})
    await until(realm, {})
    with pytest.raises(NotFound):
        await broker.inspect_queue("busy")


# -- limits -------------------------------------------------------------------------------------------


async def test_a_full_queue_drops_its_oldest(broker: Broker) -> None:
    """``drop-head`` is the default overflow."""
    await queue(broker, "q", {"x-max-length": 3})
    await fill(broker, "q", *range(5))
    assert await drained(broker, "q") == [2, 3, 4]


async def test_a_queue_full_of_bytes_drops_its_oldest(realm: Realm, broker: Broker) -> None:
    """Bodies count, what surrounds them does not.  A broker that doesn't know refuses such a queue."""
    if not realm.able.byte_limits:
        with pytest.raises(PreconditionFailed, match="x-max-length-bytes"):
            await queue(broker, "q", {"x-max-length-bytes": 100})
        assert realm.depths() == {}
        return
    await queue(broker, "q", {"x-max-length-bytes": 100})
    for letter in b"abc":
        await broker.publish(bytes([letter]) * 40, routing_key="q", content_type="text/plain")
    assert await ready(broker, "q") == 2


async def test_a_full_queue_may_refuse(broker: Broker) -> None:
    """``reject-publish``: that publish raises, what is in stays, and there is room again after a take."""
    await queue(broker, "q", {"x-max-length": 2, "x-overflow": "reject-publish"})
    await fill(broker, "q", 1, 2)
    with pytest.raises(PublishRefused, match="'q'"):
        await fill(broker, "q", 3)
    assert await drained(broker, "q") == [1, 2]
    await fill(broker, "q", 4)
    assert await drained(broker, "q") == [4]


# -- priorities ----------------------------------------------------------------------------------------


async def test_higher_priorities_go_first(realm: Realm, broker: Broker) -> None:
    """In order within one; above the maximum counts as the maximum, without one as 0.

    kombu's steps are 0, 3, 6 and 9, for every queue: a priority counts as the step it reaches.
    """
    await queue(broker, "q", {"x-max-priority": 3})
    for payload, priority in {"a0": None, "b2": 2, "c9": 9, "d0": 0, "e3": 3, "f2": 2}.items():
        await broker.publish(payload, routing_key="q", priority=priority)
    by_queue, by_step = ["c9", "e3", "b2", "f2", "a0", "d0"], ["c9", "e3", "a0", "b2", "d0", "f2"]
    assert await drained(broker, "q") == (by_queue if realm.able.queue_priorities else by_step)


async def test_priorities_need_a_queue_that_has_them(realm: Realm, broker: Broker) -> None:
    """In any other they change nothing; kombu's steps are in every queue."""
    await queue(broker, "q")
    for priority in (1, 9, 5):
        await broker.publish(priority, routing_key="q", priority=priority)
    assert await drained(broker, "q") == ([1, 9, 5] if realm.able.queue_priorities else [9, 5, 1])


async def test_consumers_of_higher_priority_are_served_first(realm: Realm, broker: Broker) -> None:
    """The others get what is too much for them; a broker that knows no such priorities prefers nobody."""
    await queue(broker, "q")
    async with (
        broker.subscribe("q", prefetch=1) as low,
        broker.subscribe("q", prefetch=2, arguments={"x-priority": 10}) as high,
    ):
        await fill(broker, "q", 1, 2, 3)
        got = [[message.payload_as(int) for message in await take(*wanted)] for wanted in ((high, 2), (low, 1))]
    if realm.able.consumer_priorities:
        assert got == [[1, 2], [3]]
    else:
        assert sorted(chain.from_iterable(got)) == [1, 2, 3]


async def test_a_single_active_consumer_has_it_all(realm: Realm, broker: Broker) -> None:
    """The one that came first; others stand by.  A broker that doesn't know refuses such a queue."""
    arguments = {"x-single-active-consumer": True}
    if not realm.able.single_active:
        with pytest.raises(PreconditionFailed, match="x-single-active-consumer"):
            await queue(broker, "q", arguments)
        assert realm.depths() == {}
        return
    await queue(broker, "q", arguments)
    async with broker.subscribe("q", prefetch=1) as standby:
        async with broker.subscribe("q", prefetch=1):
            await fill(broker, "q", 1, 2)
            (message,) = await take(standby, 1)
            assert (message.payload, await ready(broker, "q")) == (1, 1)
        message.ack()
        assert await payloads(standby, 1) == [2]
    assert await ready(broker, "q") == 0


# -- dead letters ----------------------------------------------------------------------------------------


def deaths(message: Delivered) -> list[dict[str, Any]]:
    """Where and of what it died, the newest first."""
    found: Any = message.headers.get("x-death", [])
    return list(found)


async def first_death(broker: Broker) -> tuple[Any, dict[str, Any]]:
    """Take a message from ``dead``; its payload and the newest entry of ``x-death``."""
    async with broker.subscribe("dead") as messages:
        (message,) = await take(messages, 1)
        message.ack()
        death = deaths(message)[0]
        assert message.headers["x-first-death-reason"] == death["reason"]
        assert message.headers["x-first-death-queue"] == death["queue"]
        assert message.headers["x-first-death-exchange"] == death["exchange"]
        return message.payload, death


async def test_rejected_messages_are_dead_letters(broker: Broker) -> None:
    """With a record of where they died, of what, how often and when; under a new key if there is one."""
    await dead_letter_queue(broker)
    await queue(broker, "q", {"x-dead-letter-exchange": "dlx", "x-dead-letter-routing-key": "new"})
    await fill(broker, "q", "m", headers={"own": 1})
    async with broker.subscribe("q") as messages:
        (message,) = await take(messages, 1)
        message.reject()
        async with broker.subscribe("dead") as dead:
            (letter,) = await take(dead, 1)
            letter.ack()
    assert (letter.payload, letter.routing_key, letter.exchange) == ("m", "new", "dlx")
    assert letter.headers["own"] == 1
    (death,) = deaths(letter)
    assert {key: death[key] for key in ("count", "exchange", "queue", "reason", "routing-keys")} == {
        "count": 1, "exchange": "", "queue": "q", "reason": "rejected", "routing-keys": ["q"],
    }  # fmt: skip
    assert death["time"] is not None


async def test_expired_messages_are_dead_letters(broker: Broker) -> None:
    """By their own time or the queue's; their own is taken from them, so that they don't die twice."""
    await dead_letter_queue(broker)
    await queue(broker, "q", {"x-dead-letter-exchange": "dlx", "x-message-ttl": 100})
    await fill(broker, "q", "by the queue's")
    payload, death = await first_death(broker)
    assert (payload, death["reason"], "original-expiration" in death) == ("by the queue's", "expired", False)
    await fill(broker, "q", "by its own", expiration=0.02)
    payload, death = await first_death(broker)
    assert (payload, death["reason"], death["original-expiration"]) == ("by its own", "expired", "20")


async def test_messages_over_the_limit_are_dead_letters(broker: Broker) -> None:
    """The oldest, as they are dropped."""
    await dead_letter_queue(broker)
    await queue(broker, "q", {"x-dead-letter-exchange": "dlx", "x-max-length": 1})
    await fill(broker, "q", "old", "new")
    payload, death = await first_death(broker)
    assert (payload, death["reason"]) == ("old", "maxlen")


async def test_deaths_are_counted_over_rounds(broker: Broker) -> None:
    """A retry queue: rejected, waited, delivered again, each round one more on the count."""
    await queue(broker, "work", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "wait"})
    await queue(
        broker, "wait", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "work", "x-message-ttl": 20}
    )
    await fill(broker, "work", "m")
    async with broker.subscribe("work") as messages:
        for rounds in range(3):
            (message,) = await take(messages, 1)
            counts = {(death["queue"], death["reason"]): death["count"] for death in deaths(message)}
            assert counts == ({("work", "rejected"): rounds, ("wait", "expired"): rounds} if rounds else {})
            message.reject()


async def test_requeued_and_acknowledged_messages_are_not_dead(broker: Broker) -> None:
    """Nor those purged or deleted with their queue."""
    await dead_letter_queue(broker)
    await queue(broker, "q", {"x-dead-letter-exchange": "dlx"})
    await fill(broker, "q", *range(4))
    async with broker.subscribe("q", prefetch=1) as messages:
        (message,) = await take(messages, 1)
        message.requeue()
        assert await payloads(messages, 1) == [0]
    assert await broker.purge_queue("q") == 3
    await fill(broker, "q", 5)
    assert await broker.delete_queue("q") == 1
    assert await ready(broker, "dead") == 0


# -- exclusive, auto-delete, deletion ------------------------------------------------------------------


async def test_an_exclusive_queue_is_its_connections_own(realm: Realm, broker: Broker) -> None:
    """Others may publish to it and nothing else; it ends with its connection."""
    async with realm.open_broker() as owner:
        await queue(owner, "q", exclusive=True, durable=False)
        await fill(broker, "q", 1)
        refused = [
            broker.inspect_queue("q"),
            broker.purge_queue("q"),
            broker.delete_queue("q"),
            queue(broker, "q", exclusive=True, durable=False),
            broker.declare(to_queue("q", "amq.direct", "k")),
            _subscribed(broker, "q"),
        ]
        for attempt in refused:
            with pytest.raises(ResourceLocked, match="'q'"):
                await attempt
        assert await drained(owner, "q") == [1]
    await until(realm, {})


async def _subscribed(broker: Broker, name: str, **options: Any) -> None:
    async with broker.subscribe(name, **options):
        pass


async def test_an_exclusive_consumer_is_alone(broker: Broker) -> None:
    """Nobody joins it, it joins nobody; when it has left, others may."""
    await queue(broker, "q")
    async with broker.subscribe("q", exclusive=True) as messages:
        for options in ({}, {"exclusive": True}):
            with pytest.raises(AccessRefused, match="'q'"):
                await _subscribed(broker, "q", **options)
        await fill(broker, "q", 1)
        assert await payloads(messages, 1) == [1]
    async with broker.subscribe("q"):
        with pytest.raises(AccessRefused, match="'q'"):
            await _subscribed(broker, "q", exclusive=True)
    await _subscribed(broker, "q", exclusive=True)


async def test_an_auto_delete_queue_ends_with_its_last_consumer(realm: Realm, broker: Broker) -> None:
    """Not before it had one, and not with the first of two."""
    await queue(broker, "q", auto_delete=True)
    async with broker.subscribe("q"):
        async with broker.subscribe("q"):
            pass
        await fill(broker, "q", 1)
        assert (await broker.inspect_queue("q")).consumers == 1
    await until(realm, {})


async def test_an_auto_delete_exchange_ends_with_its_last_binding(broker: Broker) -> None:
    """A queue's end unbinds it."""
    await broker.declare(ExchangeSpec(name="x", auto_delete=True))
    await queue(broker, "a")
    await queue(broker, "b")
    await broker.declare(to_queue("a", "x", "k"), to_queue("b", "x", "k"))
    await broker.unbind(to_queue("a", "x", "k"))
    await broker.publish("m", exchange="x", routing_key="k")
    assert await broker.delete_queue("b") == 1
    with pytest.raises(NotFound, match="'x'"):
        await broker.publish("m", exchange="x", routing_key="k")


async def test_purge_and_delete_count_what_they_remove(broker: Broker) -> None:
    """What is out with a consumer is not purged; deleting what isn't there is no error."""
    await queue(broker, "q")
    await fill(broker, "q", *range(5))
    async with broker.subscribe("q", prefetch=2) as messages:
        await take(messages, 2)
        assert await broker.purge_queue("q") == 3
        assert await broker.purge_queue("q") == 0
    assert await broker.delete_queue("q") == 2
    assert await broker.delete_queue("q") == 0
    with pytest.raises(NotFound, match="'q'"):
        await broker.purge_queue("q")


async def test_deletion_may_depend(broker: Broker) -> None:
    """``if_empty``, ``if_unused``: refused, and everything is as before."""
    await queue(broker, "q")
    await broker.declare(ExchangeSpec(name="x"), to_queue("q", "x", "k"))
    await fill(broker, "q", 1)
    with pytest.raises(PreconditionFailed, match="'q'"):
        await broker.delete_queue("q", if_empty=True)
    with pytest.raises(PreconditionFailed, match="'x'"):
        await broker.delete_exchange("x", if_unused=True)
    async with broker.subscribe("q") as messages:
        with pytest.raises(PreconditionFailed, match="'q'"):
            await broker.delete_queue("q", if_unused=True)
        assert await payloads(messages, 1) == [1]
    assert await broker.delete_queue("q", if_empty=True, if_unused=True) == 0
    await broker.delete_exchange("x", if_unused=True)


async def test_a_quorum_queue_counts_deliveries(broker: Broker) -> None:
    """Above its limit a message that keeps coming back is a dead letter."""
    await dead_letter_queue(broker)
    limits = {"x-queue-type": "quorum", "x-delivery-limit": 2, "x-dead-letter-exchange": "dlx"}
    await queue(broker, "q", limits)
    await fill(broker, "q", "poison")
    counts = []
    async with broker.subscribe("q", prefetch=1) as messages, broker.subscribe("dead") as dead:
        for _ in range(3):
            (message,) = await take(messages, 1)
            counts.append(message.headers.get("x-delivery-count"))
            message.requeue()
        (letter,) = await take(dead, 1)
        letter.ack()
    assert counts == [None, 1, 2]
    assert deaths(letter)[0]["reason"] == "delivery_limit"
