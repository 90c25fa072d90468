"""Between text and bytes, without surprises."""

from __future__ import annotations

from typing import Any, TypeVar, overload

__all__ = ["bytes_to_str", "ensure_bytes", "safe_repr", "safe_str", "str_to_bytes"]

T = TypeVar("T")


@overload
def str_to_bytes(s: str) -> bytes: ...
@overload
def str_to_bytes(s: T) -> T: ...
def str_to_bytes(s: object) -> Any:
    """Encode a ``str`` as UTF-8; anything else is returned as it is."""
    return s.encode() if isinstance(s, str) else s


@overload
def bytes_to_str(s: bytes) -> str: ...
@overload
def bytes_to_str(s: T) -> T: ...
def bytes_to_str(s: object) -> Any:
    """Decode ``bytes`` as UTF-8, with U+FFFD for what is not; anything else is returned as it is."""
    return s.decode(errors="replace") if isinstance(s, bytes) else s


def ensure_bytes(s: object) -> Any:
    """``bytes`` as they are, ``str`` as UTF-8; other buffers are returned as they are."""
    return str_to_bytes(s)


def safe_str(s: object) -> str:
    """``str`` for a log line: never raises, whatever the object's own ``__repr__`` does."""
    text = bytes_to_str(s)
    return text if isinstance(text, str) else safe_repr(text)


def safe_repr(o: object) -> str:
    """``repr`` for a log line: never raises, whatever the object's own ``__repr__`` does."""
    try:
        return repr(o)
    except Exception as exc:  # a broken __repr__ must not hide the error being reported
        return f"<Unrepresentable {type(o)!r}: {type(exc).__name__}>"
