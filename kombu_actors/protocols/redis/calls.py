"""What the calls of all scripts have in common: arguments ready to send, and a reader for the reply.

A module of calls has one function per script.  It checks its arguments and makes a ``Call``; whoever has the
connection sends ``call.command(common)`` and gives the elements of the reply to ``call.parse``, which returns what
was asked for or raises the refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import starmap
from typing import Generic, TypeVar

import attrs

from ..._frozen import Record
from .scripts import Script

__all__ = ["PRESENT", "Call", "Death", "Items", "read_deaths", "read_timer"]

T = TypeVar("T")

Items = Sequence[object]
"""An array inside a reply, each of whose elements has a meaning of its own."""

PRESENT = {False: b"0", True: b"1"}
"""How the scripts spell flags."""


@attrs.frozen
class Call(Generic[T]):
    """One script call."""

    script: Script
    arguments: Sequence[bytes]
    """The script's own; those that all have (``Layout.common``) come from whoever sends it."""
    parse: Callable[..., T] = attrs.field(repr=False)
    """Reads the elements of the reply, which is an array; raises what the server refused as py-amqp's exception class.

    Error replies (``FENCED``, ``OOM``, ``NOSCRIPT``) are the connection's business and not for it.
    """

    def command(self, common: Sequence[bytes]) -> tuple[bytes, ...]:
        """The command as it is sent."""
        return (b"EVALSHA", self.script.sha1.encode(), *common, *self.arguments)

    def command_with_text(self, common: Sequence[bytes]) -> tuple[bytes, ...]:
        """The same for a server that may not know the script: longer by some 20 kB."""
        return (b"EVAL", self.script.text.encode(), *common, *self.arguments)


class Death(Record):
    """A message that died in a queue with a dead letter exchange; its claim is the caller's, who is to ``bury`` it."""

    claim: int
    queue: str
    reason: str
    """``rejected``, ``expired``, ``maxlen`` or ``delivery_limit``; ``undecodable`` for what was put aside."""
    exchange: str
    """The dead letter exchange."""
    routing_key: str | None
    """The one that replaces the message's own; None keeps them."""
    raw: bytes
    """The envelope; of a long one without its body, if it is ``cut``."""
    cut: bool = False
    size: int = 0
    """Bytes of its body, if it died because nobody can receive so many.  Then ``claim`` may be 0: it left no letter."""


def read_deaths(reply: Iterable[Items]) -> list[Death]:
    """The deaths that a script reports."""
    return list(starmap(_death, reply))


def _death(
    claim: int, queue: bytes, reason: bytes, exchange: bytes, key: bytes | None, raw: bytes, cut: int, size: int
) -> Death:
    return Death(
        claim,
        queue.decode(),
        reason.decode(),
        exchange.decode(),
        None if key is None else key.decode(),
        raw,
        bool(cut),
        size,
    )


def read_timer(reply: int) -> float | None:
    """Seconds until the earliest timer on the server is due; None when there is none."""
    return None if reply < 0 else reply / 1000
