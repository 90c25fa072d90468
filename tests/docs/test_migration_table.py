"""The table "What is there" of docs/migrating-from-kombu.md is neither more nor less than the truth."""

from __future__ import annotations

from pathlib import Path

from .migration_table import table

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "migrating-from-kombu.md"


def test_the_table_says_what_is_there() -> None:
    """Every public module of stock kombu: whether it is here, what is missing of it, and what differs.

    ``python -m tests.docs.migration_table`` prints it as it should be.
    """
    page = DOCUMENT.read_text().splitlines()
    wanted = list(table())
    start = page.index(wanted[0])
    assert page[start : start + len(wanted) + 1] == [*wanted, ""]
