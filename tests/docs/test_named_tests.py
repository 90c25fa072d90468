"""The documents name tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMED = re.compile(r"`(?:tests/)?((?!tests/)(?:[a-z_]+/)+test_[a-z_0-9]+)(?:\.py)?(?:::[a-z_0-9]+)?`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_test_that_a_page_names_is_there(page: Path) -> None:
    """Who wants to see a promise held finds the file."""
    named = set(NAMED.findall(page.read_text()))
    assert {name for name in named if not (ROOT / "tests" / f"{name}.py").is_file()} == set()


def test_the_pages_name_tests() -> None:
    """The pattern above finds those of the table of faults, one to twenty."""
    page = (ROOT / "docs" / "reliability.md").read_text()
    rows = re.findall(r"^\| (\d+) \|.*$", page, re.MULTILINE)
    assert rows == [str(number) for number in range(1, 21)]
    assert len(set(NAMED.findall(page))) > 20
