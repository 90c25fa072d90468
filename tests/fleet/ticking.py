"""A process of a fleet with one periodic job: ``python -m tests.fleet.ticking URL SECONDS``; prints when it ran."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

import trio

from kombu_actors.broker import Broker, open_broker
from kombu_actors.fleet._periodic import Periodic
from kombu_actors.fleet._plans import HandlerPlan
from kombu_actors.fleet._schedule import Job, job
from kombu_actors.supervisors import ChildSpec, SupervisorSpec, open_supervisor


def job_of(function: Callable[[], object], schedule: str | float, *, is_async: bool = True) -> Job:
    """A job of a function that returns a coroutine, or of a plain one."""

    def call(_: object, __: Sequence[object]) -> object:
        return function()

    plan = HandlerPlan(name="shop.sweep", is_async=is_async, replies=False, decode=None, resources=(), call=call)
    return job(schedule, plan)


def tree(periodic: Periodic) -> SupervisorSpec:
    """Its jobs, as a supervision tree."""
    return SupervisorSpec(id="fleet", children=(ChildSpec(id="periodic", start=periodic.run),))


def periodic_of(broker: Broker, *jobs: Job, clock: Callable[[], float] = time.time) -> Periodic:
    """The jobs of a fleet named ``shop``, over one connection."""
    return Periodic("shop", jobs, broker, broker, lambda _: (), clock=clock)


async def main(url: str, seconds: float) -> None:
    """Tick until killed."""

    async def tick() -> None:
        print(time.time(), flush=True)

    async with open_broker(url) as broker, open_supervisor(tree(periodic_of(broker, job_of(tick, seconds)))):
        print("standing by", flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], float(sys.argv[2]))
