"""What goes over a control socket: JSON, an object a line.

    -> {"verb": "pause", "queue": "orders"}
    <- {"beat": true}                         it is at work on it; once in half a second
    <- {"item": {...}}                        of a verb that tells several things, each
    <- {"value": null}                        done; or
    <- {"error": "...", "exit": 1}            refused, with the exit code for it

A connection takes one request after the other.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False  # as type checkers know it: importing more takes a probe's time
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ANSWER_MAX", "BEAT", "REQUEST_MAX", "TIMEOUT", "NotAMessage", "decode", "encode"]

REQUEST_MAX = 17 * 1024 * 1024
"""Bytes of a request: a message of 16 MiB, which is what RabbitMQ takes, and what goes with it."""
ANSWER_MAX = 64 * 1024 * 1024
"""Bytes of a line of an answer: the status of 50,000 consumers."""
BEAT = 0.5
"""Seconds between beats: so soon a request ends whose asker has gone."""
TIMEOUT = 10.0
"""Seconds of silence after which nobody answers: a process that is so late is not well."""


class NotAMessage(ValueError):
    """A line that can't be one of these."""


def encode(message: Mapping[str, object]) -> bytes:
    """One message as a line."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"


def decode(line: bytes) -> dict[str, object]:
    """One line as a message; raises ``NotAMessage``."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise NotAMessage(f"a line of JSON was expected: {error}") from None
    if not isinstance(message, dict):
        raise NotAMessage("a JSON object was expected")
    return message
