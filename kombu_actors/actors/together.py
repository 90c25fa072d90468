"""Many queues declared at the same time: of what nobody has anything against no answer need be waited for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import trio
from amqp.exceptions import AMQPError

from .._frozen import Record
from .._values.model import BindingKind, BindingSpec, Declaration, QueueInfo, QueueSpec

if TYPE_CHECKING:
    from ..transport._contract import LinkChannel

__all__ = ["MANY", "Wish", "grouped", "make_together"]

MANY = 16
"""Queues from which on it is worth it: the round trips of fewer take some milliseconds."""
AT_ONCE = 100
"""Queues under way at a time: the broker and this side both have something to do, and others have their turn."""


class Wish(Record):
    """A queue, and the bindings that lead to it."""

    queue: QueueSpec
    bindings: tuple[BindingSpec, ...]


def grouped(entities: Iterable[Declaration]) -> Iterator[dict[str, Wish] | Declaration]:
    """What is to be declared, in order: named queues that follow one another with the bindings to them as one group, by
    their names, everything else by itself."""
    group: dict[str, Wish] = {}
    for entity in entities:
        if isinstance(entity, QueueSpec) and entity.name and entity.name not in group:
            group[entity.name] = Wish(entity, ())
        elif isinstance(entity, BindingSpec) and entity.kind is BindingKind.QUEUE and entity.destination in group:
            queue, bindings = group[entity.destination]
            group[entity.destination] = Wish(queue, (*bindings, entity))
        else:
            if group:
                yield group
                group = {}
            yield entity
    if group:
        yield group


async def make_together(channel: LinkChannel, wishes: Mapping[str, Wish]) -> dict[str, QueueInfo]:
    """Declare queues with their bindings; returns, by their keys, the answers of those that are there with all of them.

    Of the others nothing is known: one refusal closes the channel, and leaves all that was under way unanswered, as
    does the end of the session.  They are to be restored one by one, where each answer has its question.
    """
    made: dict[str, QueueInfo] = {}

    async def make(key: str, wish: Wish) -> None:
        try:
            info = await channel.queue_declare(wish.queue)
            for binding in wish.bindings:
                await channel.queue_bind(binding)
        except (AMQPError, ValueError):
            return
        made[key] = info

    keys = list(wishes)
    while keys and channel.closed is None:
        async with trio.open_nursery() as nursery:
            for key in keys[:AT_ONCE]:
                nursery.start_soon(make, key, wishes[key])
        del keys[:AT_ONCE]
    return made
