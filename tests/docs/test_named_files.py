"""The documents name files and folders that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.imports import PACKAGE

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMED = re.compile(r"(?<!\[)`([a-z_]+(?:/[a-z_]+)*(?:\.py|/))`")
"""``actors/channel.py`` or ``actors/``, from the package, the tests or the root; links are another test's."""


def is_there(name: str) -> bool:
    return any((above / name).exists() for above in (ROOT / PACKAGE, ROOT / "tests", ROOT))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_file_that_a_page_names_is_there(page: Path) -> None:
    """Who follows a document into the code gets there."""
    assert {name for name in NAMED.findall(page.read_text()) if not is_there(name)} == set()


def test_the_design_names_files_of_every_layer() -> None:
    """The way of one message leads through all of them."""
    named = NAMED.findall((ROOT / "docs" / "design.md").read_text())
    folders = {name.split("/")[0] for name in named if name.endswith(".py") and "/" in name}
    assert folders >= {"_facade", "_bridge", "_native", "actors", "transport", "protocols"}
