"""A pipeline of three stages, each with its own queue and its own number of workers.

    python examples/trio_pipeline.py [URL]

A stage publishes what it made before its own message is acked, so nothing is lost between two stages.
"""

from __future__ import annotations

import sys
from collections import Counter
from functools import partial

import trio

from kombu_actors.broker import Broker, Delivered, QueueSpec, Subscription, open_broker

LINES = ["the quick brown fox", "jumps over the lazy dog", "the end"]
WORDS = sum(len(line.split()) for line in LINES)


class Pipeline:
    """Lines are split into words, words are cleaned, clean words are counted."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.counts: Counter[str] = Counter()
        self.finished = trio.Event()

    async def split(self, message: Delivered) -> None:
        await self.broker.publish_many(message.payload_as(str).split(), routing_key="words")

    async def clean(self, message: Delivered) -> None:
        await self.broker.publish(message.payload_as(str).strip(".,").upper(), routing_key="counts")

    async def count(self, message: Delivered) -> None:
        self.counts[message.payload_as(str)] += 1
        if self.counts.total() == WORDS:
            self.finished.set()


async def main(url: str) -> None:
    async with open_broker(url) as broker, trio.open_nursery() as nursery:
        pipeline = Pipeline(broker)
        stages = {"lines": (pipeline.split, 1), "words": (pipeline.clean, 4), "counts": (pipeline.count, 1)}
        await broker.declare(*(QueueSpec(name=name, max_length=1000, overflow="reject-publish") for name in stages))
        running: list[Subscription] = []
        for name, (handler, workers) in stages.items():
            running.append(await nursery.start(partial(broker.consume, name, handler, concurrency=workers)))
        await broker.publish_many(LINES, routing_key="lines")
        await pipeline.finished.wait()
        for messages in running:  # from the first stage to the last: each hands on what it has begun
            await messages.stop()
    print(*(f"{word} {number}" for word, number in sorted(pipeline.counts.items())), sep="\n")


if __name__ == "__main__":
    trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "memory://pipeline")
