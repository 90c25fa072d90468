"""Whether a name of kombu's is in this library: found out by looking."""

from __future__ import annotations

import importlib
import inspect
from functools import cache
from types import ModuleType

import attrs

OURS = "kombu_actors"


@attrs.frozen
class Found:
    """What a dotted name leads to."""

    here: bool | None
    """None where only a running program knows: attributes of objects."""
    name: str
    """The name, as far as it is kombu's: ``kombu.VERSION`` of ``kombu.VERSION.major.real``."""
    thing: object = None
    """The module, class, function or value here that the name leads to."""
    member: str | None = None
    """The attribute of a class or an instance that comes after it."""


@cache
def look_up(dotted: str) -> Found:
    """Follow a name such as ``kombu.pools.producers`` or ``kombu.Connection.drain_events`` in this library.

    Importing a module of ours is all that it does; nothing of the examined program is imported.
    """
    first, *parts = dotted.split(".")
    thing: object = importlib.import_module(OURS)
    name = first
    for position, part in enumerate(parts):
        if not isinstance(thing, ModuleType):
            known = inspect.isclass(thing) and has_member(thing, part)
            return Found(True if known else None, f"{name}.{part}", thing, part)
        name = f"{name}.{part}"
        below = _inside(thing, part, last=position == len(parts) - 1)
        if below is None:
            return Found(False, name)
        thing = below[0]
    return Found(True, name, thing)


def _inside(module: ModuleType, name: str, *, last: bool) -> tuple[object] | None:
    """What a module has under a name, be it a module that nobody has imported yet.

    ``kombu.utils.uuid`` is a function, and the module in ``kombu.utils.uuid.uuid``.
    """
    if last and hasattr(module, name):
        return (getattr(module, name),)
    try:
        return (importlib.import_module(f"{module.__name__}.{name}"),)
    except ModuleNotFoundError:
        return (getattr(module, name),) if hasattr(module, name) else None


def has_member(cls: type, name: str) -> bool:
    """Whether objects of a class are known to have an attribute."""
    return hasattr(cls, name) or any(name in vars(base).get("__annotations__", ()) for base in cls.__mro__)
