"""The process we run in: its event loops, its forks, its files; and two things from older Pythons."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import wraps
from io import UnsupportedOperation
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from .._bridge.forking import register_after_fork
from .._values.originals import green

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from _typeshed import FileDescriptorLike

__all__ = [
    "FILENO_ERRORS",
    "coro",
    "detect_environment",
    "entrypoints",
    "fileno",
    "get_gevent_concurrent_error",
    "maybe_fileno",
    "nested",
    "register_after_fork",
]

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")
Y = TypeVar("Y")

FILENO_ERRORS: Final = (AttributeError, ValueError, UnsupportedOperation)
"""What something without a file descriptor raises when it is asked for one."""


def detect_environment() -> str:
    """``"gevent"`` or ``"eventlet"`` where it has patched the standard library, else ``"default"``."""
    return green() or "default"


_detect_environment = detect_environment


def get_gevent_concurrent_error() -> type[BaseException] | None:
    """What gevent raises when two greenlets wait for one file; ``None`` where gevent isn't used."""
    if green() != "gevent":
        return None
    found: type[BaseException] = importlib.import_module("gevent.exceptions").ConcurrentObjectUseError
    return found


def coro(gen: Callable[P, Generator[Y, S, R]]) -> Callable[P, Generator[Y, S, R]]:
    """Start a generator when it is made, so that it can be sent to at once."""

    @wraps(gen)
    def start(*args: P.args, **kwargs: P.kwargs) -> Generator[Y, S, R]:
        made = gen(*args, **kwargs)
        next(made)
        return made

    return start


def entrypoints(namespace: str) -> Iterator[tuple[EntryPoint, object]]:
    """The entry points that installed distributions have in a group, each with what it names."""
    from importlib.metadata import entry_points  # as slow to import as all documented names together

    return ((entry, entry.load()) for entry in entry_points(group=namespace))


def fileno(f: FileDescriptorLike) -> int:
    """The descriptor of a file, a socket or a number; raises one of ``FILENO_ERRORS`` when there is none."""
    return f if isinstance(f, int) else f.fileno()


def maybe_fileno(f: Any) -> int | None:
    """``fileno``, or ``None`` when there is none."""
    try:
        return fileno(f)
    except FILENO_ERRORS:
        return None


@contextmanager
def nested(*managers: AbstractContextManager[T]) -> Iterator[list[T]]:
    """Enter several context managers, in order, as one; the block gets what each gave."""
    with ExitStack() as stack:
        yield [stack.enter_context(manager) for manager in managers]
