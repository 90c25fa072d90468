"""The end of the process.

What a program registers with ``atexit`` runs before what it had registered earlier, and most programs import our names
before they do so.  So the place in that order is taken when the names are imported, not when the runtime is loaded.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable

__all__ = ["afterwards", "drains"]

drains: list[Callable[[], None]] = []
"""What is to be called: the runtime's, once there is one."""
afterwards: list[Callable[[], None]] = []
"""What is to be called when all of those have been."""


def _drain() -> None:
    for call in [*drains, *afterwards]:
        call()


atexit.register(_drain)
