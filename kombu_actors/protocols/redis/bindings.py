"""Bindings as kombu keeps them: members ``key SEP pattern SEP queue`` of one set per exchange."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ...utils.json import dumps
from .._content import check_table

__all__ = ["arguments_text", "key_to_pattern"]

_WILDCARDS: Final = {"*": r"[^\.]+", "#": ".*?"}


def key_to_pattern(key: str) -> str:
    """The regular expression that stock kombu matches routing keys with, for a topic binding's key.

    Letter by letter kombu's, its oddities included: ``#`` wants the dot that is next to it, and a wildcard
    beside other letters is taken for a regular expression's.  Our scripts go by the key instead.
    """
    words = "".join(map(_escaped, key)).split(".")
    return f"^{_DOT.join(_WILDCARDS.get(word, word) for word in words)}$"


_DOT: Final = r"\."


def _escaped(letter: str) -> str:
    if letter.isalnum() or letter in ".#*":
        return letter
    return "\\" + ("000" if letter == "\0" else letter)


def arguments_text(arguments: Mapping[str, object]) -> str:
    """A binding's arguments as JSON, the same text for the same arguments: they are part of its identity.

    Raises ``ValueError`` naming what AMQP can't carry.
    """
    table, _ = check_table("arguments", arguments)
    return dumps(table, sort_keys=True, separators=(",", ":"))
