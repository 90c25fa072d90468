"""Waiting, under structured concurrency: for the first of several events, and for a goodbye."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from ..transport._link import Link

CLOSE_GRACE = 2.0
"""Seconds to wait for close-ok or cancel-ok while stopping."""


async def first_of(*waits: Callable[[], Awaitable[object]]) -> None:
    """Run all ``waits`` until one returns, then cancel the others.

    The waits must only wait: none may raise.
    """
    async with trio.open_nursery() as nursery:

        async def run(wait: Callable[[], Awaitable[object]]) -> None:
            await wait()
            nursery.cancel_scope.cancel()

        for wait in waits:
            nursery.start_soon(run, wait)


def farewell(link: Link) -> trio.CancelScope:
    """The time for one goodbye, also for who is being cancelled.

    None when the broker has blocked us: it doesn't read the goodbye before the alarm is over, so
    nobody waits for its answer, channel by channel.
    """
    return trio.move_on_after(CLOSE_GRACE if link.blocked is None else 0, shield=True)
