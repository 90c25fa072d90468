"""Fleets that the tests of the command line run; what a handler does is said by its message."""

from __future__ import annotations

import os

import trio

from kombu_actors.broker import QueueSpec
from kombu_actors.fleet import Fleet

URL = os.environ.get("SHOP_URL", "memory://shop")

fleet = Fleet(URL, name="shop")
broken = Fleet(URL, name="broken")
"""Its queue is there already, and otherwise."""
empty = Fleet(URL, name="empty")
not_a_fleet = 7


@fleet.consumer("shop.work")
async def work(seconds: float) -> None:
    print("began", flush=True)
    await trio.sleep(seconds)
    print("ended", flush=True)


@fleet.consumer("shop.other")
async def other(text: str) -> None:
    print(text, flush=True)


@broken.consumer(QueueSpec(name="shop.broken", ttl=3600))
async def waits(text: str) -> None: ...
