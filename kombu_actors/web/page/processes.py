"""The processes, and the verdict on all of them.  Pure."""

from __future__ import annotations

import re

from ...fleet.status import ProcessState, ProcessStatus, Status
from .history import History
from .look import Look
from .markup import Html, cut, h, joined, text
from .sparkline import sparkline
from .words import NOTHING, age, countdown, duration, number, size

__all__ = ["process_rows", "verdict_rows"]

REASONS_SHOWN = 3
"""Reasons that are read at once; the others are behind them."""
REASON_MAX = 400
SILENT = 3.0
"""Seconds without a beat from which on it is told."""
_BETWEEN = re.compile(r"; (?=\S+ is [a-z])")
"""Where a reason ends and the next begins."""
_PASSED_ON = re.compile(r"RestartLimitExceeded: .*; the last straw: child .+? failed with ")
"""What a failure is wrapped in that a supervisor passes on."""
_AGAIN = re.compile(r"; started again in ([\d.]+) s")
GRADES = {
    ProcessState.READY: "good",
    ProcessState.STARTING: "info",
    ProcessState.DRAINING: "info",
    ProcessState.DEGRADED: "warn",
    ProcessState.BACKING_OFF: "warn",
    ProcessState.GONE: "bad",
}


def verdict_rows(status: Status, look: Look) -> dict[str, Html]:
    """One line that says how it stands, and why."""
    ready = sum(one.state is ProcessState.READY for one in status.processes)
    count = len(status.processes)
    if status.ready:
        words = "Every consumer consumes."
    elif status.state is ProcessState.DRAINING:
        words = "It takes no more messages."
    elif status.state is ProcessState.STARTING:
        words = "It is being started."
    else:
        words = "Something of it does not work."
    if count > 1:
        words += f" {number(ready)} of {number(count)} processes are ready."
    line = h(
        "p", h("strong", status.state.value, class_=f"verdict {GRADES[status.state]}"), " ", words, id="verdict-line"
    )
    reasons = [_ticking(one, number, look) for number, one in enumerate(_reasons(status))]
    why = h("div", id="why")
    if reasons:
        shown = h("ul", *[h("li", reason) for reason in reasons[:REASONS_SHOWN]])
        rest = reasons[REASONS_SHOWN:]
        more = h("details", h("summary", f"{len(rest)} more reasons"), h("ul", *[h("li", one) for one in rest]))
        why = h("div", shown, more if rest else None, id="why")
    return {"verdict-line": line, "why": why}


def _reasons(status: Status) -> list[str]:
    """One by one: the first of each process, then the second ones, ..."""
    each = [
        (place, one.number, cut(_PASSED_ON.sub("", reason), REASON_MAX))
        for one in status.processes
        for place, reason in enumerate(_BETWEEN.split(one.why or ""))
        if reason
    ]
    several = len(status.processes) > 1
    return [f"process {number}: {reason}" if several else reason for _, number, reason in sorted(each)]


def _ticking(reason: str, number: int, look: Look) -> Html:
    """The same with the wait, if it has one, counted in the browser."""
    found = _AGAIN.search(reason)
    if found is None:
        return text(reason)
    moment = look.steady(f"reason/{number}", look.at + float(found[1]))
    return joined((reason[: found.start()], "; starts again ", countdown(moment), reason[found.end() :]))


def process_rows(status: Status, history: History, look: Look) -> dict[str, Html]:
    """A row for each process in which handlers run."""
    return {f"process-{one.number}": _row(one, history, look) for one in status.processes}


def _row(one: ProcessStatus, history: History, look: Look) -> Html:
    memory = sparkline(history.hour(f"rss/{one.number}"), f"memory of process {one.number} in the last hour")
    lag = sparkline(history.hour(f"lag/{one.number}"), f"loop lag of process {one.number} in the last hour")
    beat = f"{duration(one.beat_age)} ago" if one.beat_age >= SILENT else "now"
    return h(
        "tr",
        h("th", f"process {one.number}", scope="row"),
        h("td", NOTHING if one.pid is None else one.pid, class_="figure", data_label="pid"),
        h("td", one.generation, class_="figure", data_label="Generation"),
        h("td", _state(one, look), data_label="State"),
        h("td", age(one.since), class_="figure", data_label="For"),
        h("td", size(one.rss), " ", memory, class_="figure", data_label="Memory (RSS)"),
        h("td", duration(one.loop_lag), " ", lag, class_="figure", data_label="Loop lag"),
        h("td", beat, class_="figure", data_label="Heard of"),
        id=f"process-{one.number}",
    )


def _state(one: ProcessStatus, look: Look) -> Html:
    parts: list[object] = [h("span", one.state.value, class_=f"state {GRADES[one.state]}")]
    if one.next_at is not None:
        moment = look.steady(f"process/{one.number}", one.next_at)
        parts += [" ", h("span", "starts again ", countdown(moment), class_="wait")]
    return joined(parts)
