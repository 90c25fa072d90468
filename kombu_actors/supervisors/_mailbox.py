"""Messages to actors: a bounded mailbox that outlives the actor's incarnations."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import trio

from ._errors import ActorDown, MailboxFull
from ._interrupts import protected


@protected
class Envelope:
    """A message, and the way back to whoever asks."""

    __slots__ = ("_answer", "_answered", "_error", "_reader", "_withdrawn", "message")

    def __init__(self, message: Any, *, wants_answer: bool) -> None:
        self.message = message
        self._answered = trio.Event() if wants_answer else None
        self._answer: object = None
        self._error: BaseException | None = None
        self._reader: MailboxReader | None = None
        self._withdrawn = False

    @property
    def waits(self) -> bool:
        """Whether it is in the mailbox, unread and not taken back."""
        return self._reader is None and not self._withdrawn

    @property
    def wants_answer(self) -> bool:
        """Whether someone is waiting for a reply."""
        return self._answered is not None and not self._answered.is_set()

    def reply(self, value: object = None) -> bool:
        """Answer the asker.  False: it no longer waits, or this incarnation is over; the reply was dropped."""
        return self._settle(value, None)

    def fail(self, error: BaseException) -> bool:
        """Make the asker's ``ask`` raise ``error``; False as for ``reply``."""
        return self._settle(None, error)

    def _settle(self, value: object, error: BaseException | None) -> bool:
        reader = self._reader
        if reader is not None and reader.closed:
            reader.reply_dropped()
            return False
        if not self.wants_answer or self._withdrawn:
            return False
        self._resolve(value, error)
        return True

    def _resolve(self, value: object, error: BaseException | None) -> None:
        if self._reader is not None:
            self._reader.open_asks.discard(self)
        self._answer, self._error = value, error
        if self._answered is not None:
            self._answered.set()

    async def _wait(self) -> object:
        assert self._answered is not None
        await self._answered.wait()
        if self._error is not None:
            raise self._error
        return self._answer


class Sender:
    """Who waits for room, and whether it came."""

    __slots__ = ("admitted", "envelope", "over")

    def __init__(self, envelope: Envelope) -> None:
        self.envelope = envelope
        self.over = trio.Event()
        self.admitted = False


