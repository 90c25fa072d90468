"""Between text and bytes, without surprises."""

from __future__ import annotations

import sys
from typing import TypeVar, overload

__all__ = [
    "bytes_to_str",
    "default_encode",
    "default_encoding",
    "ensure_bytes",
    "from_utf8",
    "get_default_encoding_file",
    "safe_repr",
    "safe_str",
    "set_default_encoding_file",
    "str_to_bytes",
]

T = TypeVar("T")
default_encoding_file: object = None
"""What ``set_default_encoding_file`` was given."""


def set_default_encoding_file(file: object) -> None:
    """Have ``default_encoding`` ask this file."""
    global default_encoding_file
    default_encoding_file = file


def get_default_encoding_file() -> object:
    """The file that ``default_encoding`` asks."""
    return default_encoding_file


def default_encoding(file: object = None) -> str:
    """How a file encodes text; Python's own way for one that doesn't say."""
    return getattr(file or default_encoding_file, "encoding", None) or sys.getfilesystemencoding()


def default_encode(obj: T) -> T:
    """The object as it is: text needs no encoding here."""
    return obj


@overload
def str_to_bytes(s: str) -> bytes: ...
@overload
def str_to_bytes(s: T) -> T: ...
def str_to_bytes(s: object) -> object:
    """Encode a ``str`` as UTF-8; anything else is returned as it is."""
    return s.encode() if isinstance(s, str) else s


@overload
def bytes_to_str(s: bytes) -> str: ...
@overload
def bytes_to_str(s: T) -> T: ...
def bytes_to_str(s: object) -> object:
    """Decode ``bytes`` as UTF-8, with U+FFFD for what is not; anything else is returned as it is."""
    return s.decode(errors="replace") if isinstance(s, bytes) else s


def from_utf8(s: T, *args: object, **kwargs: object) -> T:
    """The object as it is: text is text."""
    return s


@overload
def ensure_bytes(s: str) -> bytes: ...
@overload
def ensure_bytes(s: T) -> T: ...
def ensure_bytes(s: object) -> object:
    """``bytes`` as they are, ``str`` as UTF-8; other buffers are returned as they are."""
    return str_to_bytes(s)


def safe_str(s: object, errors: str = "replace") -> str:
    """``str`` for a log line: never raises, whatever the object's own ``__repr__`` does.

    ``errors`` is kombu's, which encodes and decodes: text stays as it is here.
    """
    text = bytes_to_str(s)
    return text if isinstance(text, str) else safe_repr(text)


def safe_repr(o: object, errors: str = "replace") -> str:
    """``repr`` for a log line: never raises, whatever the object's own ``__repr__`` does.

    ``errors`` as for ``safe_str``.
    """
    try:
        return repr(o)
    except Exception as exc:  # a broken __repr__ must not hide the error being reported
        return f"<Unrepresentable {type(o)!r}: {type(exc).__name__}>"
