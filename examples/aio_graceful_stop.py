"""An asyncio worker that stops as an orchestrator wants it: SIGTERM, finish what is begun, give the rest back, leave.

python examples/aio_graceful_stop.py [URL]
"""

from __future__ import annotations

import asyncio
import signal
import sys

from kombu_actors.aio import Delivered, QueueSpec, Subscription, open_broker

JOBS, AT_A_TIME, GRACE = 50, 5, 5.0


class Worker:
    """Does slow jobs."""

    def __init__(self) -> None:
        self.begun = self.done = 0

    async def work(self, message: Delivered) -> None:
        self.begun += 1
        if self.begun == AT_A_TIME:
            print("at work", flush=True)
        await asyncio.sleep(0.2)
        self.done += 1


async def main(url: str) -> None:
    worker, told = Worker(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    async with open_broker(url) as broker:
        await broker.declare(QueueSpec(name="slow"))
        await broker.purge_queue("slow")
        started: asyncio.Future[Subscription] = loop.create_future()
        working = asyncio.create_task(broker.consume("slow", worker.work, concurrency=AT_A_TIME, started=started))
        messages = await started
        await broker.publish_many(range(JOBS), routing_key="slow")
        await told.wait()
        async with asyncio.timeout(GRACE):  # for the jobs that run
            await messages.stop(drain=False)
            await working
        left = (await broker.inspect_queue("slow")).messages
        print(f"stopped in order: {worker.done + left} of {JOBS} jobs are done or left for others")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "memory://stop"))
