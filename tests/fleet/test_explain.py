"""``explain`` says in words what becomes of a message, and which settings don't go together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import attrs
import pytest

from kombu_actors.broker import QueueSpec
from kombu_actors.fleet import Batch, Depends, Message, Retry
from kombu_actors.fleet._explain import duration, explain
from kombu_actors.fleet._handlers import plan_handler, plan_job
from kombu_actors.fleet._plans import ConsumerPlan
from kombu_actors.fleet._schedule import job


async def pool() -> AsyncIterator[int]:
    yield 3


async def charge(order: str, db: Annotated[int, Depends(pool)]) -> None: ...


def shrink(path: str) -> None: ...


async def price(sku: str) -> int:
    return 42


async def load(events: list[Message]) -> None: ...


def plan(handler: Callable[..., object] = charge, *, batch: Batch | None = None, **changes: Any) -> ConsumerPlan:
    """A consumer of queue "orders"."""
    made = ConsumerPlan(
        queue=QueueSpec(name="orders"),
        declare=False,
        dead_letter="orders.dead",
        handler=plan_handler(handler, batch=batch, resources=[pool]),
        retry=Retry(delays=(1, 10, 60, 600), give_up_on=(ValueError,)),
        concurrency=50,
        prefetch=100,
        timeout=20.0,
        key=None,
        on_error="pass",
        batch=batch,
        fail_fast=None,
        deaf_after=30.0,
        accept=None,
    )
    return attrs.evolve(made, **changes)


def explained(*plans: ConsumerPlan, drain_timeout: float = 25.0) -> str:
    return " ".join(explain("shop", plans, drain_timeout=drain_timeout).split())


def test_each_case_has_its_sentence() -> None:
    """Success, failure, refusal, snooze, resource, shutdown, lost connection."""
    text = explain("shop", [plan()], drain_timeout=25.0)
    assert text.startswith("Fleet 'shop': 1 consumer.\n")
    assert "\n\norders\n  tests.fleet.test_explain.charge runs in trio, 50 calls of up to 20 s at once." in text
    assert max(map(len, text.splitlines())) <= 100
    told = explained(plan())
    for sentence in (
        "handlers have 25 s to finish; those that have not are cancelled, and their messages go back, which is no",
        "When pool fails, its calls are cancelled and their messages go back, which is no attempt.",
        "It returns: the message is acked, and what message.publish sent was confirmed before.",
        "It raises, or takes longer than 20 s: the message is tried again after 1 s, 10 s, 1 min, 10 min, from",
        "when attempt 5 fails, some 11 min 11 s after the first, it goes to queue 'orders.dead'.",
        "It raises Reject or ValueError, or the payload can't be decoded: the message goes to queue 'orders.dead' at",
        "It raises Snooze: the message comes again then, which is no attempt.",
        "The process or its connection is lost: the broker delivers the message again, which is no attempt.",
    ):
        assert sentence in told
    assert "!" not in told


@pytest.mark.parametrize(
    ("consumer", "sentence"),
    [
        (plan(shrink), "shrink runs in a worker thread, 50 calls of up to 20 s"),
        (plan(shrink), "A call in a thread can't be cancelled"),
        (plan(price), "what it returns is the answer. When it raises, the error is, at once"),
        (plan(key=id), "in order; those behind a message that is tried again go on meanwhile"),
        (plan(key=id, on_error="block"), "tried again wait for it, unacked"),
        (plan(retry=Retry(delays=())), "takes longer than 20 s: the message goes to queue 'orders.dead'."),
        (plan(fail_fast=5), "After 5 failures in a row one message at a time is tried, until one succeeds."),
        (plan(load, batch=Batch(size=200, within=0.5)), "each with up to 200 messages: those that came within 0.5 s"),
        (plan(load, batch=Batch()), "It raises, or takes longer than 20 s (all of the batch), or calls message.fail"),
        (plan(timeout=30.0), "A drain waits 25 s: a call that takes longer is cut short, and begins anew"),
        (plan(concurrency=1), "1 call of up to 20 s at once"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_what_is_chosen_is_told(consumer: ConsumerPlan, sentence: str) -> None:
    """Each option of a consumer has its words."""
    assert sentence in explained(consumer)


def declared(**options: Any) -> ConsumerPlan:
    return plan(queue=QueueSpec(name="orders", **options), declare=True)


@pytest.mark.parametrize(
    ("consumer", "sentence"),
    [
        (plan(timeout=None), "! Without a timeout a call that hangs keeps its slot"),
        (
            plan(timeout=2400.0),
            "! A message can be held for 40 min before it is settled, but RabbitMQ closes the channel",
        ),
        (
            plan(key=id, on_error="block", retry=Retry(delays=(3600,))),
            "! A message can be held for 1 h 40 s before it is settled, but RabbitMQ closes the channel after 30 min",
        ),
        (declared(ttl=60), "! Messages of this queue expire after 1 min, but one that is tried again counts anew"),
        (
            declared(expires=600),
            "! The queue goes after 10 min without a consumer: a message that waits 10 min for its",
        ),
        (declared(auto_delete=True), "! The queue goes with its consumer or its broker"),
        (declared(durable=False), "! The queue goes with its consumer or its broker"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_what_does_not_go_together_is_pointed_at(consumer: ConsumerPlan, sentence: str) -> None:
    """With an exclamation mark at the beginning of its line."""
    assert sentence in explained(consumer)


def test_what_goes_together_is_not_pointed_at() -> None:
    """A TTL longer than the retries, a queue of the program's own that stays, a drain shorter than the grace."""
    assert "!" not in explained(plan(), declared(ttl=3600, expires=3600))
    assert "! Kubernetes kills a process 30 s after TERM" in explained(plan(), drain_timeout=30.0)


async def sweep() -> None: ...


def test_jobs_are_told_of() -> None:
    """When each runs, and where."""
    made = [job(schedule, plan_job(sweep, resources=[])) for schedule in (300, "30 3 * * *")]
    text = " ".join(explain("shop", [plan()], jobs=made, drain_timeout=25.0).split())
    assert "periodic jobs tests.fleet.test_explain.sweep runs every 5 min. tests.fleet." in text
    assert "runs at '30 3 * * *' (cron, UTC). One process of all fleets named 'shop' runs them" in text
    assert "periodic" not in explained(plan())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.25, "0.25 s"),
        (1, "1 s"),
        (60, "1 min"),
        (671, "11 min 11 s"),
        (90061, "1 d 1 h"),
        (0, "0 s"),
        (3601.5, "1 h 1.5 s"),
    ],
)
def test_durations_are_told_in_two_units(seconds: float, text: str) -> None:
    """As people say them."""
    assert duration(seconds) == text
