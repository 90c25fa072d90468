"""A shop with some trouble, for pictures of its status page."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from typing import Annotated

import trio

from kombu_actors.errors import KombuError
from kombu_actors.fleet import Batch, Depends, Fleet, Retry

fleet = Fleet(os.environ.get("SHOP_URL", "memory://shop"), name="shop", retry=Retry(delays=(2, 10)))
UNLUCKY = 50
"""Each so many of orders is declined."""


class CardDeclined(Exception):
    """The bank says no."""


@fleet.resource
async def customers() -> AsyncIterator[None]:
    """Who publishes for as long as the fleet runs."""
    async with fleet.open() as client, trio.open_nursery() as nursery:

        async def shop() -> None:
            number = 0
            while True:
                number += 1
                try:
                    await client.publish("orders", number, timeout=2)
                    if number % 8 == 0:
                        await client.publish("emails", number, timeout=2)
                    if number % 160 == 0:
                        await client.publish("thumbnails", number, timeout=2)
                except KombuError:
                    await trio.sleep(1)
                await trio.sleep(0.02)

        nursery.start_soon(shop)
        yield
        nursery.cancel_scope.cancel()


@fleet.consumer("orders", concurrency=8, key=lambda order: order % 10)
async def charge(order: int, _: Annotated[None, Depends(customers)]) -> None:
    """Charge a card."""
    await trio.sleep(0.02 + order % 7 / 50)
    if order % UNLUCKY == 0:
        raise CardDeclined(f"card of order {order}: insufficient funds")


@fleet.consumer("emails", concurrency=4)
async def write(order: int) -> None:
    """Send an e-mail."""
    await trio.sleep(order % 40 / 10)
    if order % 64 == 0:
        raise ConnectionRefusedError("smtp.example: connection refused")


@fleet.consumer("thumbnails", concurrency=2, timeout=2)
def shrink(order: int) -> None:
    """Shrink a picture, in a thread that can't be cancelled."""
    time.sleep(30)


@fleet.consumer("statistics", batch=Batch(size=100, within=5))
async def count(orders: list[int]) -> None:
    """Count."""


@fleet.every(60)
async def report() -> None:
    """Report."""
