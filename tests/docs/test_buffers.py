"""The table of buffers in docs/reliability.md says what the code does."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"
UNITS = {"": 1, " MiB": 1 << 20, " GiB": 1 << 30}


def rows() -> list[list[str]]:
    """The cells of the table, without its head."""
    section = DOCUMENT.read_text().split("## Buffers\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def value_of(constant: str) -> Any:
    """What stands under that name below ``kombu_actors``."""
    module, _, name = constant.rpartition(".")
    return getattr(import_module(f"kombu_actors.{module}"), name)


def figures(cell: str) -> set[int]:
    """The numbers in a cell, in ones."""
    return {int(number.replace(",", "")) * UNITS[unit] for number, unit in re.findall(r"([\d,]*\d)( [MG]iB)?", cell)}


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:40])
def test_each_buffer_has_the_bounds_that_the_table_says(row: list[str]) -> None:
    """Messages and bytes are the constants', or follow from a constant that counts so much for each message."""
    what, messages, size, when_full, constants = row
    assert when_full
    assert messages
    assert size, what
    values = {name: value_of(name) for name in re.findall(r"`([\w.]+)`", constants)}
    stated = figures(messages) | figures(size)
    for name, value in values.items():
        if name.endswith(("EACH", "OVERHEAD")):
            (limit,) = (other for other in values if other != name)
            assert values[limit] // value in stated, name
        elif not name.endswith("BULK_MIN"):
            assert value in stated, name
