"""Things by the names that settings have for them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["symbol_by_name"]


def symbol_by_name(
    name: object,
    aliases: Mapping[str, object] | None = None,
    imp: Callable[..., object] | None = None,
    package: str | None = None,
    sep: str = ".",
    default: object = None,
    **kwargs: object,
) -> Any:
    """What ``package.module:attribute`` or ``package.module.attribute`` names; what is no text is returned as it is.

    ``aliases`` are looked up first.  ``imp`` is called instead of ``importlib.import_module``, with ``package`` and
    the further keywords.  A name without a module is the module of that name.  ``default``, if there is one, stands for
    what can't be imported or isn't there.

    Raises:
        ImportError, AttributeError: there is no such module, or nothing of that name in it.
        ValueError: that is no name.
    """
    if not isinstance(name, str):
        return name
    name = (aliases or {}).get(name, name)
    if not isinstance(name, str):
        return name
    module, _, attribute = name.rpartition(":" if ":" in name else sep)
    if not module:
        module, attribute = package or attribute, ""
    try:
        try:
            found = (imp or importlib.import_module)(module, package=package, **kwargs)
        except ValueError as error:
            raise ValueError(f"Couldn't import {name!r}: {error}") from error
        return getattr(found, attribute) if attribute else found
    except (ImportError, AttributeError):
        if default is None:
            raise
    return default
