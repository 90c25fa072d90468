"""A fleet under load, and what it did with each message: for faults of whole clusters."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import trio

from kombu_actors.broker import QueueSpec
from kombu_actors.errors import KombuError
from kombu_actors.fleet import Client, Fleet, Message, Retry

QUEUE = "orders"
PUBLISHERS = 5
PACE = 0.02
"""Seconds between two publishes of each."""
CONCURRENCY = 5


@attrs.define
class Diary:
    """What became of each message."""

    next: int = 0
    confirmed: set[int] = attrs.Factory(set)
    handled: Counter[int] = attrs.Factory(Counter)
    failed: set[int] = attrs.Factory(set)
    """Those whose first attempt was made: every tenth fails at it."""
    refused: list[str] = attrs.Factory(list)
    """Publishes of which nobody knows whether they arrived."""
    stopped: bool = False
    news: trio.lowlevel.ParkingLot = attrs.Factory(trio.lowlevel.ParkingLot)

    @property
    def lost(self) -> set[int]:
        return self.confirmed - set(self.handled)

    @property
    def complete(self) -> bool:
        """Whether it is known of each publish what became of it, and all that were confirmed are handled."""
        return self.next == len(self.confirmed) + len(self.refused) and not self.lost

    @property
    def duplicates(self) -> int:
        return sum(self.handled.values()) - len(self.handled)

    def handled_from(self, number: int) -> bool:
        """Whether one of those that are tried twice, from this one on, has been handled."""
        return any(handled >= number and handled % 10 == 0 for handled in self.handled)

    async def wait(self, until: Callable[[], bool], seconds: float, what: str) -> float:
        """Until a handler makes it so; returns the seconds that it took."""
        began = time.monotonic()
        with trio.move_on_after(seconds):
            while not until():
                await self.news.park()
            return time.monotonic() - began
        raise AssertionError(f"{what}: not within {seconds:g} s; {self}")

    async def wait_beyond(self, number: int, seconds: float) -> float:
        """Until a message is handled that was published after ``number`` were."""
        return await self.wait(lambda: max(self.handled, default=-1) >= number, seconds, "nothing was consumed again")

    def __str__(self) -> str:
        return (
            f"{self.next} published, {len(self.confirmed)} confirmed, {len(self.handled)} handled, "
            f"{len(self.lost)} lost, {self.duplicates} duplicates, {len(self.refused)} publishes unknown"
        )


def make_fleet(
    url: str | Sequence[str], queue: QueueSpec, diary: Diary, options: dict[str, Any], *, delay: float = 0.3
) -> Fleet:
    """One consumer; every tenth message is tried twice."""
    fleet = Fleet(url, name="orders", retry=Retry(delays=(delay,)), drain_timeout=5, options=options)

    @fleet.consumer(queue, concurrency=CONCURRENCY)
    async def handle(number: int, message: Message) -> None:
        if number % 10 == 0 and number not in diary.failed:
            diary.failed.add(number)
            raise ValueError("not at the first attempt")
        diary.handled[number] += 1
        diary.news.unpark_all()

    return fleet


async def publish(client: Client, diary: Diary, task_status: trio.TaskStatus[None]) -> None:
    """A steady stream, until the diary says stop; then returns when the last is confirmed."""
    async with trio.open_nursery() as nursery:
        for _ in range(PUBLISHERS):
            nursery.start_soon(_publish, client, diary)
        task_status.started()


async def _publish(client: Client, diary: Diary) -> None:
    while not diary.stopped:
        number = diary.next
        diary.next += 1
        try:
            await client.publish(QUEUE, number, message_id=str(number), timeout=20)
        except KombuError as error:
            diary.refused.append(f"{number}: {error}")
        else:
            diary.confirmed.add(number)
        diary.news.unpark_all()
        await trio.sleep(PACE)
