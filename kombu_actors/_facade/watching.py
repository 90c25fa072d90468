"""An event loop of the program's that drains a connection."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from .._bridge.inbox import NothingCame

if TYPE_CHECKING:
    from .._bridge.listener import LoopReader
    from .contracts import EventLoop
    from .running import ConnectionTree

__all__ = ["Watch"]

TURN = 0.005
"""Seconds after which an event loop is given back its turn, though there is more to drain."""


class Watch:
    """One loop and one run of a connection's tree.

    The loop hears of news by a file that the inbox rings.  Where it can, it reads the session's socket, too, so that it
    needn't be woken by the runtime, which reads whenever the loop doesn't.
    """

    def __init__(self, tree: ConnectionTree, loop: EventLoop) -> None:
        self.loop = loop
        self._tree = tree
        self._listener = tree.inbox.listen()
        self._reader: LoopReader | None = None
        self._ended = False

    def begin(self) -> None:
        """Have the loop watch from now on; again, if it has forgotten."""
        self.loop.add_reader(self._listener.descriptor, self._on_news)
        if self._reader is not None:
            self.loop.add_reader(self._reader.descriptor, self._on_bytes, self._reader)

    def end(self) -> None:
        """Have the loop watch no longer.

        In a forked child nothing is changed: a loop's ``epoll`` is the same one as the parent's there.
        """
        self._ended = True
        if self._tree.pid == os.getpid():
            self.loop.remove_reader(self._listener.descriptor)
            if self._reader is not None:
                self.loop.remove_reader(self._reader.descriptor)

    def _on_bytes(self, reader: LoopReader) -> None:
        """A session's socket has something to read, or has been closed."""
        if not self._tree.inbox.waiting:
            reader.read()
        if reader.over:
            self.loop.remove_reader(reader.descriptor)
        self._on_news()

    def _follow_session(self) -> None:
        """Watch the socket of the present session, if the loop can read it."""
        reader = self._tree.loop_reader()
        if reader is not None:
            self.loop.add_reader(reader.descriptor, self._on_bytes, reader)
        self._reader = reader

    def _on_news(self) -> None:
        """Handle what is there now; what comes meanwhile is the next turn's."""
        self._listener.hear()
        if self._ended:
            return  # released meanwhile
        if self._reader is None or self._reader.over:
            self._follow_session()
        inbox, deadline = self._tree.inbox, time.monotonic() + TURN
        try:
            for _ in range(max(len(inbox.waiting), 1)):
                if not inbox.has_news:
                    return
                self._tree.handle_next(timeout=0)
                if time.monotonic() > deadline:
                    return  # the loop has something else to do, too: Celery's acks, for one
        except NothingCame:
            return  # another thread has taken it
        except BaseException:
            if not self._tree.usable:
                self._tree.unwatch()  # it has said why, and will have no more to say
            raise
        finally:
            if inbox.waiting:
                self._listener.ring()
