"""What an event loop watches, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

from ..utils.eventio import ERR, READ, WRITE
from ..utils.functional import reprcall

if TYPE_CHECKING:
    from .hub import Hub, Watcher

T = TypeVar("T")

__all__ = ["callback_for", "repr_active", "repr_events", "repr_flag", "repr_readers", "repr_writers"]


def repr_flag(flag: int) -> str:
    """Events by their letters: R, W, and ``!`` for an error."""
    return "".join(letter for event, letter in ((READ, "R"), (WRITE, "W"), (ERR, "!")) if flag & event)


def _repr_callback(callback: object) -> str:
    if callback is None:
        return "MISSING"
    fun, args = callback if isinstance(callback, tuple) else (callback, ())
    return reprcall(getattr(fun, "__name__", repr(fun)), args)


def _repr_watched(watched: Mapping[int, object], flag: int) -> list[str]:
    return [f"({fd}){_repr_callback(callback)}->{repr_flag(flag)}" for fd, callback in watched.items()]


def repr_active(h: Hub) -> str:
    """All that is watched."""
    return ", ".join(repr_readers(h) + repr_writers(h))


def repr_events(h: Hub, events: Iterable[tuple[int, int]]) -> str:
    """Events that came, each with whom it is for."""
    return ", ".join(
        f"({fd}){_repr_callback(callback_for(h, fd, event, None))}->{repr_flag(event)}" for fd, event in events or ()
    )


def repr_readers(h: Hub) -> list[str]:
    """What is watched for something to read."""
    return _repr_watched(h.readers, READ | ERR)


def repr_writers(h: Hub) -> list[str]:
    """What is watched for room to write."""
    return _repr_watched(h.writers, WRITE)


def callback_for(h: Hub, fd: int, flag: int, *default: T) -> Watcher | T | None:
    """Who is called for an event of a file; the default, or ``KeyError``, when nobody is."""
    for event, watched in ((READ, h.readers), (WRITE, h.writers), (ERR, {**h.writers, **h.readers})):
        if flag & event and fd in watched:
            return watched[fd]
    if default:
        return default[0]
    raise KeyError(f"nobody is called for {repr_flag(flag)} of file {fd}")
