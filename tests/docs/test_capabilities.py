"""The table of docs/capabilities.md agrees with what the conformance suite is told of each transport."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest

from kombu_actors.transport import transport_for
from tests.conformance.realms import ABLE, Able

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "capabilities.md"
ROWS = {
    "byte_limits": "length limits in bytes",
    "queue_priorities": "priorities of messages, as many as the queue's `x-max-priority`",
    "consumer_priorities": "priorities of consumers",
    "single_active": "single active consumer",
    "consumer_prefetch": "prefetch per consumer",
    "heartbeats": "heartbeats",
}
"""The row for each field of ``Able``."""
GRANTED = ("yes", "negotiated")


def table() -> list[list[str]]:
    """Its rows, each a list of cells."""
    rows = re.findall(r"^\|(.*)\|$", DOCUMENT.read_text(), re.MULTILINE)
    return [[cell.strip() for cell in row.split("|")] for row in rows if not row.startswith("-")]


def columns() -> dict[str, int]:
    """The columns of transports, by their names."""
    found: dict[str, int] = {}
    for index, head in enumerate(table()[0]):
        schemes = re.findall(r"`([a-z+]+)://`", head)
        names = {transport_for(scheme).name for scheme in schemes}
        assert len(names) == min(len(schemes), 1), f"one column for {names}"
        found |= dict.fromkeys(names, index)
    return found


def test_every_transport_has_a_column_and_every_row_a_word_on_it() -> None:
    """Those that the conformance suite runs over, no more and no fewer."""
    assert columns().keys() == ABLE.keys()
    assert {len(row) for row in table()} == {len(ABLE) + 1}
    assert all(all(row) for row in table()[1:])


@pytest.mark.parametrize("name", sorted(ABLE))
def test_what_differs_is_told(name: str) -> None:
    """A field of ``Able`` is true where the table says so, and what the transport says of itself is so."""
    column = columns()[name]
    said = {row[0]: row[column].startswith(GRANTED) for row in table()}
    able = {field: getattr(ABLE[name], field) for field in ROWS}
    assert able == {field: said[row] for field, row in ROWS.items()}
    driver = transport_for(name)
    assert driver.capabilities.heartbeats is ABLE[name].heartbeats
    kinds = next(row[0].partition(" exchanges")[0] for row in table() if " exchanges;" in row[0])
    assert set(kinds.split(", ")) == driver.capabilities.exchange_types


def test_every_field_has_its_row() -> None:
    """A new difference between transports must be told."""
    assert {field.name for field in attrs.fields(Able)} == ROWS.keys()
