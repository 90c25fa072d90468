"""From ``module:attribute`` to a fleet."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType

from ..fleet import Fleet

__all__ = ["WrongLocator", "locate"]

PACKAGE = str(Path(__file__).parents[1])
"""A mistake is in the program's line that called, not in ours that found it."""


class WrongLocator(ValueError):
    """There is no fleet at that place; the text says what there is."""


def locate(locator: str) -> Fleet:
    """The fleet that ``package.module:attribute`` names; the present directory is looked in first.

    ``module`` alone will do when the module has one fleet.

    Raises ``WrongLocator``; what the module's own code raises is a part of its text.
    """
    name, _, attribute = locator.partition(":")
    if not name or not all(part.isidentifier() for part in name.split(".")):
        raise WrongLocator(f"{locator!r} names no fleet: say module:attribute, such as shop:fleet")
    module = _import(name)
    if not attribute:
        return _only_fleet(module)
    found: object = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise WrongLocator(f"module {name!r} has no attribute {attribute!r}; {_fleets_in(module)}") from None
    if not isinstance(found, Fleet):
        raise WrongLocator(f"{locator!r} is a {type(found).__name__} and no Fleet; {_fleets_in(module)}")
    return found


def _import(name: str) -> ModuleType:
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise WrongLocator(f"there is no module {error.name!r}, neither in {here} nor installed") from None
        raise WrongLocator(_failed(name, error)) from error
    except Exception as error:
        raise WrongLocator(_failed(name, error)) from error


def _failed(name: str, error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "importlib" not in frame.filename and not frame.filename.startswith(PACKAGE)]
    where = f" ({os.path.relpath(own[-1].filename)}, line {own[-1].lineno})" if own else ""
    if isinstance(error, SyntaxError) and error.filename is not None:
        where = f" ({os.path.relpath(error.filename)}, line {error.lineno})"
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"importing {name!r} failed{where}: {type(error).__name__}: {text}"


def _only_fleet(module: ModuleType) -> Fleet:
    found = _named_fleets(module)
    if len(found) == 1:
        return next(iter(found.values()))
    raise WrongLocator(f"say which fleet of module {module.__name__!r} is meant; {_fleets_in(module)}")


def _fleets_in(module: ModuleType) -> str:
    found = _named_fleets(module)
    if not found:
        return "it has no fleet"
    return f"its fleets: {', '.join(f'{module.__name__}:{name}' for name in found)}"


def _named_fleets(module: ModuleType) -> dict[str, Fleet]:
    return {name: value for name, value in vars(module).items() if isinstance(value, Fleet)}
