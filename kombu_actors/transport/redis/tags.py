"""kombu's ids of messages."""

from __future__ import annotations

import os
from random import Random
from typing import Final

__all__ = ["new_tag"]

_random: Final = Random()
"""Seeded from the system's entropy, and our own: a program that seeds ``random`` must not make ids that others make."""
os.register_at_fork(after_in_child=_random.seed)


def new_tag() -> str:
    """A random UUID's text, as kombu gives each message; from any thread.

    ``uuid4`` asks the kernel, and lets go of the interpreter lock for that: between two publishes of a loop
    the runtime's thread would take it each time, to find one message where it could have found a hundred.
    """
    digits = f"{_random.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
