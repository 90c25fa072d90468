"""How an event loop of the program's hears that a connection has news: by files that become readable."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .forking import start_afresh_after_fork

if TYPE_CHECKING:
    from ..transport._contract import SecondReader
    from .portal import Portal

__all__ = ["Listener", "LoopReader"]


class Listener:
    """A file to be watched for something to read; anybody may ring it, as often as they like."""

    __slots__ = ("_rung", "descriptor")

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._rung = False

    def __del__(self) -> None:
        # When nobody has it any more: who rings just then would else write into a stranger's file.
        os.close(self.descriptor)

    def ring(self) -> None:
        """Make it readable."""
        if not self._rung:  # while it is, one write was enough
            self._rung = True
            os.eventfd_write(self.descriptor, 1)

    def hear(self) -> None:
        """It has been heard, and who heard it looks for news after this: make it unreadable until it is rung again."""
        try:
            os.eventfd_read(self.descriptor)
        except BlockingIOError:
            pass  # rung, and not yet written
        finally:
            # Last: who rings before this is not written down, but has told the news that are looked for after it.  The
            # other way round a ring could be read away that keeps all later ones from being written.
            self._rung = False


class LoopReader:
    """A session's second reader, in the loop's thread: ``read`` whenever ``descriptor`` has something to read."""

    __slots__ = ("__weakref__", "_portal", "_reader", "descriptor")

    def __init__(self, portal: Portal, reader: SecondReader) -> None:
        self._portal = portal
        self._reader = reader
        self.descriptor = reader.socket.fileno()
        start_afresh_after_fork(self)

    @property
    def over(self) -> bool:
        """Whether nothing will be read any more: the session has ended."""
        return self._reader.over

    def read(self) -> None:
        """Have what has come in the inbox, or in the runtime's hands."""
        if not self._portal.past(self._reader.read, self._reader.spoil):
            self._portal.post(self._reader.look)

    def start_afresh(self) -> None:
        """In a forked child: close its copy.  A loop's ``epoll`` goes on with the parent's."""
        number = self._reader.socket.detach()
        if number >= 0:
            os.close(number)
