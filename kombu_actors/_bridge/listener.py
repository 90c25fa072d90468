"""How an event loop of the program's hears that a connection has news: by a file that becomes readable."""

from __future__ import annotations

import os

__all__ = ["Listener"]


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
