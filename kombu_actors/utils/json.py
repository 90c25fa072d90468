"""JSON with kombu's extended types, byte for byte as kombu 5.7 writes it.

``datetime``, ``date``, ``time``, ``Decimal``, ``UUID`` and ``bytes`` travel as
``{"__type__": name, "__value__": ...}``; ``register_type`` adds more.  Decoding builds only
registered types: no name from a message is ever looked up as a class.

Publishing and receiving small bodies is the hot path of the whole library, so the common case
calls the C encoder and scanner of the standard library directly; everything else, errors
included, is left to ``json``.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from json import encoder as _stdlib
from json.scanner import make_scanner
from typing import Any, Final, TypeVar
from uuid import UUID

__all__ = ["JSONEncoder", "dumps", "loads", "object_hook", "register_type"]

T = TypeVar("T")
EncodedT = TypeVar("EncodedT")

_ENVELOPE: Final = {"__type__", "__value__"}
_encoders: dict[type, tuple[str | None, Callable[..., object]]] = {}
_decoders: dict[str, Callable[..., object]] = {}


class JSONEncoder(json.JSONEncoder):
    """The standard encoder, plus registered types, ``bytes`` and objects with a ``__json__`` method."""

    def default(self, o: object) -> Any:
        """What to write in place of ``o``; raises ``TypeError`` when nobody knows."""
        reducer = getattr(o, "__json__", None)
        if reducer is not None:
            return reducer()
        if _is_lazy_text(o):
            return str(o)
        for kind, (marker, encode) in _encoders.items():
            if isinstance(o, kind):
                return encode(o) if marker is None else {"__type__": marker, "__value__": encode(o)}
        if isinstance(o, bytes):
            try:
                return {"__type__": "bytes", "__value__": o.decode("utf-8")}
            except UnicodeDecodeError:
                return {"__type__": "base64", "__value__": base64.b64encode(o).decode("ascii")}
        return super().default(o)


def _is_lazy_text(o: object) -> bool:
    """Django's translatable strings; none can exist while that module isn't loaded."""
    django = sys.modules.get("django.utils.functional")
    return django is not None and isinstance(o, django.Promise)


def _compiled_encoder() -> Callable[[object], str]:
    c_make_encoder = getattr(_stdlib, "c_make_encoder", None)
    if c_make_encoder is None:  # not CPython
        return JSONEncoder().encode
    # No table of visited containers: it costs a lookup each, and cycles end in RecursionError anyway.
    chunks = c_make_encoder(
        None, JSONEncoder().default, _stdlib.encode_basestring_ascii, None, ": ", ", ", False, False, True
    )

    def encode(value: object) -> str:
        try:
            return "".join(chunks(value, 0))
        except RecursionError:
            return JSONEncoder().encode(value)  # tells a circular reference from mere depth

    return encode


_encode: Final = _compiled_encoder()


def dumps(
    s: object,
    *,
    cls: type[json.JSONEncoder] = JSONEncoder,
    default_kwargs: dict[str, Any] | None = None,
    **kwargs: object,
) -> str:
    """Encode ``s`` as JSON text.

    ``cls`` and further keywords are ``json.dumps``'s, ``default_kwargs`` are keywords that
    ``kwargs`` override.  Raises ``TypeError`` for a type nobody registered and ``ValueError`` for
    a circular reference.
    """
    if cls is JSONEncoder and not kwargs and not default_kwargs:
        return _encode(s)
    return json.dumps(s, cls=cls, **{**(default_kwargs or {}), **kwargs})


def object_hook(o: dict[str, Any]) -> Any:
    """Turn the envelope of an extended type back into its value.

    Raises ``ValueError`` for a type nobody registered.
    """
    if len(o) == 2 and o.keys() == _ENVELOPE:
        name = o["__type__"]
        decode = _decoders.get(name) if isinstance(name, str) else None
        if decode is None:
            raise ValueError(f"unknown __type__ {name!r:.80}: register it with kombu_actors.utils.json.register_type")
        return decode(o["__value__"])
    return o


_scan: Final = make_scanner(json.JSONDecoder())  # type: ignore[arg-type]  # typeshed wants a scanner here
_plain: Final = json.JSONDecoder()
_extended: Final = json.JSONDecoder(object_hook=object_hook)
_ESCAPED_ASCII: Final = tuple(f"\\u00{digit}" for digit in range(8))
"""Part of a key may be written as an escape: the envelope's name must still be recognised."""


def _has_envelope(text: str) -> bool:
    return "__type__" in text or ("\\u00" in text and any(escape in text for escape in _ESCAPED_ASCII))


def loads(
    s: str | bytes | bytearray | memoryview,
    *,
    decode_bytes: bool = True,
    object_hook: Callable[[dict[str, Any]], object] = object_hook,
) -> Any:
    """Decode JSON text or its UTF-8 bytes.

    ``decode_bytes=False`` lets ``json`` guess the encoding of ``bytes`` (UTF-8, 16 or 32).
    Raises ``ValueError`` (``json.JSONDecodeError``, ``UnicodeDecodeError``) for what is not JSON,
    ``RecursionError`` for nesting beyond the interpreter's limit.
    """
    if isinstance(s, bytes):
        text = s.decode("utf-8" if decode_bytes else json.detect_encoding(s))
    elif isinstance(s, str):
        text = s
    else:
        text = bytes(s).decode("utf-8")
    if object_hook is not _default_hook:
        return json.loads(text, object_hook=object_hook)
    if _has_envelope(text):
        return _extended.decode(text)
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        return _plain.decode(text)  # leading space, or the error that says where
    return value if end == len(text) else _plain.decode(text)


_default_hook: Final = object_hook


def register_type(
    t: type[T],
    marker: str | None,
    encoder: Callable[[T], EncodedT],
    decoder: Callable[[EncodedT], T] = lambda d: d,  # type: ignore[assignment,return-value]
) -> None:
    """Teach both directions a type.

    ``encoder`` turns a ``t`` (or a subclass) into something JSON knows, ``decoder`` turns it back;
    ``marker`` names the type on the wire.  With ``marker=None`` the encoded value is written
    without an envelope, and reading it back is the application's business.  The first registered
    type that fits wins, so register a subclass before its base.
    """
    _encoders[t] = (marker, encoder)
    if marker is not None:
        _decoders[marker] = decoder


_decoders["bytes"] = lambda o: o.encode("utf-8")
_decoders["base64"] = lambda o: base64.b64decode(o, validate=True)
register_type(datetime, "datetime", datetime.isoformat, datetime.fromisoformat)
register_type(date, "date", date.isoformat, lambda o: datetime.fromisoformat(o).date())
register_type(time, "time", time.isoformat, time.fromisoformat)
register_type(Decimal, "decimal", str, Decimal)
# kombu up to 5.3 also wrote "version"; the digits already say it, and UUID() refuses versions newer than itself.
register_type(UUID, "uuid", lambda o: {"hex": o.hex}, lambda o: UUID(hex=o["hex"]))
