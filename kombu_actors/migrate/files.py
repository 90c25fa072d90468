"""Finding and reading sources."""

from __future__ import annotations

import ast
import os
import re
import tokenize
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import attrs

MARKER = b"kombu"
SUFFIXES = (".py", ".pyi", ".pyw")
LINE_END = re.compile(r"\r\n|\r|\n")


@attrs.frozen
class Source:
    """A file that has been read."""

    path: Path
    text: str
    encoding: str
    tree: ast.Module

    def encoded(self, text: str) -> bytes:
        """Another text as this file would have it."""
        return text.encode(self.encoding)


class Unreadable(Exception):
    """A file could not be read, or is not Python as this interpreter knows it."""


def sources(path: Path) -> Iterator[Path]:
    """All Python files below a folder, or the file itself; hidden folders, caches and virtual environments left out."""
    if path.is_file():
        yield path
        return
    for folder, below, names in os.walk(path):
        below[:] = sorted(name for name in below if not skipped(Path(folder, name)))
        yield from (Path(folder, name) for name in sorted(names) if name.endswith(SUFFIXES))


def skipped(folder: Path) -> bool:
    """Whether a folder holds no sources of the program's own."""
    return folder.name.startswith(".") or folder.name == "__pycache__" or (folder / "pyvenv.cfg").exists()


def read(path: Path) -> Source | None:
    """Read a file; None if there is no word of kombu in it, which is found out without parsing it.

    Raises:
        Unreadable: with the reason.
    """
    try:
        data = path.read_bytes()
        if MARKER not in data:
            return None
        encoding, _ = tokenize.detect_encoding(BytesIO(data).readline)
        return Source(path, data.decode(encoding), encoding, ast.parse(data, str(path)))
    except SyntaxError as error:
        raise Unreadable(f"{error.msg} (line {error.lineno})" if error.lineno else error.msg) from error
    except (OSError, ValueError, RecursionError) as error:
        raise Unreadable(str(error) or type(error).__name__) from error
