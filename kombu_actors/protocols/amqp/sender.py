"""The bytes of one connection that wait to be sent, and whose turn it is to send.

Everything is here because it is one question: what may leave next, and by whom.  Frames are
appended whole, and leave in the order in which they were appended.  Two may send: the writer,
who takes all that waits, and a thread that wants to send a few frames of its own past the
writer, while nothing waits.  Never both: what a socket took half of goes on with its other half.

Pure.  ``append``, ``extend``, ``supersede``, ``sent`` and ``man`` belong to the connection's own thread.
``begin``, the write that follows it, and ``take`` are one thread's at a time: the driver holds
its lock meanwhile.  Nothing a thread does here is undone or completed afterwards by that thread,
so it may be interrupted (Ctrl-C) between any two of its steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

__all__ = ["Lone", "Sender"]


class Lone:
    """Whole frames that a thread sends past the writer, and what has left of them.

    ``counts`` gets one number: how many bytes the socket took, if it took any.  The write itself puts
    it there, so that an interrupt finds the write either not made or counted.
    """

    __slots__ = ("counts", "frames")

    def __init__(self, frames: bytes) -> None:
        self.frames = frames
        self.counts: list[int] = []

    @property
    def begun(self) -> bool:
        """Whether the peer gets these frames: now, or the rest as soon as it can be sent."""
        return bool(self.counts)

    @property
    def torn(self) -> bool:
        """Whether some of it has left and some of it has not: that must leave before anything else may."""
        return bool(self.counts) and self.counts[0] < len(self.frames)


class Sender:
    """What waits to be sent over one connection; ``append`` and ``extend`` take whole frames."""

    def __init__(self) -> None:
        self._waiting: list[bytes] = []
        self._lone = Lone(b"")
        self._manned = False
        self._sending = False
        self.append: Callable[[bytes], None] = self._waiting.append
        self.extend: Callable[[Iterable[bytes]], None] = self._waiting.extend

    def supersede(self, former: bytes, frame: bytes) -> None:
        """Append a frame that says all that ``former`` says: in its place, if that is the last that waits."""
        if self._waiting and self._waiting[-1] is former:
            self._waiting[-1] = frame
        else:
            self._waiting.append(frame)

    @property
    def waiting(self) -> bool:
        """Whether there is something to send that nobody is sending."""
        return bool(self._waiting) or self._lone.torn

    @property
    def sending(self) -> bool:
        """Whether the writer has its turn."""
        return self._sending

    @property
    def busy(self) -> bool:
        """Whether the peer is about to hear from us anyway."""
        return self._sending or self.waiting

    @property
    def may_take(self) -> bool:
        """Whether something waits and it is nobody's turn."""
        return not self._sending and self.waiting

    @property
    def manned(self) -> bool:
        """Whether a writer serves: without one the rest of a lone write would never leave."""
        return self._manned

    def man(self, manned: bool) -> None:
        """A writer begins, or ceases, to serve.  Over a dead connection none does: the last word is its own."""
        self._manned = manned

    def begin(self, lone: Lone) -> bool:
        """Let a thread send frames of its own, if nothing waits before them; its write must follow at once."""
        if not self._manned or self._sending or self._waiting or self._lone.torn:
            return False
        self._lone = lone
        return True

    def take(self) -> bytes:
        """Take the turn and all that waits; ``sent`` gives the turn back."""
        if self._lone.torn:
            self._waiting.insert(0, self._lone.frames[self._lone.counts[0] :])
            self._lone = Lone(b"")
        data = b"".join(self._waiting)
        self._waiting.clear()
        self._sending = True
        return data

    def sent(self, rest: bytes = b"") -> None:
        """The turn is over; ``rest`` is what was taken and has not left: it leaves first."""
        if rest:
            self._waiting.insert(0, rest)
        self._sending = False
