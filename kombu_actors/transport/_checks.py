"""What no AMQP method can carry is refused before anything is sent, also where there are no AMQP methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .._values.model import BindingSpec
from ..protocols._content import MAX_FRAME, check_short_string, check_table

__all__ = ["check", "check_binding"]

ARGUMENTS_MAX: Final = MAX_FRAME - 1024
"""Bytes of an argument table: what a frame has beside it for up to three names of 255 bytes and the method itself."""


def check(names: Mapping[str, object], arguments: object = None) -> None:
    """Check the names and the argument table of one request.

    Raises:
        ValueError: a name is no text of at most 255 bytes, or ``arguments`` no AMQP table that fits a frame.
    """
    for label, name in names.items():
        check_short_string(label, name)
    if arguments is not None:
        _, size = check_table("arguments", arguments)
        if size > ARGUMENTS_MAX:
            raise ValueError(
                f"arguments of {size} bytes don't fit a frame of {MAX_FRAME} bytes, which is what RabbitMQ agrees to: "
                "use smaller ones"
            )


def check_binding(binding: BindingSpec) -> None:
    """``check`` for all parts of a binding."""
    names = {"source": binding.source, "destination": binding.destination, "routing_key": binding.routing_key}
    check(names, binding.arguments)
