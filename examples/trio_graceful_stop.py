"""A worker that stops as an orchestrator wants it: SIGTERM, finish what is begun, give the rest back, leave.

python examples/trio_graceful_stop.py [URL]
"""

from __future__ import annotations

import signal
import sys
from functools import partial

import trio

from kombu_actors.broker import Delivered, QueueSpec, Subscription, open_broker

JOBS, AT_A_TIME, GRACE = 50, 5, 5.0


class Worker:
    """Does slow jobs."""

    def __init__(self) -> None:
        self.begun = self.done = 0

    async def work(self, message: Delivered) -> None:
        self.begun += 1
        if self.begun == AT_A_TIME:
            print("at work", flush=True)
        await trio.sleep(0.2)
        self.done += 1


async def main(url: str) -> None:
    worker = Worker()
    async with open_broker(url) as broker:
        await broker.declare(QueueSpec(name="slow"))
        await broker.purge_queue("slow")
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with trio.open_nursery() as nursery:
                consume = partial(broker.consume, "slow", worker.work, concurrency=AT_A_TIME)
                messages: Subscription = await nursery.start(consume)
                await broker.publish_many(range(JOBS), routing_key="slow")
                await anext(aiter(signals))
                nursery.cancel_scope.deadline = trio.current_time() + GRACE  # for the jobs that run
                await messages.stop(drain=False)
        left = (await broker.inspect_queue("slow")).messages
        print(f"stopped in order: {worker.done + left} of {JOBS} jobs are done or left for others")


if __name__ == "__main__":
    trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "memory://stop")
