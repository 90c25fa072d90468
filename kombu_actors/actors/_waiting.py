"""Waiting, under structured concurrency: for the first of several events, and for a goodbye."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from ..supervisors import ActorContext

if TYPE_CHECKING:
    from ..transport._contract import Link

CLOSE_GRACE = 2.0
"""Seconds to wait for close-ok or cancel-ok while stopping."""


async def first_of(*waits: Callable[[], Awaitable[object]]) -> None:
    """Run all ``waits`` until one returns, then cancel the others.

    The waits must only wait: none may raise.
    """
    async with trio.open_nursery() as nursery:
        for wait in waits:
            nursery.start_soon(_end_with, wait, nursery.cancel_scope)


@trio.lowlevel.enable_ki_protection
async def _end_with(wait: Callable[[], Awaitable[object]], others: trio.CancelScope) -> None:
    await wait()
    others.cancel()


class Farewells:
    """The goodbyes to the broker over one link, all together no longer than one of them may take.

    A broker that has let one go unanswered gets no time for the next before it is heard again; nor does one that
    has blocked us: it doesn't read the goodbye before the alarm is over.
    """

    def __init__(self, link: Link, grace: float) -> None:
        self._link = link
        self._grace = grace
        self._unanswered = -math.inf

    @contextmanager
    def say(self, ctx: ActorContext) -> Iterator[None]:
        """The time for one goodbye, also for who is being cancelled."""
        silent = self._link.last_heard <= self._unanswered
        with ctx.last_words(0.0 if silent or self._link.blocked is not None else self._grace) as scope:
            yield
        if scope.cancelled_caught:
            self._unanswered = trio.current_time()
