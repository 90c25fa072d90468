"""What a server can hold of one message at most, by what it says of itself."""

from __future__ import annotations

import re
from typing import Final

from amqp import spec
from amqp.exceptions import AMQPError

from ..._frozen import Record
from ..virtual._errors import named_method, precondition_failed

__all__ = ["LIMIT_QUESTIONS", "PIECE_TOO_LARGE", "Limits", "too_large"]

LIMIT_QUESTIONS: Final = (("CONFIG", "GET", "proto-max-bulk-len"), ("INFO", "memory"))
"""What to ask for ``Limits.read``.  Either may be forbidden."""
PIECE_TOO_LARGE: Final = "Protocol error: invalid bulk length"
"""What it says, before it hangs up, of more than ``proto-max-bulk-len``."""
_FIGURE: Final = re.compile(rb"^(maxmemory|used_memory_startup):(\d+)\r?$", re.MULTILINE)


class Limits(Record):
    """In bytes; None where there is no limit, or it isn't known."""

    piece: int | None = None
    """``proto-max-bulk-len``: what it takes in as one argument."""
    memory: int | None = None
    """``maxmemory``, without what the server had used when it held nothing."""

    @classmethod
    def read(cls, config: object, info: object) -> Limits:
        """Out of the answers to ``LIMIT_QUESTIONS``; what is no answer says nothing."""
        piece = memory = None
        said = config.get(b"proto-max-bulk-len") if isinstance(config, dict) else None
        if isinstance(said, bytes) and said.isdigit():
            piece = int(said)
        if isinstance(info, bytes):
            figures = {name: int(value) for name, value in _FIGURE.findall(info)}
            if figures.get(b"maxmemory"):
                memory = figures[b"maxmemory"] - figures.get(b"used_memory_startup", 0)
        return cls(piece, memory)

    def objection(self, size: int) -> str | None:
        """Why a message of that size can't ever be stored; None when it may be."""
        if self.piece is not None and size > self.piece:
            return f"the server's proto-max-bulk-len is {self.piece}"
        if self.memory is not None and size > self.memory:
            return f"the server's maxmemory leaves {max(0, self.memory)} bytes for all messages together"
        return None


def too_large(size: int, why: str) -> AMQPError:
    """What a publisher is told of a message that can't be stored, as RabbitMQ says it of ``max_message_size``."""
    error = precondition_failed(f"a message of {size} bytes (in its envelope) can't be stored: {why}")
    return named_method(error, *spec.Basic.Publish)
