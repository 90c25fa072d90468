"""Messages into a database, a hundred in one transaction, or what has come within a fifth of a second.

    python examples/trio_batch_writer.py [URL]

They are acked after the commit.  One that comes again after a fault has its ``message_id``: it is written once.
"""

from __future__ import annotations

import sqlite3
import sys

import trio

from kombu_actors.broker import Broker, Delivered, QueueSpec, Subscription, open_broker

READINGS, BATCH, PATIENCE = 250, 100, 0.2


async def next_batch(messages: Subscription) -> list[Delivered]:
    """A full batch, or what there is when the time is over; at least one."""
    batch = [await anext(messages)]
    with trio.move_on_after(PATIENCE):
        while len(batch) < BATCH:
            batch.append(await anext(messages))  # cancelled, it takes none
    return batch


async def write(broker: Broker, database: sqlite3.Connection) -> int:
    """Write until all is there; returns the number of transactions."""
    transactions = written = 0
    async with broker.subscribe("readings", prefetch=2 * BATCH) as messages:
        while written < READINGS:
            batch = await next_batch(messages)
            rows = [(message.message_id, message.payload_as(float)) for message in batch]
            with database:
                database.executemany("INSERT OR IGNORE INTO readings VALUES (?, ?)", rows)
            transactions += 1
            for message in batch:
                message.ack()
            (written,) = database.execute("SELECT count(*) FROM readings").fetchone()
    return transactions


async def main(url: str) -> None:
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE readings (id TEXT PRIMARY KEY, degrees REAL)")
    async with open_broker(url) as broker:
        await broker.declare(QueueSpec(name="readings"))
        async with trio.open_nursery() as nursery:
            for number in range(READINGS):
                nursery.start_soon(publish, broker, number)
        transactions = await write(broker, database)
    print(f"{READINGS} readings, in few transactions: {transactions < READINGS / 10}")
    database.close()


async def publish(broker: Broker, number: int) -> None:
    await broker.publish(20.0 + number / 10, routing_key="readings", message_id=f"thermometer-1/{number}")


if __name__ == "__main__":
    trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "memory://readings")
