"""What the documents show works: each python block runs as written, and prints what the text block after it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).resolve().parents[2]
BROKER = "amqp://guest:guest@localhost//"
"""What a document writes for "your broker"; the tests' own takes its place."""
REDIS = "redis://localhost:6379/0"
"""The same for Redis."""
TIMEOUT = 60.0
"""Seconds; a block takes less than two on an idle machine."""
SKIPPED = re.compile(r"<!-- not run: .+ -->\s*\Z")
BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```\n(?:\s*^```text\n(?P<printed>.*?)^```\n)?", re.M | re.S)


@attrs.frozen
class Block:
    """One block of python with where it is from and what it prints, if the document says."""

    document: Path
    line: int
    code: str
    printed: str | None

    def __str__(self) -> str:
        return f"{self.document.name}:{self.line}"


def blocks() -> list[Block]:
    """All blocks but those after ``<!-- not run: why -->``."""
    found = []
    for document in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = document.read_text()
        for match in BLOCK.finditer(text):
            if not SKIPPED.search(text[: match.start()]):
                line = text.count("\n", 0, match.start()) + 2
                found.append(Block(document, line, match["code"], match["printed"]))
    return found


@pytest.mark.parametrize("block", blocks(), ids=str)
def test_the_block_runs_and_prints_what_the_document_says(block: Block, request: pytest.FixtureRequest) -> None:
    """As a program of its own, with warnings as errors; against RabbitMQ or Redis where it names a broker."""
    code = block.code
    if BROKER in code:
        code = code.replace(BROKER, request.getfixturevalue("amqp_url"))
    if REDIS in code:
        code = code.replace(REDIS, request.getfixturevalue("redis_url"))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n" * (block.line - 1) + code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    if block.printed is not None:
        assert done.stdout == block.printed


@pytest.mark.parametrize("document", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda d: d.name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    """Relative links name files that exist."""
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", document.read_text())
    assert [target for target in targets if not (document.parent / target).exists()] == []
