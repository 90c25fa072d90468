"""The end of the process.

What a program registers with ``atexit`` runs before what it had registered earlier, and most programs import our names
before they do so.  So the place in that order is taken when the names are imported, not when the runtime is loaded.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable

__all__ = ["drains"]

drains: list[Callable[[], None]] = []
"""What is to be called: the runtime's, once there is one."""


def _drain() -> None:
    for drain in drains:
        drain()


atexit.register(_drain)
