"""The status of a program whenever it may have changed."""

from __future__ import annotations

from collections.abc import Callable

import trio

from ..fleet.program import Happened, Program
from ..fleet.status import Status
from ..supervisors import EventStream

__all__ = ["follow"]

EVENTS = 64
"""More are a reason to look, whatever they are."""
SETTLE = 0.1
"""Seconds that pass after an event: one fault makes many, and a status looks at the whole tree."""


async def follow(program: Program, tell: Callable[[Status], None], every: float) -> None:
    """Call ``tell`` with the status after events, and at least every so many seconds, until cancelled."""
    async with program.events(EVENTS) as stream:
        while True:
            tell(program.status())
            with trio.move_on_after(every):
                await _something(stream)
                await trio.sleep(SETTLE)


async def _something(stream: EventStream) -> None:
    """Wait for an event of an actor; messages that fail don't change what the program is doing."""
    lost = stream.lost
    async for event in stream:
        if stream.lost > lost or not (isinstance(event, Happened) and "message_id" in event.record):
            return
