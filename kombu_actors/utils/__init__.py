"""Small tools that kombu documents and its users import."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._homes import names_from
from .functional import fxrange, fxrangemax, maybe_list, reprcall, reprkwargs, retry_over_time
from .uuid import uuid

if TYPE_CHECKING:
    from .collections import EqualityDict
    from .compat import fileno, maybe_fileno, nested, register_after_fork
    from .div import emergency_dump_state
    from .imports import symbol_by_name
    from .objects import cached_property

__all__ = [
    "EqualityDict",
    "cached_property",
    "emergency_dump_state",
    "fileno",
    "fxrange",
    "fxrangemax",
    "maybe_fileno",
    "maybe_list",
    "nested",
    "register_after_fork",
    "reprcall",
    "reprkwargs",
    "retry_over_time",
    "symbol_by_name",
    "uuid",
]

_HERE = {
    "EqualityDict": "collections",
    "cached_property": "objects",
    "emergency_dump_state": "div",
    "fileno": "compat",
    "maybe_fileno": "compat",
    "nested": "compat",
    "register_after_fork": "compat",
    "symbol_by_name": "imports",
}
"""Where those names are at home that are imported when they are used."""

if not TYPE_CHECKING:
    __getattr__ = names_from(__name__, {name: f"{__name__}.{module}:{name}" for name, module in _HERE.items()})


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
