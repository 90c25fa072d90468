"""What fails is tried again later, three times, and then kept: a delay queue, made of a time to live and dead letters.

python examples/trio_retry_later.py [URL]
"""

from __future__ import annotations

import sys
from functools import partial

import trio

from kombu_actors.broker import Broker, Delivered, QueueSpec, Subscription, open_broker

DELAY, TRIES = 0.05, 3


class Mailer:
    """Sends letters; for some the address is wrong, and a server is down at first."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.log: list[str] = []
        self.finished = trio.Event()

    async def send(self, message: Delivered) -> None:
        letter, tries = message.payload_as(str), tries_of(message)
        if letter == "to nobody" or (letter == "to a busy server" and tries == 0):
            raise ConnectionError(f"can't send the letter {letter}")
        self.note(f"sent {letter} at try {tries + 1}")

    async def failed(self, message: Delivered, error: Exception) -> None:
        """Have the letter wait its time in another queue, which then gives it back; the last time, keep it."""
        tries = tries_of(message) + 1
        where = "kept" if tries == TRIES else "later"
        await self.broker.publish(message.payload, routing_key=where, headers={"tries": tries}, mandatory=True)
        message.ack()  # only now: a crash in between costs a repetition, not the letter
        if where == "kept":
            self.note(f"kept the letter {message.payload} after {tries} tries")

    def note(self, line: str) -> None:
        self.log.append(line)
        if len(self.log) == 3:
            self.finished.set()


def tries_of(message: Delivered) -> int:
    tries = message.headers.get("tries", 0)
    return tries if isinstance(tries, int) else 0


async def main(url: str) -> None:
    async with open_broker(url) as broker, trio.open_nursery() as nursery:
        await broker.declare(
            QueueSpec(name="kept"),
            QueueSpec(name="letters"),
            QueueSpec(name="later", ttl=DELAY, dead_letter_exchange="", dead_letter_routing_key="letters"),
        )
        mailer = Mailer(broker)
        consume = partial(broker.consume, "letters", mailer.send, concurrency=2, on_error=mailer.failed)
        messages: Subscription = await nursery.start(consume)
        await broker.publish_many(["to a friend", "to a busy server", "to nobody"], routing_key="letters")
        await mailer.finished.wait()
        await messages.stop()
    print(*mailer.log, sep="\n")


if __name__ == "__main__":
    trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "memory://letters")
