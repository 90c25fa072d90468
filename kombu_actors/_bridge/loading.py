"""Loading the runtime when a program makes its first connection, instead of when it imports our names.

trio can't be imported once more when its import was interrupted: half of it goes on with modules that were
thrown away.  So a thread of its own does it, where no signal handler runs.  Whoever needs the runtime waits, signal
handlers included; interrupted, the thread goes on, and the next connection finds its work.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

from .._values.originals import import_trio, pristine
from ..errors import DeadlineExceeded
from .bells import ThreadBell

if TYPE_CHECKING:
    from threading import RLock

__all__ = ["load"]

PATIENCE = 30.0
"""Seconds for what takes a fifth of one.  For a signal handler that has interrupted an import of trio it never ends."""

_lock: RLock = pristine("_thread").RLock()
"""Held while modules are imported, and while the process forks: Python's own locks for modules would stay held in the
child, and its first import of the same would wait for ever."""
_loaded: set[str] = set()


def load(*modules: str) -> None:
    """Import modules, unless they are loaded.

    Raises:
        ImportError: one can't be imported.
        DeadlineExceeded: it took longer than ``PATIENCE``.
    """
    if _loaded.issuperset(modules):
        return
    bell = ThreadBell()
    errors: list[BaseException | None] = []
    thread = pristine("threading").Thread(
        target=_load, args=(modules, bell, errors), name="kombu_actors loading", daemon=True
    )
    try:
        thread.start()
    except RuntimeError:  # there is no thread to be had: then here, where an interrupt may tear it
        _load(modules, bell, errors)
    else:
        bell.wait(PATIENCE)
        if not errors:
            what = f"the runtime was not loaded within {PATIENCE:g} s"
            raise DeadlineExceeded(f"{what}: has a signal interrupted an import?")
        thread.join()  # it has only its end left, and whoever counts threads should not find it
    if errors[0] is not None:
        raise errors[0]


def _load(modules: tuple[str, ...], bell: ThreadBell, errors: list[BaseException | None]) -> None:
    # The bell is rung while the lock is held: who forks has either heard it or finds nothing begun.
    with _lock:
        try:
            import_trio()
            for module in modules:
                importlib.import_module(module)
            _loaded.update(modules)
            errors.append(None)
        except BaseException as error:
            errors.append(error)
        finally:
            bell.ring()


os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
