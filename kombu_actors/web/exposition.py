"""Prometheus' text format 0.0.4, by hand: a client library keeps state of its own, and ours is in the status.  Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import attrs

from ..fleet.totals import MeasureView

__all__ = ["CONTENT_TYPE", "Family", "exposition"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "kombu_actors_"


@attrs.define
class Family:
    """A metric, by its name without the prefix, and its samples."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    lines: list[str] = attrs.field(factory=list)

    def add(self, value: float | None, **labels: str) -> None:
        """A sample; None: nobody knows, so there is none."""
        if value is not None:
            self.lines.append(f"{PREFIX}{self.name}{_labels(labels)} {_number(value)}")

    def add_all(self, values: Mapping[str, float | None], label: str, **labels: str) -> None:
        """A sample for each value of a label."""
        for each, value in values.items():
            self.add(value, **labels, **{label: each})

    def observe(self, measured: MeasureView | None, bounds: Sequence[float], **labels: str) -> None:
        """A histogram; None: nothing was measured yet."""
        if measured is None:
            return
        below = 0
        for bound, count in zip((*bounds, math.inf), measured.counts, strict=True):
            below += count
            self.lines.append(f"{PREFIX}{self.name}_bucket{_labels({**labels, 'le': _number(bound)})} {below}")
        self.lines.append(f"{PREFIX}{self.name}_sum{_labels(labels)} {_number(measured.sum)}")
        self.lines.append(f"{PREFIX}{self.name}_count{_labels(labels)} {below}")


def exposition(families: Iterable[Family]) -> str:
    """The text of those that have samples."""
    lines = []
    for family in families:
        if family.lines:
            lines += [f"# HELP {PREFIX}{family.name} {_escaped(family.help)}"]
            lines += [f"# TYPE {PREFIX}{family.name} {family.kind}", *family.lines]
    return "\n".join([*lines, ""])


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_quoted(value)}"' for name, value in labels.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(text: str) -> str:
    """A queue's name is its owner's: whatever is in it."""
    return _escaped(text).replace('"', '\\"')


def _number(value: float) -> str:
    if value == math.inf:
        return "+Inf"
    return str(int(value)) if isinstance(value, bool) else repr(value)
