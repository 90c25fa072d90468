"""Many queues restored at the same time: of what nobody has anything against no answer need be waited for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import trio
from amqp.exceptions import AMQPError

from .._frozen import Record
from .._values.model import BindingSpec, QueueSpec
from ..transport._contract import LinkChannel

__all__ = ["MANY", "Wish", "make_together"]

MANY = 16
"""Queues from which on it is worth it: the round trips of fewer take some milliseconds."""
AT_ONCE = 100
"""Queues under way at a time: the broker and this side both have something to do, and others have their turn."""


class Wish(Record):
    """A queue, and the bindings that lead to it."""

    queue: QueueSpec
    bindings: Sequence[BindingSpec]


async def make_together(channel: LinkChannel, wishes: Mapping[str, Wish]) -> set[str]:
    """Declare queues with their bindings; returns the keys of those that are there with all of them.

    Of the others nothing is known: one refusal closes the channel, and leaves all that was under way unanswered, as
    does the end of the session.  They are to be restored one by one, where each answer has its question.
    """
    made: set[str] = set()

    async def make(key: str, wish: Wish) -> None:
        try:
            await channel.queue_declare(wish.queue)
            for binding in wish.bindings:
                await channel.queue_bind(binding)
        except (AMQPError, ValueError):
            return
        made.add(key)

    keys = list(wishes)
    while keys and channel.closed is None:
        async with trio.open_nursery() as nursery:
            for key in keys[:AT_ONCE]:
                nursery.start_soon(make, key, wishes[key])
        del keys[:AT_ONCE]
    return made
