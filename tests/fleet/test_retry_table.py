"""One table of retries, the same on every broker: when, in which order, and how often."""

from __future__ import annotations

import itertools
from collections import defaultdict

import attrs
import pytest
import trio

from kombu_actors.broker import Broker, QueueSpec
from kombu_actors.fleet import Fleet, Message, Reject, Retry, Snooze
from tests.conformance.realms import Realm

from .support import PATIENCE, make_fleet, running

GAP = 0.2
"""Seconds that a delay may be off, or a tenth of it, as promised."""


@attrs.frozen(kw_only=True)
class Case:
    """A queue's policy, what its handler does at each attempt, and what has to come of it."""

    queue: str
    delays: tuple[float, ...]
    script: tuple[Exception | None, ...]
    """By call: what the handler raises; None: it returns.  The last one goes on for ever."""
    gaps: tuple[float, ...]
    """Seconds between the calls."""
    attempts: tuple[int, ...]
    dead: str | None = None
    """The reason of the dead letter."""


CASES = (
    Case(queue="at-once", delays=(0.3,), script=(None,), gaps=(), attempts=(1,)),
    Case(queue="second", delays=(0.3, 0.6), script=(ValueError(), None), gaps=(0.3,), attempts=(1, 2)),
    Case(
        queue="ladder",
        delays=(0.3, 0.7, 1.5),
        script=(ValueError(),),
        gaps=(0.3, 0.7, 1.5),
        attempts=(1, 2, 3, 4),
        dead="failed 4 times, at last: ValueError",
    ),
    Case(
        queue="same-delay",
        delays=(0.4, 0.4),
        script=(KeyError(), KeyError(), None),
        gaps=(0.4, 0.4),
        attempts=(1, 2, 3),
    ),
    Case(queue="none", delays=(), script=(ValueError(),), gaps=(), attempts=(1,), dead="failed: ValueError"),
    Case(queue="given-up", delays=(5,), script=(OSError(),), gaps=(), attempts=(1,), dead="not tried again: OSError"),
    Case(
        queue="rejected-later",
        delays=(0.3, 5),
        script=(ValueError(), Reject("no use")),
        gaps=(0.3,),
        attempts=(1, 2),
        dead="no use",
    ),
    Case(
        queue="snoozed",
        delays=(0.3,),
        script=(Snooze(0.5), ValueError(), Snooze(0.25), None),
        gaps=(0.5, 0.3, 0.25),
        attempts=(1, 1, 2, 2),
    ),
)
MESSAGES = 4
"""Of each queue, at a time: their order has to stay."""


@attrs.define
class Log:
    """What the handlers of a queue saw."""

    calls: dict[int, list[tuple[float, int]]] = attrs.field(factory=lambda: defaultdict(list))
    """By message: when, and which attempt."""
    order: list[int] = attrs.field(factory=list)


def register(fleet: Fleet, case: Case, log: Log) -> None:
    """A handler that plays the script of a case."""

    @fleet.consumer(case.queue, retry=Retry(delays=case.delays, give_up_on=(OSError,)))
    async def handle(number: int, message: Message) -> None:
        calls = log.calls[number]
        calls.append((trio.current_time(), message.attempt))
        log.order.append(number)
        outcome = case.script[min(len(calls), len(case.script)) - 1]
        if outcome is not None:
            raise type(outcome)(*outcome.args[:1]) if not isinstance(outcome, Snooze) else Snooze(outcome.seconds)


def near(gap: float, wanted: float, lag: float) -> bool:
    """Whether a delay was kept: never shorter, but for the milliseconds that clocks differ by."""
    return -0.01 <= gap - wanted <= max(GAP, wanted / 10) + 4 * lag


class Probe:
    """How late this machine is just now: the longest time that a message took there and back."""

    worst = 0.0

    async def run(self, broker: Broker) -> None:
        """Measure until cancelled."""
        await broker.declare(QueueSpec(name="probe"))
        async with broker.subscribe("probe") as messages:
            while True:
                began = trio.current_time()
                await broker.publish(b"", routing_key="probe")
                (await anext(messages)).ack()
                await trio.sleep(0.01)
                self.worst = max(self.worst, trio.current_time() - began - 0.01)


async def dead_letters(broker: Broker, queue: str) -> list[object]:
    """Reasons, in the order of the queue."""
    reasons = []
    while (message := await broker.get(queue)) is not None:
        message.ack()
        reasons.append(message.headers["ka-reason"])
    return reasons


@pytest.mark.slow
async def test_the_table_of_retries(realm: Realm, broker: Broker) -> None:
    """Each delay is kept to a tenth or 0.2 s, each attempt counted, each message ends once, and their order stays.

    A machine that is busy elsewhere is late itself: that much, as a probe measures beside, is not ours.
    """
    fleet = make_fleet(realm)
    logs = {case.queue: Log() for case in CASES}
    for case in CASES:
        register(fleet, case, logs[case.queue])

    probe = Probe()
    async with running(fleet) as left, trio.open_nursery() as nursery:
        nursery.start_soon(probe.run, broker)
        for case in CASES:
            await broker.publish_many(range(MESSAGES), routing_key=case.queue)

        def over() -> bool:
            return all(view.count.acked + view.count.dead_lettered == MESSAGES for view in fleet.snapshot().consumers)

        with trio.fail_after(PATIENCE):
            while not over():  # noqa: ASYNC110  # figures of a snapshot
                await trio.sleep(0.02)
        nursery.cancel_scope.cancel()
    wrong = []
    for case in CASES:
        log, count = logs[case.queue], left.certificate.queues[case.queue]
        for calls in log.calls.values():
            gaps = [later - earlier for (earlier, _), (later, _) in itertools.pairwise(calls)]
            if tuple(attempt for _, attempt in calls) != case.attempts:
                wrong.append(f"{case.queue}: attempts {calls}")
            elif any(
                not -0.01 <= gap - wanted <= max(GAP, wanted / 10) for gap, wanted in zip(gaps, case.gaps, strict=True)
            ):
                wrong.append(f"{case.queue}: gaps {gaps}, lag {probe.worst:.3f}")
        if log.order != list(range(MESSAGES)) * len(case.attempts):
            wrong.append(f"{case.queue}: order {log.order}")
        if await dead_letters(broker, f"{case.queue}.dead") != [case.dead] * (MESSAGES if case.dead else 0):
            wrong.append(f"{case.queue}: dead letters")
        if count.retried != MESSAGES * len(case.gaps) or await broker.get(case.queue) is not None:
            wrong.append(f"{case.queue}: {count}")
    assert not wrong, "\n".join(wrong)
