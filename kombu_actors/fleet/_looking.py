"""Looking at what is in a queue of dead letters, one after the other, and putting back what stays.

A queue can only be looked at by taking its messages.  That is done over a channel of its own, whose end gives
everything back that was not settled, in its place and order, also when the process is killed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator

import trio

from ..broker import Broker, Delivered, Subscription
from ..supervisors._interrupts import guarded, protected, unprotected
from ._letters import Criteria, DeadLetter, letter_of

__all__ = ["HELD_MAX", "Look", "looking"]

Key = tuple[str, float | None]

HELD_MAX = 10_000
"""Letters that are held, because they don't match, while others are looked for.  The broker keeps what is held in
memory, ~1 KiB each and its body, and has to put it back in the end."""
AHEAD = 100
"""Letters that the broker sends ahead besides: a replay waits for a confirm per letter."""
TAKEN_REMEMBERED = 1000
"""Letters taken out last, in case that the session is lost and with it an ack: some seconds of them."""
SILENCE = 0.5
"""Seconds without a letter after which is asked whether any are there: somebody else may have taken the rest."""


@guarded
async def looking(broker: Broker, name: str, *, home: str, meant: Criteria, limit: int | None) -> AsyncIterator[Look]:
    """Look at the letters that are in queue ``name`` now, dead ones of queue ``home``, for those that are ``meant``.

    Raises ``NotFound`` when there is no such queue.
    """
    there = (await broker.inspect_queue(name)).messages
    ahead = min(HELD_MAX + AHEAD, there if limit is None or not meant.all else min(there, limit))
    async with broker.subscribe(name, prefetch=max(ahead, 1)) as messages:
        yield Look(broker, messages, name, home, meant, there if limit is None else limit, there)


@protected
class Look:
    """One pass over the letters that were there when it began; those who come meanwhile are not among them.

    Iterating yields those that are meant, each once, though a session is lost and all that is held comes again.
    """

    def __init__(
        self, broker: Broker, messages: Subscription, name: str, home: str, meant: Criteria, limit: int, there: int
    ) -> None:
        self.looked_at = 0
        """How many letters were looked at."""
        self._broker = broker
        self._messages = messages
        self._name = name
        self._home = home
        self._meant = meant
        self._wanted = limit
        """How many more are to be yielded."""
        self._there = there
        self._held: set[Key] = set()
        self._taken: deque[Key] = deque(maxlen=TAKEN_REMEMBERED)
        self._taken_out = 0

    @property
    def left(self) -> int:
        """How many were there that it has not come to."""
        return max(self._there - self.looked_at, 0)

    def take_out(self, message: Delivered, letter: DeadLetter) -> None:
        """This one is done with: the queue forgets it."""
        key = _key(letter)
        self._held.discard(key)
        self._taken.append(key)
        self._taken_out += 1
        message.ack()

    def __aiter__(self) -> Look:
        return self

    async def __anext__(self) -> tuple[Delivered, DeadLetter]:
        """The next letter that is meant, with its message; it is held unless it is taken out."""
        while self._wanted > 0 and self.looked_at < self._there and self.looked_at - self._taken_out < HELD_MAX:
            message = await self._next()
            if message is None:
                break
            letter = letter_of(message, self._home)
            key = _key(letter)
            if letter.id and key in self._taken:
                message.ack()  # again: the session was lost, and with it the first ack
            elif not letter.id or key not in self._held:
                self._held.add(key)
                self.looked_at += 1
                if unprotected(self._meant.hold_for, letter, time.time()):
                    self._wanted -= 1
                    return message, letter
        raise StopAsyncIteration

    async def _next(self) -> Delivered | None:
        """The next message; None when there is none."""
        while True:
            with trio.move_on_after(SILENCE):
                return await anext(self._messages)
            if (await self._broker.inspect_queue(self._name)).messages == 0:
                return None


def _key(letter: DeadLetter) -> Key:
    """What tells letters apart: one that was replayed, and died again, is another one."""
    return letter.id, letter.dead_at
