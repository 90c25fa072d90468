"""Compressing bodies, and decompressing them within a bound.

Names are kombu's: ``gzip`` (``zlib``), ``bzip2`` (``bzip``), ``lzma`` (``xz``), ``zstd``
(``zstandard``), ``brotli``, or the content types they stand for.  The libraries are imported on
first use; ``zstd`` (before Python 3.14) and ``brotli`` come with ``kombu-actors[compress]``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
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

COUNTED_FIRST: Final = 8
"""What expands beyond this share of the limit is counted before it is kept."""
OUTPUT_PART: Final = 256 * 1024
"""Bytes that a decoder is asked for at once; they are copied while they are in its caches."""
INPUT_PART: Final = 64 * 1024
"""Bytes that a decoder is given at once."""

Encoder = Callable[[bytes], bytes]
Decoder = Callable[[bytes], bytes]

_aliases: dict[str, str] = {}
_encoders: dict[str, Encoder] = {}
_decoders: dict[str, Decoder] = {}
_bounded: dict[str, Callable[[bytes], Iterator[bytes]]] = {}


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

    What would expand beyond that is refused before it exists: the process grows by at most 1.25 times the limit.
    Raises ``DecodeError`` when the method is unknown, the body is damaged or truncated, or the bound is exceeded.
    """
    bound = output_limit if limit is None else limit
    try:
        full_name = _aliases.get(content_type, content_type)
        parts = _bounded.get(full_name)
        result = _gather(partial(parts, body), bound) if parts is not None else _known(_decoders, full_name)(body)
    except Exception as exc:
        raise DecodeError(f"can't decompress a body of {len(body)} bytes: {_reason(exc)}") from exc
    if result is None or len(result) > bound:
        raise DecodeError(
            f"a body of {len(body)} bytes ({content_type!r:.80}) expands beyond {bound} bytes; "
            "if you expect it, raise kombu_actors.compression.output_limit"
        )
    return result


def _gather(parts: Callable[[], Iterator[bytes]], limit: int) -> bytes | None:
    """Put the parts of a body together; None when they are more than ``limit`` bytes.

    A decoder may keep as much of what it wrote as it returned (lzma's dictionary, zstd's window), so a large body is
    counted before it is kept.
    """
    kept = BytesIO()  # grows in place, and gives its bytes away without a copy
    size = 0
    for part in parts():
        size += len(part)
        if size > limit:
            return None
        if size <= limit // COUNTED_FIRST:
            kept.write(part)
        else:
            kept = BytesIO()
    if size > limit // COUNTED_FIRST:
        kept = BytesIO()
        for part in parts():
            kept.write(part)
    return kept.getvalue()


def _reason(exc: Exception) -> str:
    return str(exc.args[0]) if isinstance(exc, KeyError) else f"{type(exc).__name__}: {exc}"


def _slices(body: bytes) -> Iterator[bytes]:
    """A compressed body in pieces: decoders copy what they have not used yet, each time."""
    return (body[start : start + INPUT_PART] for start in range(0, len(body), INPUT_PART))


class _Decompressor(Protocol):
    """What ``bz2``, ``lzma`` and ``zstd`` agree on."""

    eof: bool
    needs_input: bool
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def _members(new: Callable[[], _Decompressor], body: bytes) -> Iterator[bytes]:
    """The parts of the streams that follow each other in ``body``."""
    stream = None
    for piece in _slices(body):
        rest = piece
        while rest:
            if stream is None:
                stream = new()
            yield stream.decompress(rest, OUTPUT_PART)
            while not stream.eof and not stream.needs_input:
                yield stream.decompress(b"", OUTPUT_PART)
            rest = b""
            if stream.eof:
                rest, stream = stream.unused_data, None
    if stream is not None:
        raise EOFError("the compressed data ends too early")
    if not body:
        raise EOFError("there is no compressed data")


def _gzip(body: bytes) -> Iterator[bytes]:
    # kombu's "gzip" is the zlib format; 32 makes true gzip files readable as well.
    stream = import_module("zlib").decompressobj(wbits=15 | 32)
    for piece in _slices(body):
        rest = piece
        while rest and not stream.eof:
            yield stream.decompress(rest, OUTPUT_PART)
            rest = stream.unconsumed_tail
    while not stream.eof:  # all is read, but maybe not all written
        part = stream.decompress(b"", OUTPUT_PART)
        if not part:
            raise EOFError("the compressed data ends too early")
        yield part


def _bzip2(body: bytes) -> Iterator[bytes]:
    return _members(import_module("bz2").BZ2Decompressor, body)


def _lzma(body: bytes) -> Iterator[bytes]:
    return _members(partial(import_module("lzma").LZMADecompressor, memlimit=_LZMA_MEMORY), body)


_ZSTD: Final = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"


def _zstd(body: bytes) -> Iterator[bytes]:
    return _members(import_module(_ZSTD).ZstdDecompressor, body)


def _brotli(body: bytes) -> Iterator[bytes]:
    stream = import_module("brotli").Decompressor()
    for piece in _slices(body):
        if stream.is_finished():
            return
        yield stream.process(piece, output_buffer_limit=OUTPUT_PART)
        while not stream.can_accept_more_data():
            yield stream.process(b"", output_buffer_limit=OUTPUT_PART)
    while not stream.is_finished():  # all is read, but maybe not all written
        part = stream.process(b"", output_buffer_limit=OUTPUT_PART)
        if not part:
            raise EOFError("the compressed data ends too early")
        yield part


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is missing
        return False


def _compress_with(module: str, body: bytes) -> bytes:
    result: bytes = import_module(module).compress(body)
    return result


def _register_library(module: str, parts: Callable[[bytes], Iterator[bytes]], content_type: str, *aliases: str) -> None:
    if _installed(module):
        register(partial(_compress_with, module), partial(decompress, content_type=content_type), content_type, aliases)
        _bounded[content_type] = parts


_register_library("zlib", _gzip, "application/x-gzip", "gzip", "zlib")
_register_library("bz2", _bzip2, "application/x-bz2", "bzip2", "bzip")
_register_library("brotli", _brotli, "application/x-brotli", "brotli")
_register_library("lzma", _lzma, "application/x-lzma", "lzma", "xz")
_register_library(_ZSTD, _zstd, "application/zstd", "zstd", "zstandard")
