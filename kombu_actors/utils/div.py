"""What is left to do when nothing else works any more."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pprint import pformat
from tempfile import mkstemp
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

__all__ = ["emergency_dump_state"]

logger = logging.getLogger(__name__)


def emergency_dump_state(
    state: object,
    open_file: Callable[..., IO[bytes]] = open,
    dump: Callable[..., object] | None = None,
    stderr: SupportsWrite[str] | None = None,
) -> str:
    """Write an object to a new temporary file, pickled or else as text; returns the file's name.

    It is also told on the standard error (or ``stderr``), since it may be all that is left.
    """
    import pickle

    stderr = stderr or sys.stderr
    descriptor, path = mkstemp()
    os.close(descriptor)
    print(f"EMERGENCY DUMP STATE TO FILE -> {path} <-", file=stderr)
    with open_file(path, "w+b") as file:
        try:
            (dump or pickle.dump)(state, file, protocol=0)
        except Exception as error:
            print(f"Cannot pickle state: {error!r}. Fallback to pformat.", file=stderr)
            file.write(pformat(state).encode())
    return path
