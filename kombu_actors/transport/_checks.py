"""What no AMQP method can carry is refused before anything is sent, also where there are no AMQP methods."""

from __future__ import annotations

from collections.abc import Mapping

from .._model import BindingSpec
from ..protocols._content import check_short_string, check_table

__all__ = ["check", "check_binding"]


def check(names: Mapping[str, object], arguments: object = None) -> None:
    """Check the names and the argument table of one request.

    Raises:
        ValueError: a name is no text of at most 255 bytes, or ``arguments`` no AMQP table.
    """
    for label, name in names.items():
        check_short_string(label, name)
    if arguments is not None:
        check_table("arguments", arguments)


def check_binding(binding: BindingSpec) -> None:
    """``check`` for all parts of a binding."""
    names = {"source": binding.source, "destination": binding.destination, "routing_key": binding.routing_key}
    check(names, binding.arguments)
