"""A registration that can't work is a sentence where it stands, before anything connects."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, cast

import pytest

from kombu_actors.broker import QueueSpec
from kombu_actors.errors import InvalidURL
from kombu_actors.fleet import Batch, Depends, Fleet, FleetMistake, Message, Retry, Snooze

NOWHERE = "amqp://nowhere.invalid"
"""Whoever connected to it would fail otherwise than with a mistake."""


async def handle(order: dict[str, str]) -> None: ...


async def load(events: list[Message]) -> None: ...


async def sweep() -> None: ...


def blocking(message: Message, call_next: Callable[..., object]) -> object: ...


async def alone(message: Message) -> object: ...


class Bad:
    """A consumer with wrong arguments; what it is registered with, and for whom."""

    def __init__(self, function: Callable[..., object] = handle, queue: object = "orders", **arguments: object) -> None:
        self.function, self.queue, self.arguments = function, queue, arguments

    def __repr__(self) -> str:
        words = [repr(self.queue), *(f"{name}={one}" for name, one in self.arguments.items())]
        return ", ".join(re.sub(r"<function (\S+) .*", r"\1", word)[:30] for word in words)  # no addresses

    def register(self, fleet: Any) -> None:
        fleet.consumer(self.queue, **self.arguments)(self.function)


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (Bad(concurrency=0), "consumer of queue 'orders': concurrency is a whole number from 1 to 10000, not 0"),
        (Bad(concurrency=True), "concurrency is a whole number"),
        (Bad(concurrency=2.5), "concurrency is a whole number"),
        (Bad(timeout=0), "timeout is above 0 seconds, or None for no limit"),
        (Bad(timeout=-1), "timeout is a number of seconds"),
        (Bad(timeout="30"), "timeout is a number of seconds from 0 on, not '30'"),
        (Bad(timeout=float("nan")), "timeout is a number of seconds"),
        (Bad(retry=5), r"retry is a Retry\(delays=...\), not 5"),
        (Bad(on_error="stop"), 'on_error is "pass" or "block", not \'stop\''),
        (Bad(on_error="block"), 'on_error="block" keeps a key\'s messages waiting, so it needs a key='),
        (Bad(load, batch=100), r"batch is a Batch\(size=..., within=...\), not 100"),
        (Bad(load, batch=Batch(), key=lambda events: events), "key= and batch= exclude each other"),
        (Bad(load), "many messages come to a consumer with `batch=Batch"),
        (Bad(key="customer"), "key= takes a function"),
        (Bad(key=lambda ordre: ordre), "key= asks for 'ordre'"),
        (Bad(fail_fast=0), "fail_fast is a whole number from 1"),
        (Bad(prefetch=0), "prefetch is a whole number from 1"),
        (Bad(prefetch=2, concurrency=5), "prefetch=2 is less than its handlers hold at once"),
        (Bad(load, batch=Batch(size=10_000), concurrency=10), "10 batches of 10000 are more messages at once"),
        (Bad(accept="json"), "accept is a list of serializers"),
        (Bad(accept=["jason"]), "accept: "),
        (Bad(dead_letter="orders"), "its dead letters would come back to it at once"),
        (Bad(dead_letter=""), "a queue's name is a text of 1 to 255 bytes"),
        (Bad(queue=""), "a queue's name is a text of 1 to 255 bytes"),
        (Bad(queue="x" * 256), "a queue's name is a text of 1 to 255 bytes"),
        (Bad(queue=3), "takes a queue's name, or a QueueSpec, not 3"),
        (Bad(queue=handle), "takes a queue's name, or a QueueSpec"),
    ],
    ids=str,
)
def test_a_consumer_with_wrong_arguments(bad: Bad, text: str) -> None:
    """The sentence names the queue or the function, the argument, and what it takes."""
    fleet = Fleet(NOWHERE)
    with pytest.raises(FleetMistake, match=text):
        bad.register(fleet)
    assert repr(fleet) == "<Fleet 'fleet': no consumers>"


@pytest.mark.parametrize(
    ("first", "second", "text"),
    [
        (
            Bad(dead_letter="a"),
            Bad(dead_letter="b"),
            "two consumers of queue 'orders' name different dead letters: 'a'",
        ),
        (Bad(), Bad(dead_letter="b"), "different dead letters: 'orders.dead' .*handle.* and 'b'"),
        (
            Bad(queue=QueueSpec(name="orders", ttl=1)),
            Bad(queue=QueueSpec(name="orders")),
            "two consumers declare queue 'orders' differently: give both the same QueueSpec",
        ),
    ],
    ids=str,
)
def test_two_consumers_that_can_not_live_together(first: Bad, second: Bad, text: str) -> None:
    """Of one queue, in one fleet; the second is the mistake."""
    fleet = Fleet(NOWHERE)
    first.register(fleet)
    with pytest.raises(FleetMistake, match=text):
        second.register(fleet)


def test_resources_that_can_not_be() -> None:
    """Two of one name; one that depends on a stranger, or on one that is registered below it, as in a circle."""
    fleet: Any = Fleet(NOWHERE)

    async def pool() -> AsyncIterator[int]:
        yield 3

    async def session(of: Annotated[int, Depends(pool)]) -> AsyncIterator[int]:
        yield of

    with pytest.raises(
        FleetMistake, match=r"session\(of\) depends on .*pool, which is no resource of this fleet: put @f"
    ):
        fleet.resource(session)
    fleet.resource(pool)
    fleet.resource(session)
    with pytest.raises(FleetMistake, match="has a resource named 'pool' already: rename one of them"):
        fleet.resource(pool)
    with pytest.raises(FleetMistake, match="a resource is an `async def` that yields once"):
        fleet.resource(sweep)


@pytest.mark.parametrize(
    "schedule", [0, -5, "*/5 * * *", "61 * * * *", "every day", None, float("inf"), "0 0 31 2 *"], ids=str
)
def test_a_job_with_a_wrong_schedule(schedule: Any) -> None:
    """Seconds, or a cron expression of a moment that comes."""
    with pytest.raises(FleetMistake, match=r"@fleet\.every of .*sweep"):
        Fleet(NOWHERE).every(schedule)(sweep)


def test_two_jobs_of_one_name() -> None:
    """By its name the fleet remembers when a job last ran."""
    fleet = Fleet(NOWHERE)
    fleet.every(5)(sweep)
    with pytest.raises(FleetMistake, match=r"has a job named '.*sweep' already"):
        fleet.every(60)(sweep)


@pytest.mark.parametrize("function", [blocking, alone, 3], ids=["a plain function", "one argument", "no function"])
def test_middleware_that_can_not_be_called(function: Any) -> None:
    """It is an async function of a message and ``call_next``."""
    with pytest.raises(FleetMistake, match="middleware"):
        Fleet(NOWHERE).middleware(function)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Retry(delays=5),
        lambda: Retry(delays=(0,)),
        lambda: Retry(delays=("1",)),
        lambda: Retry(delays=(31 * 24 * 3600,)),
        lambda: Retry(give_up_on=("KeyError",)),
        lambda: Batch(size=0),
        lambda: Batch(within=0),
        lambda: Batch(size=True),
        lambda: Snooze(-1),
        lambda: Fleet(NOWHERE, name=""),
        lambda: Fleet(NOWHERE, drain_timeout=-1),
        lambda: Fleet(NOWHERE, retry=cast(Retry, 5)),
    ],
)
def test_values_that_can_not_be_meant(make: Any) -> None:
    """Where they are made."""
    with pytest.raises(FleetMistake, match=r"[a-z]+.*(is|takes) .*not "):
        make()


def test_an_url_that_is_none() -> None:
    """Without what it may hold of a password."""
    with pytest.raises(InvalidURL):
        Fleet("amqp//user:secret@localhost")


async def test_a_fleet_without_consumers_or_jobs_has_nothing_to_run() -> None:
    """Most likely the module that registers them was not imported."""
    with pytest.raises(FleetMistake, match="fleet 'shop' has nothing to do: register a handler"):
        await Fleet(NOWHERE, name="shop").run()
