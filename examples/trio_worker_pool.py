"""A pool of workers: ten jobs at a time, and those of one customer in their order.

python examples/trio_worker_pool.py [URL]
"""

from __future__ import annotations

import sys
from functools import partial

import trio

from kombu_actors.broker import Delivered, QueueSpec, Subscription, open_broker

CUSTOMERS, EACH = 20, 5


class Pool:
    """Works jobs off until all have been done."""

    def __init__(self) -> None:
        self.done: dict[str, list[int]] = {}
        self.finished = trio.Event()
        self.at_work = self.most = 0

    async def work(self, message: Delivered) -> None:
        """One job.  When it returns the message is acked; when it raises, it is rejected and logged."""
        job = message.payload_as(dict)
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        await trio.sleep(0.005)
        self.at_work -= 1
        self.done.setdefault(job["customer"], []).append(job["number"])
        if sum(map(len, self.done.values())) == CUSTOMERS * EACH:
            self.finished.set()


def customer(message: Delivered) -> str:
    """Jobs of the same customer are done one after the other."""
    return str(message.payload_as(dict)["customer"])


async def main(url: str) -> None:
    pool = Pool()
    async with open_broker(url) as broker, trio.open_nursery() as nursery:
        await broker.declare(QueueSpec(name="jobs"))
        consume = partial(broker.consume, "jobs", pool.work, concurrency=10, key=customer)
        messages: Subscription = await nursery.start(consume)
        jobs = ({"customer": f"c{n % CUSTOMERS}", "number": n // CUSTOMERS} for n in range(CUSTOMERS * EACH))
        await broker.publish_many(jobs, routing_key="jobs")
        await pool.finished.wait()
        await messages.stop()
    in_order = all(numbers == sorted(numbers) for numbers in pool.done.values())
    several = 1 < pool.most <= 10
    print(f"{CUSTOMERS * EACH} jobs done; several at a time: {several}; each customer's in order: {in_order}")


if __name__ == "__main__":
    trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "memory://pool")
