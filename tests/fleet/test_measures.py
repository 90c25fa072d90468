"""How long calls, waits and confirms took, in buckets; and sums that never go back."""

from __future__ import annotations

import json
import time
from functools import partial

import attrs
import pytest
import trio

from kombu_actors.fleet import Batch, Fleet, Message, QueueCount, Reject, Retry
from kombu_actors.fleet._measures import CallMeasures, Measure
from kombu_actors.fleet.documents import ConsumerDocument, FleetDocument, MeasureDocument
from kombu_actors.fleet.program import SingleProcess
from kombu_actors.fleet.totals import CALL_BOUNDS, WAIT_BOUNDS, QueueTotals, Totals, quantile
from kombu_actors.supervisors import ChildState, ChildView

from .support import PATIENCE, eventually


def test_a_bound_belongs_to_its_bucket() -> None:
    """As Prometheus has it: le is "at most"."""
    measure = Measure((1.0, 2.0))
    assert measure.view() is None
    for seconds in (0.5, 1.0, 1.5, 9.0):
        measure.add(seconds)
    view = measure.view()
    assert view is not None
    assert (view.counts, view.sum) == ((2, 1, 1), 12.0)
    assert (view + view).counts == (4, 2, 2)


@pytest.mark.parametrize(
    ("counts", "share", "seconds"),
    [
        ((0, 0, 0), 0.5, None),
        ((10, 0, 0), 0.5, 0.5),
        ((5, 5, 0), 0.5, 1.0),
        ((5, 5, 0), 0.9, 1.8),
        ((0, 0, 3), 0.5, 2.0),
    ],
)
def test_quantiles_are_told_from_buckets(counts: tuple[int, ...], share: float, seconds: float | None) -> None:
    """As if what is in a bucket were spread evenly; what is above all bounds is "at least the last one"."""
    assert quantile(counts, (1.0, 2.0), share) == seconds


def test_a_wait_is_from_the_publishers_stamp_to_the_first_call() -> None:
    """Milliseconds, text and clocks that are far off are no stamps; a clock that is a little ahead says 0."""
    now = 1_800_000_000.0
    measures = CallMeasures(offset=now - 100)
    for published in (now * 1000, "now", None, 7, now + 86_400):
        measures.call(100, 101, {"timestamp": published})
    measures.call(100, 101, {"timestamp": now - 5, "headers": {"ka-attempt": 1}})  # it waited for its retry
    assert measures.waits.view() is None
    measures.call(100, 101, {"timestamp": int(now) + 1})
    measures.call(100, 101, {"timestamp": int(now) - 20, "headers": {}})
    assert measures.progress_at == now + 1
    view = measures.waits.view()
    assert view is not None
    assert (view.counts[0], view.counts[WAIT_BOUNDS.index(30.0)], view.sum) == (1, 1, 20.0)


def shop() -> Fleet:
    fleet = Fleet("memory://measures", name="shop", retry=Retry(delays=(0.1,), give_up_on=(KeyError,)))

    @fleet.consumer("jobs")
    async def handle(job: str, message: Message) -> None:
        match job:
            case "slow":
                await trio.sleep(0.06)
            case "reject":
                raise Reject
            case "hopeless":
                raise KeyError(job)
            case "fail":
                raise OSError
            case "publish":
                await message.publish("lots", "x")

    @fleet.consumer("lots", batch=Batch(size=10, within=0.01))
    async def handle_lots(jobs: list[str]) -> None: ...

    return fleet


async def test_a_fleet_measures_what_it_does() -> None:
    """Calls with failed ones, the wait of first attempts only, confirms of what goes out, and why messages died."""
    program = SingleProcess(shop())

    def jobs() -> QueueTotals:
        return program.status().totals.queues["jobs"]

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(program.run, signals=False))
            async with program.fleet.open() as client:
                for job in ("slow", "reject", "hopeless", "fail", "publish"):
                    await client.publish("jobs", job)
                await client.publish("jobs", 7)
                await client.publish("jobs", "old", timestamp=int(time.time()) - 100)
            await eventually(lambda: jobs().count.acked + jobs().count.dead_lettered == 7)
            await eventually(lambda: program.status().totals.queues["lots"].count.acked == 1)
            program.stop("the test is over")
    totals = program.status().totals
    one = totals.queues["jobs"]
    assert (one.count.dead_lettered, one.count.rejected, one.count.given_up, one.count.undecodable) == (4, 1, 1, 1)
    assert one.calls is not None
    assert one.waits is not None
    assert totals.confirms is not None
    assert sum(one.calls.counts) == 8  # one of them was tried twice
    assert sum(one.calls.counts[: CALL_BOUNDS.index(0.05) + 1]) <= 7
    assert one.calls.sum >= 0.06
    assert sum(one.waits.counts) == 7
    assert one.waits.sum >= 100
    assert sum(totals.confirms.counts) == 6  # four dead letters, a retry, and what a handler published
    lots = totals.queues["lots"]
    assert lots.calls is not None
    assert sum(lots.calls.counts) == 1
    assert json.loads(json.dumps(totals.to_dict()))["queues"]["jobs"]["calls"]["sum"] == one.calls.sum


async def test_restarts_are_counted_by_the_part_of_the_tree() -> None:
    """An actor that is started again counts, and its first start doesn't."""
    program = SingleProcess(shop())
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(program.run, signals=False))
            assert program.status().totals.restarts == {}
            await program.restart("work/consumers/jobs")
            await eventually(lambda: program.status().totals.restarts == {"consumers": 1})
            program.stop("the test is over")


def test_sums_are_over_queues_and_processes() -> None:
    """Also where one has no such queue, or has measured nothing."""
    view: FleetDocument = {
        "fleet": "shop",
        "stopping": False,
        "tree": ChildView("shop", "", ChildState.READY).to_dict(),
        "connections": {},
        "consumers": [consumed(2, {"counts": [1, 1], "sum": 3.0}), consumed(3, None)],
        "jobs": [],
        "confirms": None,
        "restarts": {"consumers": 2},
    }
    total = Totals() + Totals.of(view) + Totals.of({**view, "consumers": [], "restarts": {"resources": 1}})
    assert total.queues["jobs"].count.received == 5
    assert total.queues["jobs"].calls is not None
    assert total.queues["jobs"].calls.counts == (1, 1)
    assert total.restarts == {"consumers": 2, "resources": 1}


def consumed(received: int, calls: MeasureDocument | None) -> ConsumerDocument:
    """A consumer that took in so many."""
    return {
        "queue": "jobs",
        "path": "work/consumers/jobs",
        "paused": False,
        "narrow": False,
        "concurrency": 1,
        "slots": [],
        "deaf_for": 0.0,
        "deaf_step": None,
        "lanes": [],
        "stuck": [],
        "retrying": 0,
        "count": attrs.evolve(QueueCount.of([]), received=received).to_dict(),
        "calls": calls,
        "waits": None,
        "progress_at": None,
    }
