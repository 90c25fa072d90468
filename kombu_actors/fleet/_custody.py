"""A worker's half of finding out which message kills processes: what is in hand is noted, what may be guilty is asked
about before it is begun, and begun alone if it has to be.

The parent counts the deaths; ``processes/_suspects.py`` decides, and ``docs/processes.md`` explains.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType

import attrs
import trio

from ..supervisors._interrupts import protected
from ._hands import Hands, Key, job_label, label_of, name_of
from ._telling import Answer, LeftRecord, Question
from ._threads import Threads
from .message import Message
from .policy import Condemned

PATIENCE = 10.0
"""Seconds to wait until nothing else is in hand, while nothing else is begun; twice as long the next time."""
REST = 30.0
"""Seconds in between, in which others are begun."""


class NotBegun(Exception):
    """The shift ended before the message's turn came: it goes back."""


@attrs.define(eq=False)
class Suspect:
    """A message that was in hand at a death, and is in hand again."""

    key: Key
    alone: bool


@protected
class Custody:
    """Of one worker process; owns who of its messages is alone."""

    def __init__(self, descriptor: int) -> None:
        self._hands = Hands(descriptor)
        self._in_hand = 0
        """Messages and jobs whose handlers are at work."""
        self._alone: Suspect | None = None
        """For whom nothing else is begun."""
        self._changed = trio.lowlevel.ParkingLot()
        self._ids = itertools.count(1)
        self._answers: dict[int, Answer | None] = {}
        """Of what was asked; None: not yet."""
        # Without a bound, for each message in hand says two things in it.
        self._says, self.said = trio.open_memory_channel[Question | LeftRecord](math.inf)
        """``said`` is for the parent."""

    def reserve(self, slots: int, jobs: int = 0) -> None:
        """A run begins, with so many messages in hand at most; as many may hang in threads that nobody can cancel."""
        self._hands.reserve(2 * slots + jobs)
        self._in_hand = 0
        self._alone = None

    @property
    def holds_back(self) -> bool:
        """Whether nothing may be begun but what is to be alone."""
        return self._alone is not None

    # -- a message in hand ----------------------------------------------------------------------

    def holding(
        self,
        queue: bytes,
        messages: Sequence[Message],
        suspects: Sequence[Suspect],
        threads: Threads,
        *,
        acquits: bool = True,
    ) -> Holding:
        """``with`` it a handler is called: the messages are noted, and the suspects among them acquitted at its end.

        Without ``acquits`` they are not: what they do to a handler is still to be seen.
        """
        return Holding(self, queue, messages, suspects, threads, acquits)

    @contextmanager
    def running(self, job: str) -> Iterator[None]:
        """``with`` it a periodic job is called: who is to be alone waits for it, and is not blamed for what it does."""
        self._in_hand += 1
        cell = self._hands.take(job_label(job))
        try:
            yield
        finally:
            self.drop((cell,))

    def take(self, label: bytes) -> int:
        """Note a message; returns its cell."""
        self._in_hand += 1
        return self._hands.take(label)

    def drop(self, cells: Sequence[int]) -> None:
        """These are in hand no longer."""
        self.strike(cells)
        self.leave(len(cells))

    def leave(self, count: int) -> None:
        """So many are waited for no longer."""
        self._in_hand -= count
        if self._alone is not None:
            self._changed.unpark_all()

    def strike(self, cells: Sequence[int]) -> None:
        """These can do no harm any more."""
        for cell in cells:
            self._hands.drop(cell)

    # -- before that ----------------------------------------------------------------------------

    async def admit(self, message: Message, draining: trio.Event) -> Suspect | None:
        """Wait until it may be begun; what it returns has to be given to ``release`` when it is done with.

        Raises ``Condemned``: it has killed its process, and is to be dead-lettered.  Raises ``NotBegun`` when
        ``draining`` is set and ``wake`` was called.
        """
        suspect = None
        try:
            if message.redelivered:
                suspect = await self._ask((message.queue, name_of(message._delivered)), draining)
                if suspect is not None and suspect.alone:
                    await self._wait_alone(suspect, draining)
            await self.wait_turn(draining, suspect)
        except BaseException:
            if suspect is not None:
                self.release(suspect, survived=False)
            raise
        return suspect

    async def wait_turn(self, draining: trio.Event, suspect: Suspect | None = None) -> None:
        """Wait while another one is, or is to be, alone; raises as ``admit``."""
        while self._alone not in (None, suspect) and not draining.is_set():
            await self._changed.park()
        if draining.is_set():
            raise NotBegun

    async def wait_nobody_alone(self) -> None:
        """Wait while a message is, or is to be, alone: a job does."""
        while self._alone is not None:
            await self._changed.park()

    def release(self, suspect: Suspect, *, survived: bool) -> None:
        """It is in hand no longer; ``survived``: its handler has ended, and the process lives."""
        if self._alone is suspect:
            self._alone = None
            self._changed.unpark_all()
        self._says.send_nowait({"left": [*suspect.key], "survived": survived, "alone": suspect.alone})

    def wake(self) -> None:
        """A shift is being ended: let who waits look again."""
        self._changed.unpark_all()

    async def _ask(self, key: Key, draining: trio.Event) -> Suspect | None:
        id = next(self._ids)
        self._answers[id] = None
        self._says.send_nowait({"ask": id, "queue": key[0], "message": key[1]})
        try:
            while self._answers[id] is None and not draining.is_set():
                await self._changed.park()
        finally:
            answer = self._answers.pop(id)
        if answer is None:
            raise NotBegun  # if it is to be alone, ``answered`` gives that back
        if answer["condemned"] is not None:
            raise Condemned(answer["condemned"])
        return Suspect(key, answer["alone"]) if answer["deaths"] else None

    def answered(self, answer: Answer) -> None:
        """The parent has answered."""
        id = answer["answer"]
        if id in self._answers:
            self._answers[id] = answer
            self._changed.unpark_all()
        elif answer["alone"]:
            self._says.send_nowait({"left": [answer["queue"], answer["message"]], "survived": False, "alone": True})

    async def _wait_alone(self, suspect: Suspect, draining: trio.Event) -> None:
        """Let nothing else begin until all that is in hand is done; handlers that take long get their time in turns."""
        for patience in (PATIENCE * 2**turn for turn in itertools.count()):
            self._alone = suspect
            with trio.move_on_after(patience):
                while self._in_hand and not draining.is_set():
                    await self._changed.park()
            if not self._in_hand or draining.is_set():
                return
            self._alone = None
            self._changed.unpark_all()
            with trio.move_on_after(REST):
                await draining.wait()


