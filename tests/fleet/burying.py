"""Dead letters as a fleet makes them, and a program that replays them: ``python -m tests.fleet.burying URL``."""

from __future__ import annotations

import sys
import time

import trio

from kombu_actors.broker import Broker, QueueSpec
from kombu_actors.fleet._address import Address
from kombu_actors.fleet._headers import dead_headers
from kombu_actors.fleet.dead_letters import open_dead_letters

DEAD = "orders.dead"


def failed(kind: type[Exception], text: str) -> Exception:
    """An exception with a traceback."""
    try:
        raise kind(text)
    except Exception as error:
        return error


async def bury(
    broker: Broker,
    *numbers: int,
    kind: type[Exception] = ValueError,
    age: float = 0.0,
    queue: str = "orders",
    handler: str = "shop.charge",
) -> None:
    """Have orders of these numbers lie in ``orders.dead``."""
    await broker.declare(QueueSpec(name=DEAD, type="classic"))
    now = time.time()
    for number in numbers:
        headers = dead_headers(
            queue=queue,
            attempts=5,
            first_at=now - age - 671,
            dead_at=now - age,
            error=failed(kind, f"order {number}"),
            reason="failed 5 times",
            handler=handler,
        )
        await broker.publish(
            {"id": number}, routing_key=DEAD, headers={**headers, "mine": "x"}, message_id=str(number), priority=0
        )


async def replay(url: str) -> None:
    """Replay them all, slowly enough to be killed meanwhile; says so when it begins."""
    async with open_dead_letters(Address(url, "shop"), "orders", DEAD) as dead:
        print("replaying", flush=True)
        await dead.replay(rate=400)


if __name__ == "__main__":
    trio.run(replay, sys.argv[1])
