"""RESP3 as it comes in: bytes to replies, with bounds on what a peer may announce.

hiredis parses.  It believes every announced length, and makes room for an announced aggregate at once (8 GB
for ``>1000000000``), so announcements are looked at before it sees them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import hiredis

from .errors import ErrorReply

__all__ = ["BadReply", "ReplyReader", "explain_garbage"]

ELEMENTS_DIGITS: Final = 7
"""An aggregate announced with a number this long is refused: no script of ours answers with a million elements.
What fewer digits can make hiredis allocate at once, 8 MB in each of its 9 levels, does no harm."""
BULK_MIN: Final = 1024 * 1024
"""Bytes of a bulk that are always taken: answers of the server itself don't depend on the limit for bodies."""
CONSUMED_MAX: Final = 256 * 1024
"""Bytes in hiredis's buffer that may belong to the piece before: one chunk, generously."""
_MORE: Final = object()


class BadReply(Exception):
    """The peer sent what isn't RESP, or more than is taken."""


class ReplyReader:
    """Replies out of chunks: errors are ``ErrorReply`` values, pushes ``hiredis.PushNotification``, text is bytes.

    ``body_max`` is the largest message body expected; twice that may come in one piece, because kombu's
    envelope makes it longer (base64 by a third), and twice that again in one reply.
    """

    def __init__(self, body_max: int) -> None:
        self._bulk_max = max(2 * body_max, BULK_MIN)
        self._reply_max = 2 * self._bulk_max
        self._parser = hiredis.Reader(replyError=ErrorReply, notEnoughData=_MORE)
        self._held = b""
        self._since_reply = 0
        digits = len(str(self._bulk_max))
        suspect = rb"(?:[*>~%%]\+?\d{%d}|[$=]\+?(?P<bulk>\d{%d,20})\r|[$=]\+?\d{21}|(?P<attribute>\|))" % (
            ELEMENTS_DIGITS,
            digits,
        )
        # Two patterns, because a search is fast (3 GB/s) only for what begins with a plain character.
        self._suspect_inside = re.compile(rb"\n" + suspect)
        self._suspect_at_start = re.compile(suspect)

    def replies(self, data: bytes) -> Iterator[object]:
        """Yield every reply that is complete with ``data``.

        Raises:
            BadReply: what comes next can't be taken; the connection is of no more use.
        """
        if self._held:
            data, self._held = self._held + data, b""
        self._since_reply += len(data)
        fed = 0
        for at, found in self._suspects(data):
            yield from self._feed(data, fed, at)
            fed = at
            # Everything before was taken in, so this is the head of an item; else it is inside of a message.
            if not self._parser.has_data():
                self._judge(found)
        end = len(data) - _unfinished(data, fed)
        self._held = data[end:]
        yield from self._feed(data, fed, end)
        if self._since_reply > self._reply_max:
            raise BadReply(f"a reply of more than {self._reply_max} bytes")

    def _suspects(self, data: bytes) -> Iterator[tuple[int, re.Match[bytes]]]:
        first = self._suspect_at_start.match(data)
        if first is not None:
            yield 0, first
        for found in self._suspect_inside.finditer(data):
            yield found.start() + 1, found

    def _judge(self, head: re.Match[bytes]) -> None:
        if head["attribute"]:
            raise BadReply("an attribute (RESP3 type '|'), which nobody asked for")
        if head["bulk"] is None:
            raise BadReply(f"the announcement of more than a million elements ({head[0].strip()!r}...)")
        if int(head["bulk"]) > self._bulk_max:
            raise BadReply(f"the announcement of {int(head['bulk'])} bytes, where {self._bulk_max} are the limit")

    def _feed(self, data: bytes, start: int, end: int) -> Iterator[object]:
        if start == end:
            return
        parser = self._parser
        try:
            parser.feed(data, start, end - start)
            while (reply := parser.gets()) is not _MORE:
                self._since_reply = 0
                yield reply
        except (hiredis.HiredisError, MemoryError) as error:
            raise BadReply(explain_garbage(data[start:end]) or str(error)) from error
        if parser.has_data() and parser.len() > self._bulk_max + CONSUMED_MAX:
            raise BadReply(f"more than {self._bulk_max} bytes in one piece")


_UNFINISHED: Final = re.compile(rb"(?:[*>~%%]\+?\d{0,%d}|[$=]\+?\d{0,20})\Z" % (ELEMENTS_DIGITS - 1))


def _unfinished(data: bytes, fed: int) -> int:
    """How many bytes at the end may be half an announcement: they wait for the rest, and so does nothing else."""
    start = max(fed, len(data) - 24)
    line = data.rfind(b"\n", start) + 1 or start
    if line > start or start == 0:
        found = _UNFINISHED.match(data, line)
        return len(data) - line if found is not None else 0
    return 0


def explain_garbage(data: bytes) -> str | None:
    """What it is that sends this instead of RESP, in words; None when nobody knows."""
    for start, words in _OTHERS.items():
        if data.startswith(start):
            return words
    return None


_OTHERS: Final = {
    b"HTTP/": "an HTTP server's answer",
    b"AMQP": "an AMQP broker's answer: is this RabbitMQ? then the URL begins with amqp://",
    b"\x15\x03": "a TLS alert: use rediss://, or ssl=, for a TLS port",
    b"SSH-": "an SSH server's greeting",
    b"220 ": "a mail or FTP server's greeting",
}
