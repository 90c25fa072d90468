"""Compressing bodies, and decompressing them within a bound.

Names are kombu's: ``gzip`` (``zlib``), ``bzip2`` (``bzip``), ``lzma`` (``xz``), ``zstd``
(``zstandard``), ``brotli``, or the content types they stand for.  The libraries are imported on
first use; ``zstd`` (before Python 3.14) and ``brotli`` come with ``kombu-actors[compress]``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Final, Protocol

from .errors import DecodeError, EncodeError
from .utils.encoding import ensure_bytes

__all__ = ["compress", "decompress", "encoders", "get_decoder", "get_encoder", "register"]

output_limit = 64 * 1024 * 1024
"""Most bytes ``decompress`` returns unless told otherwise: a small message may not fill the memory.

The same 64 MiB bound a plain body has.  Set it once, at program start.
"""
_LZMA_MEMORY: Final = 256 * 1024 * 1024
"""lzma allocates the dictionary a message asks for, up to 4 GiB; its own largest preset needs 65 MiB."""

Encoder = Callable[[bytes], bytes]
Decoder = Callable[[bytes], bytes]

_aliases: dict[str, str] = {}
_encoders: dict[str, Encoder] = {}
_decoders: dict[str, Decoder] = {}
_bounded: dict[str, Callable[[bytes, int], bytes]] = {}


def register(encoder: Encoder, decoder: Decoder, content_type: str, aliases: Iterable[str] | None = None) -> None:
    """Register a compression method.

    ``content_type`` is what travels in a message's ``compression`` header, ``aliases`` are shorter
    names for it.  A method registered here has to bound its own output.
    """
    _encoders[content_type] = encoder
    _decoders[content_type] = decoder
    _bounded.pop(content_type, None)
    _aliases.update((alias, content_type) for alias in aliases or ())


def encoders() -> list[str]:
    """The content types that can be used here."""
    return list(_encoders)


def get_encoder(t: str) -> tuple[Encoder, str]:
    """The compressing function of a name or content type, and the content type.

    Raises ``KeyError``.
    """
    content_type = _aliases.get(t, t)
    return _known(_encoders, content_type), content_type


def get_decoder(t: str) -> Decoder:
    """The decompressing function of a name or content type, bounded by ``output_limit``.

    Raises ``KeyError``.
    """
    return _known(_decoders, _aliases.get(t, t))


def _known(table: dict[str, Encoder], content_type: str) -> Encoder:
    try:
        return table[content_type]
    except KeyError:
        known = ", ".join(sorted(alias for alias, full in _aliases.items() if full in table))
        raise KeyError(f"no compression named {content_type!r:.80}; known: {known}") from None


def compress(body: bytes | str, content_type: str) -> tuple[bytes, str]:
    """Compress a body; returns the result and the content type for the ``compression`` header.

    Raises ``EncodeError`` when the method is unknown or fails.
    """
    try:
        encode, full_name = get_encoder(content_type)
        return encode(ensure_bytes(body)), full_name
    except Exception as exc:
        raise EncodeError(f"can't compress with {content_type!r:.80}: {_reason(exc)}") from exc


def decompress(body: bytes, content_type: str, limit: int | None = None) -> bytes:
    """Decompress a body to at most ``limit`` bytes (default: ``output_limit``).

    Stops at the bound, so that what a message expands to never exists.  Raises ``DecodeError``
    when the method is unknown, the body is damaged or truncated, or the bound is exceeded.
    """
    bound = output_limit if limit is None else limit
    try:
        full_name = _aliases.get(content_type, content_type)
        bounded = _bounded.get(full_name)
        result = bounded(body, bound) if bounded is not None else _known(_decoders, full_name)(body)
    except Exception as exc:
        raise DecodeError(f"can't decompress a body of {len(body)} bytes: {_reason(exc)}") from exc
    if len(result) > bound:
        raise DecodeError(
            f"a body of {len(body)} bytes ({content_type!r:.80}) expands beyond {bound} bytes; "
            "if you expect it, raise kombu_actors.compression.output_limit"
        )
    return result


def _reason(exc: Exception) -> str:
    return str(exc.args[0]) if isinstance(exc, KeyError) else f"{type(exc).__name__}: {exc}"


class _Decompressor(Protocol):
    """What ``bz2``, ``lzma`` and ``zstd`` agree on."""

    eof: bool
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def _members(new: Callable[[], _Decompressor], body: bytes, limit: int) -> bytes:
    """Decompress the streams that follow each other in ``body``, to one byte more than ``limit`` at most."""
    parts: list[bytes] = []
    room = limit + 1
    rest = body
    while rest and room:
        stream = new()
        part = stream.decompress(rest, room)
        parts.append(part)
        room -= len(part)
        if not stream.eof and room:
            raise EOFError("the compressed data ends too early")
        rest = stream.unused_data
    if not parts:
        raise EOFError("there is no compressed data")
    return b"".join(parts)


def _gzip(body: bytes, limit: int) -> bytes:
    # kombu's "gzip" is the zlib format; 32 makes true gzip files readable as well.
    stream = import_module("zlib").decompressobj(wbits=15 | 32)
    result: bytes = stream.decompress(body, limit + 1)
    if not stream.eof and len(result) <= limit:
        raise EOFError("the compressed data ends too early")
    return result


def _bzip2(body: bytes, limit: int) -> bytes:
    return _members(import_module("bz2").BZ2Decompressor, body, limit)


def _lzma(body: bytes, limit: int) -> bytes:
    return _members(partial(import_module("lzma").LZMADecompressor, memlimit=_LZMA_MEMORY), body, limit)


_ZSTD: Final = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"


def _zstd(body: bytes, limit: int) -> bytes:
    return _members(import_module(_ZSTD).ZstdDecompressor, body, limit)


def _brotli(body: bytes, limit: int) -> bytes:
    stream = import_module("brotli").Decompressor()
    parts: list[bytes] = []
    room = limit + 1
    rest = body
    while room > 0 and not stream.is_finished():
        part = stream.process(rest, output_buffer_limit=room)
        if not part and not rest:
            raise EOFError("the compressed data ends too early")
        parts.append(part)
        room -= len(part)
        rest = b""
    return b"".join(parts)


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is missing
        return False


def _compress_with(module: str, body: bytes) -> bytes:
    result: bytes = import_module(module).compress(body)
    return result


def _register_library(module: str, decode: Callable[[bytes, int], bytes], content_type: str, *aliases: str) -> None:
    if _installed(module):
        register(partial(_compress_with, module), partial(decompress, content_type=content_type), content_type, aliases)
        _bounded[content_type] = decode


_register_library("zlib", _gzip, "application/x-gzip", "gzip", "zlib")
_register_library("bz2", _bzip2, "application/x-bz2", "bzip2", "bzip")
_register_library("brotli", _brotli, "application/x-brotli", "brotli")
_register_library("lzma", _lzma, "application/x-lzma", "lzma", "xz")
_register_library(_ZSTD, _zstd, "application/zstd", "zstd", "zstandard")
