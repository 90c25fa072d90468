"""Answers as text for people: columns, durations, sizes.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from ..fleet.documents import ChildDocument, StatusDocument

__all__ = ["age", "columns", "in_hand", "memory", "queues_of", "tree_lines"]


SUMS = ("consumers", "concurrency", "paused", "narrow", "in_hand")
COUNTED: Final[tuple[Literal["received", "acked", "retried", "dead_lettered", "returned"], ...]] = (
    *("received", "acked", "retried", "dead_lettered", "returned"),
)


def columns(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows below a header, as wide as they have to be; numbers to the right, the last column as it is."""
    lines = [[_cell(value) for value in row] for row in (header, *rows)]
    widths = [max(len(line[number]) for line in lines) for number in range(len(header))]
    numeric = [bool(rows) and all(isinstance(row[number], int | None) for row in rows) for number in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in lines
    )


def _cell(value: object) -> str:
    return "-" if value is None else str(value)


def age(seconds: float) -> str:
    """``0.3 s``, ``12 s``, ``5 min``, ``3 h``, ``2 d``."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def memory(size: int) -> str:
    """Bytes as ``85 MiB``."""
    return f"{size / 2**20:.0f} MiB"


def queues_of(status: StatusDocument) -> dict[str, dict[str, int]]:
    """By the queue's name, over all processes: counts, messages in hand, and who is paused."""
    queues: dict[str, dict[str, int]] = {}
    for process in status["processes"]:
        for consumer in () if process["fleet"] is None else process["fleet"]["consumers"]:
            queue = queues.setdefault(consumer["queue"], dict.fromkeys((*SUMS, *COUNTED), 0))
            queue["consumers"] += 1
            queue["concurrency"] += consumer["concurrency"]
            queue["paused"] += consumer["paused"]
            queue["narrow"] += consumer["narrow"]
            queue["in_hand"] += sum(slot["size"] for slot in consumer["slots"])
            for name in COUNTED:
                queue[name] += consumer["count"][name]
    return queues


def in_hand(status: StatusDocument) -> list[tuple[int, str, str, int, float, bool]]:
    """Process, queue, message, attempt, age and whether it is stuck, of all messages at work, the oldest first."""
    found = []
    for process in status["processes"]:
        for consumer in () if process["fleet"] is None else process["fleet"]["consumers"]:
            for slot in consumer["slots"]:
                found.append(
                    (process["number"], consumer["queue"], slot["message_id"], slot["attempt"], slot["age"], False)
                )
            for stuck in consumer["stuck"]:
                found.append((process["number"], consumer["queue"], stuck["message_id"], 0, stuck["age"], True))
    return sorted(found, key=lambda one: -one[4])


def tree_lines(node: ChildDocument, depth: int = 0) -> Iterator[tuple[int, str, str]]:
    """Each node of a tree: its depth, its id, and what is to be said of it."""
    said = [node["state"].replace("_", " ")]
    if node["epoch"] > 1:
        said.append(f"epoch {node['epoch']}")
    if node["restarts"]:
        said.append(f"{node['restarts']} restart{'s' * (node['restarts'] != 1)}")
    if node["budget_left"] is not None:
        said.append(f"{node['budget_left']} more allowed")
    if node["next_attempt_in"] is not None:
        said.append(f"again in {age(node['next_attempt_in'])}")
    text = ", ".join(said)
    if node["degraded"] is not None:
        text += f": {node['degraded']}"
    elif node["last_failure"] is not None and (node["restarts"] or node["next_attempt_in"] is not None):
        text += f"; last failure {node['last_failure']['type']}: {node['last_failure']['text']}"
    yield depth, node["id"], text
    for child in node["children"]:
        yield from tree_lines(child, depth + 1)