@protected
class Holding:
    """Messages in hand, while a handler is called with them."""

    __slots__ = ("_acquits", "_cells", "_custody", "_messages", "_queue", "_suspects", "_threads")

    def __init__(
        self,
        custody: Custody,
        queue: bytes,
        messages: Sequence[Message],
        suspects: Sequence[Suspect],
        threads: Threads,
        acquits: bool,
    ) -> None:
        self._acquits = acquits
        self._custody = custody
        self._queue = queue
        self._messages = messages
        self._suspects = suspects
        self._threads = threads
        self._cells: Sequence[int] = ()

    def __enter__(self) -> None:
        custody, queue = self._custody, self._queue
        self._cells = [custody.take(label_of(queue, name_of(one._delivered))) for one in self._messages]

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        custody, cells = self._custody, self._cells
        # A plain function that is over its time goes on in its thread, maybe for ever.  It may yet do harm: whoever is
        # alone beside it is not blamed alone; but nobody waits for it.
        if not self._threads.stuck or not self._threads.when_ended(self._messages[0].id, lambda: custody.strike(cells)):
            custody.strike(cells)
        custody.leave(len(cells))
        for suspect in self._suspects:
            # Cancelled it has not shown what it does.
            custody.release(suspect, survived=self._acquits and (kind is None or issubclass(kind, Exception)))
