"""Compressed bodies are kombu's, and never expand beyond their bound."""

from __future__ import annotations

import contextlib
import gzip
import lzma
import random
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kombu_actors import compression
from kombu_actors.errors import DecodeError, EncodeError
from tests.facade.oracle import compression as oracle

METHODS = compression.encoders()
BODY = bytes(range(256)) * 40 + b"a" * 100_000


@pytest.fixture(autouse=True)
def methods_as_they_were() -> Iterator[None]:
    """Tests may register methods and move the bound."""
    tables: list[Any] = [compression._aliases, compression._encoders, compression._decoders, compression._bounded]
    before = [dict(table) for table in tables]
    limit = compression.output_limit
    yield
    for table, content in zip(tables, before, strict=True):
        table.clear()
        table.update(content)
    compression.output_limit = limit


def test_methods_and_names_are_kombus() -> None:
    """The same content types under the same aliases."""
    assert oracle.encoders() == METHODS
    assert compression._aliases == oracle._aliases


@pytest.mark.parametrize("name", sorted(compression._aliases))
def test_bytes_are_kombus(name: str) -> None:
    """Both ways, by each name."""
    assert compression.compress(BODY, name) == oracle.compress(BODY, name)
    body, content_type = oracle.compress(BODY, name)
    assert compression.decompress(body, name) == compression.decompress(body, content_type) == BODY
    assert compression.get_decoder(name)(body) == BODY
    encode, full_name = compression.get_encoder(name)
    assert (encode(BODY), full_name) == (body, content_type)


@pytest.mark.parametrize("method", METHODS)
def test_empty_bodies_and_texts_can_be_compressed(method: str) -> None:
    """Text as UTF-8."""
    for body in ("", b"", "é"):
        packed, _ = compression.compress(body, method)
        assert compression.decompress(packed, method) == (body.encode() if isinstance(body, str) else body)


@pytest.mark.parametrize("method", METHODS)
def test_the_bound_is_exact(method: str) -> None:
    """As many bytes as allowed, not one more."""
    packed, _ = compression.compress(BODY, method)
    assert compression.decompress(packed, method, limit=len(BODY)) == BODY
    with pytest.raises(DecodeError, match="expands beyond"):
        compression.decompress(packed, method, limit=len(BODY) - 1)


LIMIT = 32 << 20
WINDOW_LOG = 101
"""ZSTD_c_windowLog."""


@pytest.fixture(scope="module")
def bombs(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, str]:
    """Files of 1.25 x ``LIMIT`` zeros, with their methods; lzma and zstd once more with the largest dictionary."""
    harmless = b"\0" * (LIMIT + LIMIT // 4)
    packed = {method: (method, compression.compress(harmless, method)[0]) for method in METHODS}
    packed["wide lzma"] = ("application/x-lzma", lzma.compress(harmless, preset=9))
    if "application/zstd" in METHODS:
        zstd = import_module(compression._ZSTD)
        packed["wide zstd"] = ("application/zstd", zstd.compress(harmless, options={WINDOW_LOG: 27}))
    files = {}
    for name, (method, bomb) in packed.items():
        file = tmp_path_factory.mktemp("bombs") / name.replace("/", "-")
        file.write_bytes(bomb)
        files[file] = method
    return files


@pytest.mark.parametrize("api", ["facade", "native"])
def test_a_bomb_costs_at_most_a_quarter_more_than_the_limit(api: str, bombs: dict[Path, str]) -> None:
    """By the most memory that a process ever had which received it; for every codec."""
    growth: dict[str, float] = {}
    for file, method in bombs.items():
        assert file.stat().st_size < LIMIT / 100
        command = [sys.executable, "-m", "tests.facade.defusing", str(file), method, str(LIMIT), api]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert not ran.returncode, ran.stderr
        growth[file.name] = round(int(ran.stdout) / LIMIT, 2)
    assert max(growth.values()) <= 1.25, growth


@pytest.mark.parametrize("method", METHODS)
def test_a_large_body_within_the_bound_is_whole(method: str) -> None:
    """What is counted before it is kept is kept, all the same; many streams, in many pieces, too."""
    body = random.Random(1).randbytes(300_000) + b"a" * 1_000_000
    packed, _ = compression.compress(body, method)
    assert compression.decompress(packed, method, limit=len(body)) == body
    with pytest.raises(DecodeError, match="expands beyond"):
        compression.decompress(packed, method, limit=len(body) - 1)
    for damaged in (packed[:-5], packed[:100_000]):
        with pytest.raises(DecodeError):
            compression.decompress(damaged, method)


def test_the_default_bound_can_be_moved() -> None:
    """By the program, for all consumers."""
    packed, _ = compression.compress(BODY, "gzip")
    compression.output_limit = 1000
    with pytest.raises(DecodeError, match="output_limit"):
        compression.decompress(packed, "gzip")
    with pytest.raises(DecodeError, match="beyond 1000 bytes"):
        compression.get_decoder("gzip")(packed)


@pytest.mark.parametrize("method", METHODS)
def test_truncated_and_damaged_bodies_are_decode_errors(method: str) -> None:
    """Never half a body."""
    packed, _ = compression.compress(BODY, method)
    for damaged in (packed[:-5], packed[: len(packed) // 2], b"", b"\0" * 50, packed[3:]):
        with pytest.raises(DecodeError):
            compression.decompress(damaged, method)


@given(st.sampled_from(METHODS), st.binary(max_size=200))
def test_random_bytes_are_decode_errors_or_bodies(method: str, body: bytes) -> None:
    """No other exception escapes."""
    with contextlib.suppress(DecodeError):
        compression.decompress(body, method, limit=1 << 20)


@pytest.mark.parametrize("method", [method for method in METHODS if "gzip" not in method and "brotli" not in method])
def test_bodies_of_several_streams_are_read_whole(method: str) -> None:
    """As ``bz2``, ``lzma`` and ``zstd`` do; the bound holds for their sum."""
    packed, _ = compression.compress(b"a" * 1000, method)
    assert compression.decompress(packed * 3, method) == b"a" * 3000
    with pytest.raises(DecodeError, match="expands beyond"):
        compression.decompress(packed * 3, method, limit=2999)


def test_true_gzip_files_are_read_as_well() -> None:
    """kombu's "gzip" is the zlib format; other languages take the name at its word."""
    assert compression.decompress(gzip.compress(BODY), "gzip") == BODY


def test_an_unknown_method_is_an_error_that_lists_the_known_ones() -> None:
    """As EncodeError for the publisher, DecodeError for the consumer."""
    with pytest.raises(EncodeError, match=r"no compression named 'gzpi'; known: .*gzip"):
        compression.compress(b"x", "gzpi")
    with pytest.raises(DecodeError, match="no compression named 'gzpi'"):
        compression.decompress(b"x", "gzpi")
    with pytest.raises(KeyError):
        compression.get_encoder("gzpi")
    with pytest.raises(KeyError):
        compression.get_decoder("gzpi")


def test_a_method_of_your_own() -> None:
    """Registered under a content type and aliases; its output is checked against the bound, too."""
    compression.register(lambda body: body[::-1], lambda body: body[::-1] * 2, "application/x-reverse", aliases=["rev"])
    assert compression.compress(b"abc", "rev") == (b"cba", "application/x-reverse")
    assert compression.decompress(b"cba", "rev") == b"abcabc"
    with pytest.raises(DecodeError, match="expands beyond 5 bytes"):
        compression.decompress(b"cba", "rev", limit=5)
    compression.register(lambda body: b"x", lambda body: b"y", "application/x-gzip")
    assert compression.decompress(b"anything", "gzip") == b"y"