@protected
class Mailbox:
    """A bounded queue of envelopes, owned above the actor so that messages survive its restarts.

    Not a memory channel: what its asker has withdrawn leaves at once, and makes room.
    """

    def __init__(self, path: str, capacity: int, on_stale: Callable[[int], None]) -> None:
        self._path = path
        self.capacity = capacity
        self._envelopes: deque[Envelope] = deque()
        self._senders: deque[Sender] = deque()
        self._arrived = trio.lowlevel.ParkingLot()
        self._closed = False
        self._on_stale = on_stale
        self.stale_replies = 0

    def __len__(self) -> int:
        return len(self._envelopes)

    async def ask(self, message: object) -> object:
        envelope = Envelope(message, wants_answer=True)
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            sender = self._enter(envelope)
            if not sender.admitted:
                await self._wait_admitted(sender)
            return await envelope._wait()
        finally:
            self.withdraw(envelope)

    def withdraw(self, envelope: Envelope) -> None:
        """Take a message back that was not received yet; of one that was, the answer is not waited for."""
        envelope._withdrawn = True
        if envelope._reader is not None:
            envelope._reader.open_asks.discard(envelope)
        elif envelope in self._envelopes:
            self._envelopes.remove(envelope)
            self._admit()

    async def put(self, envelope: Envelope) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        sender = self._enter(envelope)
        if sender.admitted:
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            await self._wait_admitted(sender)

    def _enter(self, envelope: Envelope) -> Sender:
        """Have a message wait for room, and let it in if there is some."""
        if self._closed:
            raise self._gone()
        sender = Sender(envelope)
        self._senders.append(sender)
        self._admit()
        return sender

    async def _wait_admitted(self, sender: Sender) -> None:
        try:
            await sender.over.wait()
        except BaseException:
            if sender in self._senders:
                self._senders.remove(sender)
            else:  # let in, or refused, after it was cancelled and before it went on
                self.withdraw(sender.envelope)
            raise
        if not sender.admitted:
            raise self._gone()

    def put_nowait(self, envelope: Envelope) -> None:
        if self._closed:
            raise self._gone()
        if len(self._envelopes) >= self.capacity:
            raise MailboxFull(f"the mailbox of actor {self._path!r} is full ({self.capacity} messages)")
        self._senders.append(Sender(envelope))
        self._admit()

    def squeeze_in(self, envelope: Envelope) -> None:
        """Add a message that has no sender who could wait, whether there is room or not."""
        if not self._closed:
            self._envelopes.append(envelope)
            self._arrived.unpark()

    def _admit(self) -> None:
        """Let in who waits, in order, while there is room."""
        while self._senders and len(self._envelopes) < self.capacity:
            sender = self._senders.popleft()
            sender.admitted = True
            self._envelopes.append(sender.envelope)
            sender.over.set()
            self._arrived.unpark()

    async def take(self) -> Envelope:
        if self._envelopes:
            await trio.lowlevel.checkpoint()
        while not self._envelopes:
            if self._closed:
                raise self._gone()
            await self._arrived.park()
        envelope = self._envelopes.popleft()
        self._admit()
        return envelope

    def close(self) -> None:
        """The actor is gone for good: refuse what waits and what comes."""
        self._closed = True
        envelopes, self._envelopes = self._envelopes, deque()
        for envelope in envelopes:
            envelope._resolve(None, self._gone())
        senders, self._senders = self._senders, deque()
        for sender in senders:
            sender.over.set()
        self._arrived.unpark_all()

    def note_stale(self) -> None:
        self.stale_replies += 1
        self._on_stale(self.stale_replies)

    def _gone(self) -> ActorDown:
        return ActorDown(f"actor {self._path!r} is gone for good; nobody will read this message")


@protected
class MailboxReader:
    """One incarnation's access to its mailbox: ``async for envelope in ctx.mailbox``.

    The iteration ends when the actor is asked to stop; what waits in the mailbox is left to
    the next incarnation, or refused when there is none.  ``receive`` goes on, for an actor
    that wants to drain.
    A message received by an incarnation that dies before it answers is not delivered again
    (its effects are unknown); the asker gets ``ActorDown``.
    """

    def __init__(self, mailbox: Mailbox, name: str) -> None:
        self._mailbox = mailbox
        self._name = name
        self.open_asks: set[Envelope] = set()
        self.closed = False
        self._stopping = False
        self._iterating: set[trio.CancelScope] = set()

    async def receive(self) -> Envelope:
        """The next message.  Cancelled while waiting, it takes none."""
        if self.closed:
            raise ActorDown(f"{self._name} is over; its mailbox belongs to its successor")
        envelope = await self._mailbox.take()
        envelope._reader = self
        if envelope.wants_answer:
            self.open_asks.add(envelope)
        return envelope

    def __aiter__(self) -> MailboxReader:
        return self

    async def __anext__(self) -> Envelope:
        if not self._stopping:
            with trio.CancelScope() as waiting:
                self._iterating.add(waiting)
                try:
                    return await self.receive()
                finally:
                    self._iterating.discard(waiting)
        raise StopAsyncIteration

    def stop(self) -> None:
        """The actor is to stop: end its ``async for``."""
        self._stopping = True
        for waiting in self._iterating:
            waiting.cancel()

    def reply_dropped(self) -> None:
        """Count an answer that nobody waits for any more."""
        self._mailbox.note_stale()

    def close(self) -> None:
        """The incarnation is over: whoever waits for its answers learns it."""
        self.closed = True
        for envelope in tuple(self.open_asks):
            envelope._resolve(None, ActorDown(f"{self._name} died before it answered"))
        self.open_asks.clear()
