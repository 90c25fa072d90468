"""How kombu writes a topic binding's key for its own matching: as a regular expression."""

from __future__ import annotations

from typing import Final

__all__ = ["key_to_pattern"]

_WILDCARDS: Final = {"*": r"[^\.]+", "#": ".*?"}
_DOT: Final = r"\."
_PLAIN: Final = frozenset("#*")


def key_to_pattern(key: str) -> str:
    """The second field of a binding's record, which must be kombu's to the byte: it is part of the binding's identity.

    Our own routing doesn't read it; it matches words as AMQP defines (``#`` also stands for no word at all).
    """
    words = (_WILDCARDS.get(word) or _escaped(word) for word in key.split("."))
    return f"^{_DOT.join(words)}$"


def _escaped(word: str) -> str:
    return "".join(
        letter if letter.isalnum() or letter in _PLAIN else "\\000" if letter == "\0" else f"\\{letter}"
        for letter in word
    )
