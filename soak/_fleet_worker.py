"""The worker of ``fleet_retries``: ``python -m soak._fleet_worker URL QUEUE HISTORY CERTIFICATE``.

A message's number says how it fares.  Each line of HISTORY is written at once, so that it survives the process: when,
what (``begin``, ``done``; ``up``: the process serves), which message (process), and which attempt.
"""

from __future__ import annotations

import logging
import os
import random
import sys
import time
from collections.abc import Callable
from functools import partial

import trio

from kombu_actors.errors import BrokerUnreachable
from kombu_actors.fleet import Fleet, Message, Reject, Retry, Snooze

Note = Callable[[str, int, int], None]
DELAYS = (0.3, 1.0)
SNOOZE = 0.5
SNOOZED_FOR = 1.5
"""Seconds from its publication for which a message of the kind that is snoozed is snoozed."""
KINDS = ("at once", "second attempt", "third attempt", "never", "rejected", "snoozed")


def kind_of(number: int) -> str:
    """How a message is to fare."""
    return KINDS[number % len(KINDS)]


def make_fleet(url: str, queue: str, note: Note) -> Fleet:
    """One consumer, which notes what it does."""
    fleet = Fleet(url, name="soak", retry=Retry(delays=DELAYS), drain_timeout=10)

    @fleet.consumer(queue, concurrency=5)
    async def work(order: dict[str, float], message: Message) -> None:
        number = int(order["number"])
        note("begin", number, message.attempt)
        await trio.sleep(random.uniform(0, 0.03))
        match kind_of(number):
            case "never":
                raise ValueError("never")
            case "rejected":
                raise Reject("rejected")
            case "second attempt" if message.attempt < 2:
                raise ValueError("not yet")
            case "third attempt" if message.attempt < 3:
                raise ValueError("not yet")
            case "snoozed" if time.time() < order["published"] + SNOOZED_FOR:
                raise Snooze(SNOOZE)
        note("done", number, message.attempt)

    return fleet


async def main(url: str, queue: str, history: str, certificate: str) -> None:
    """Work until TERM."""
    file = os.open(history, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(what: str, number: int, attempt: int) -> None:
        os.write(file, f"{time.time():.6f} {what} {number} {attempt}\n".encode())

    async with trio.open_nursery() as nursery:
        await nursery.start(partial(make_fleet(url, queue, note).run, signals=True, certificate=certificate))
        note("up", os.getpid(), 0)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    try:
        trio.run(partial(main, *sys.argv[1:5]))
    except* BrokerUnreachable:
        sys.exit(3)  # as the command line has it: whoever runs it starts it again
