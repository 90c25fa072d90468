"""A frame of ``top``, from a status and the one before it.  Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .inspecting import trees_of
from .tables import age, in_hand, memory, queues_of, tree_lines

if TYPE_CHECKING:
    from ..control.answers import Frame

__all__ = ["frame", "rates"]

IN_HAND_MAX = 10
"""Messages in hand that are shown, the oldest: those that somebody waits for."""
SPARE = 12
"""Lines that headings take."""
_STYLES = {
    "ready": "green",
    "starting": "yellow",
    "draining": "yellow",
    "degraded": "red",
    "backing off": "red",
    "failed": "red",
    "gone": "red",
}


def frame(before: Frame | None, now: Frame, height: int | None) -> RenderableType:
    """All of it, in at most ``height`` lines; None: as many as there are."""
    parts: list[RenderableType] = [_head(now), _processes(now), _queues(before, now)]
    hand = in_hand(now)
    if hand:
        parts.append(_in_hand(hand))
    used = SPARE + len(now["processes"]) + len(queues_of(now)) + min(len(hand), IN_HAND_MAX)
    parts.append(_trees(now, None if height is None else max(height - used, 3)))
    return Group(*parts)


def rates(before: Frame | None, now: Frame, name: str) -> dict[str, float]:
    """By queue: how many a second since the frame before; a process that was replaced counts from 0 anew."""
    if before is None or now["at"] <= before["at"]:
        return {}
    old, new = queues_of(before), queues_of(now)
    passed = now["at"] - before["at"]
    return {queue: max(new[queue][name] - old[queue][name], 0) / passed for queue in new if queue in old}


def _head(now: Frame) -> Text:
    text = Text()
    text.append(f"fleet {now['fleet']!r} is ")
    text.append(now["state"].upper(), style=f"bold {_STYLES.get(now['state'], 'red')}")
    text.append(f"  {now['host']} pid {now['pid']}  up {age(now['at'] - now['began_at'])}")
    for reason in now["reasons"]:
        text.append(f"\n  {reason}", style="red")
    return text


def _table(*heads: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", title_justify="left")
    for head in heads:
        right = head not in ("queue", "state", "message", "why", "")
        table.add_column(head, justify="right" if right else "left", no_wrap=head != "why", overflow="ellipsis")
    return table


def _processes(now: Frame) -> Table:
    table = _table("process", "pid", "state", "generation", "memory", "loop lag", "beat", "again in")
    for one in now["processes"]:
        again = None if one["next_at"] is None else max(one["next_at"] - now["at"], 0.0)
        table.add_row(
            str(one["number"]),
            str(one["pid"] or "-"),
            Text(one["state"], style=_STYLES.get(one["state"], "red")),
            str(one["generation"]),
            memory(one["rss"]),
            f"{one['loop_lag'] * 1000:.0f} ms",
            age(one["beat_age"]),
            "-" if again is None else age(again),
        )
    return table


def _queues(before: Frame | None, now: Frame) -> RenderableType:
    table = _table(
        "queue", "", "ready", "in hand", "slots", "received/s", "acked/s", "retried", "dead", "dead-lettered"
    )
    depths = {} if now["depths"] is None else {one["queue"]: one for one in now["depths"]["queues"]}
    received, acked = rates(before, now, "received"), rates(before, now, "acked")
    for name, queue in queues_of(now).items():
        depth = depths.get(name)
        how = "paused" if queue["paused"] == queue["consumers"] else "narrow" if queue["narrow"] else ""
        table.add_row(
            name,
            Text(how, style="yellow"),
            _number(None if depth is None else depth["ready"]),
            str(queue["in_hand"]),
            str(queue["concurrency"]),
            f"{received[name]:.1f}" if name in received else "-",
            f"{acked[name]:.1f}" if name in acked else "-",
            str(queue["retried"]),
            _number(None if depth is None else depth["dead"]),
            str(queue["dead_lettered"]),
        )
    lines: list[RenderableType] = [Text(""), table]
    if now["depths"] is None and now["why_no_depths"] is not None:
        lines.append(Text(f"  no depths: {now['why_no_depths']}", style="red"))
    elif now["depths"] is not None and now["depths"]["delays"]:
        waiting = [f"{age(one['seconds'])}: {_number(one['waiting'])}" for one in now["depths"]["delays"]]
        lines.append(Text(f"  retrying by delay  {'  '.join(waiting)}"))
    return Group(*lines)


def _in_hand(hand: list[tuple[int, str, str, int, float, bool]]) -> RenderableType:
    table = _table("age", "queue", "message", "attempt", "process")
    for process, queue, message, attempt, seconds, stuck in hand[:IN_HAND_MAX]:
        what = Text("STUCK", style="bold red") if stuck else Text(str(attempt))
        table.add_row(age(seconds), queue, message, what, str(process))
    title = f"\nin hand, the oldest of {len(hand)}" if len(hand) > IN_HAND_MAX else "\nin hand"
    return Group(Text(title, style="bold"), table)


def _trees(now: Frame, height: int | None) -> Text:
    """The trees; those that are not well first, where not all fit."""
    lines = list(_tree_lines(now))
    if height is not None and len(lines) > height:
        left = len(lines) - height
        lines = sorted(lines, key=lambda line: line[2])[:height]
        text = Text(f"\ntree ({left} more: `kombu-actors inspect tree`)", style="bold")
    else:
        text = Text("\ntree", style="bold")
    for indent, words, well in lines:
        text.append(f"\n{'  ' * indent}{words}", style="not bold" if well else "not bold red")
    return text


def _tree_lines(now: Frame) -> Iterator[tuple[int, str, bool]]:
    for tree in trees_of(now):
        yield 0, "parent" if tree["process"] is None else f"process {tree['process']}", True
        roots = [] if tree["tree"] is None else [("", tree["tree"])]
        for path, root in [*roots, *tree["connections"].items()]:
            for depth, id, words in tree_lines(root):
                well = words.startswith(("ready", "completed"))
                if path and depth and well:
                    continue  # what a connection is made of is told when it isn't well
                yield depth + 1, f"{path if path and not depth else id}: {words}", well


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)
