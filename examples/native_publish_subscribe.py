"""The trio API: a topic exchange, two subscribers, everything inside the caller's own nursery.

python examples/native_publish_subscribe.py [URL]
"""

from __future__ import annotations

import sys

import trio

from kombu_actors.broker import BindingKind, BindingSpec, Broker, ExchangeSpec, QueueSpec, open_broker

READINGS = [("kitchen", 21.5), ("cellar", 11.0), ("kitchen", 22.0)]


async def listen(broker: Broker, pattern: str, count: int, task_status: trio.TaskStatus[None]) -> None:
    """Print ``count`` readings that match the pattern."""
    queue = f"readings of {pattern}"
    await broker.declare(
        QueueSpec(name=queue, exclusive=True),
        BindingSpec(kind=BindingKind.QUEUE, source="readings", destination=queue, routing_key=pattern),
    )
    async with broker.subscribe(queue) as messages:
        task_status.started()
        async for message in messages:
            print(f"{pattern}: {message.routing_key} {message.payload}")
            message.ack()
            count -= 1
            if not count:
                return


async def main(url: str) -> None:
    async with open_broker(url) as broker:
        await broker.declare(ExchangeSpec(name="readings", type="topic"))
        async with trio.open_nursery() as nursery:
            await nursery.start(listen, broker, "temperature.*", 3)
            await nursery.start(listen, broker, "*.kitchen", 2)
            for room, degrees in READINGS:
                # Returns when the broker has confirmed it; mandatory: an error if no queue got it.
                await broker.publish(degrees, exchange="readings", routing_key=f"temperature.{room}", mandatory=True)
        await broker.delete_exchange("readings")


if __name__ == "__main__":
    trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "memory://readings")
