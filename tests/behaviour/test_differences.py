"""No difference from kombu is unexplained."""

from __future__ import annotations

import re
from pathlib import Path

from .libraries import DIFFERS

ROOT = Path(__file__).parents[2]


def test_every_difference_has_its_row_and_its_reason() -> None:
    """In ``docs/differences.md``: what kombu does, what this library does, and why."""
    page = (ROOT / "docs" / "differences.md").read_text().partition("\n## By design\n")[0]
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if re.match(r"\| `[a-z0-9-]+` \|", line)]
    assert all(len(row) == 4 and all(cell.strip() for cell in row) for row in rows)
    names = [row[0].strip("`") for row in rows]
    assert len(names) == len(set(names))
    assert set(names) == DIFFERS


def test_every_listed_difference_is_tested() -> None:
    """A difference that is gone leaves the list."""
    sources = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    used = set(re.findall(r'either\(\s*"([a-z0-9-]+)"', sources))
    assert used == DIFFERS
