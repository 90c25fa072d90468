"""Names that a module has from elsewhere, imported when they are used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping

__all__ = ["names_from"]


def names_from(module: str, homes: Mapping[str, str]) -> Callable[[str], object]:
    """A ``__getattr__`` for a module; ``homes`` says of each name where it is, as ``package.module:name``.

    What was found once is the module's own from then on.
    """

    def __getattr__(name: str) -> object:
        home, _, attribute = homes.get(name, "").partition(":")
        if not home:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        found = getattr(importlib.import_module(home), attribute)
        setattr(importlib.import_module(module), name, found)
        return found

    return __getattr__
