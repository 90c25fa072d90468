"""What happened, with the throughput of the same hour above it; and certificates.  Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final, Literal

from ...fleet.documents import CertificateDocument
from .history import STEP, History
from .markup import Html, h, joined
from .sentences import Entry, Grade
from .sparkline import line
from .words import at, number, rate, times

__all__ = ["axis_rows", "certificate_rows", "entry_rows"]

SPANS = (5, 15, 30, 60)
"""Minutes that the axis may be of: the shortest that all of a young program's life fits in."""
SHOWN = 200
"""Entries on the page; older ones are in the log."""
WIDTH, HEIGHT, MARKS = 720, 72, 10
"""Of the picture, in its own units; ``MARKS`` is the height of the row of marks."""
MARKED = (Grade.BAD, Grade.WARN, Grade.GOOD)


def axis_rows(history: History, age: float) -> dict[str, Html]:
    """Throughput, and where something happened: of the last hour, or less of a program of that age in seconds."""
    minutes = next((span for span in SPANS if age <= span * 60), SPANS[-1])
    count = int(minutes * 60 / STEP)
    handled, failed = (_latest(history, name, count) for name in ("handled", "failed"))
    top = max((value for value in (*handled, *failed) if not math.isnan(value)), default=0.0)
    parts: list[Html] = []
    for name, values in (("handled", handled), ("failed", failed)):
        d, _ = line(values, WIDTH, HEIGHT, top)
        if d:
            parts.append(h("path", d=d, class_=name))
    wide = WIDTH / count
    for grade in MARKED:
        for index, value in enumerate(_latest(history, f"events/{grade.name}", count)):
            if not math.isnan(value):
                x, width = f"{index * wide:.1f}", f"{max(wide - 1, 1.5):.1f}"
                parts.append(h("rect", x=x, y=HEIGHT + 2, width=width, height=MARKS, class_=grade.value))
    label = (
        f"Messages handled in the last {minutes} minutes, at most {rate(top)} a second; marks where something happened"
    )
    box = f"0 0 {WIDTH} {HEIGHT + MARKS + 2}"
    picture = h("svg", *parts, viewBox=box, preserveAspectRatio="none", role="img", aria_label=label)
    key = h("span", h("b", "handled", class_="handled-key"), " and ", h("b", "failed", class_="failed-key"))
    most = h("span", key, f", at most {rate(top)} a second")
    ends = h("div", h("span", f"{minutes} min ago"), most, h("span", "now"), class_="ends")
    return {"axis": h("div", picture, ends, id="axis")}


def _latest(history: History, name: str, count: int) -> Sequence[float]:
    return (history.hour(name) or [math.nan] * count)[-count:]


def entry_rows(history: History) -> dict[str, Html]:
    """What happened, the newest first."""
    latest = list(history.entries)[-SHOWN:]
    return {f"entry-{entry.number}": _entry(entry) for entry in reversed(latest)}


def _entry(entry: Entry) -> Html:
    told = entry.told
    where = _processes(sorted(entry.processes))
    head = joined(
        (
            at(entry.at),
            " ",
            h("span", told.grade.value, class_=f"state {told.grade.value}"),
            " ",
            h("b", told.subject or ("the fleet" if told.process is not None else "the program")),
            f" {told.sentence}",
            h("span", f" {times(entry.times)}", class_="times") if entry.times > 1 else None,
            h("span", f" {where}", class_="quiet") if where else None,
        )
    )
    detail = h("div", told.detail, class_="detail") if told.detail else None
    stack = None
    if told.stack:
        stack = h("details", h("summary", "stack"), h("pre", told.stack, tabindex=0, aria_label="stack"))
    return h("li", head, detail, stack, id=f"entry-{entry.number}")


def _processes(numbers: Sequence[int]) -> str:
    if not numbers:
        return ""
    return f"process {numbers[0]}" if len(numbers) == 1 else f"processes {', '.join(str(one) for one in numbers)}"


def certificate_rows(certificates: Iterable[CertificateDocument]) -> dict[str, Html]:
    """What became of the messages of processes that have ended, the newest first."""
    rows = {}
    for one in certificates:
        key = f"certificate-{one['began_at']:.3f}-{one['ended_at']:.3f}"
        rows[key] = _certificate(key, one)
    return dict(reversed(rows.items()))


def _certificate(key: str, one: CertificateDocument) -> Html:
    sums = {name: sum(queue[name] for queue in one["queues"].values()) for name in COUNTED}
    what = " + ".join(f"{number(count)} {name.replace('_', '-')}" for name, count in sums.items() if count) or "nothing"
    received = sum(queue["received"] for queue in one["queues"].values())
    balanced = (
        h("span", "balanced", class_="state good") if one["balanced"] else h("span", "MISSING", class_="state bad")
    )
    cold = h("span", "cold", class_="state warn") if one["cold"] else h("span", "drained", class_="state good")
    return h("li", at(one["ended_at"]), " ", cold, " ", balanced, f" {number(received)} received = {what}", id=key)


COUNTED: Final[tuple[Literal["acked", "retried", "dead_lettered", "returned", "unknown"], ...]] = (
    *("acked", "retried", "dead_lettered", "returned", "unknown"),
)
