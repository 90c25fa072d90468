"""Statuses as a program would give them, of any size, with whatever names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kombu_actors.fleet.status import ProcessState, ProcessStatus, Status

NOW = 1_800_000_000.0


def node(path: str, state: str = "ready", children: Sequence[dict[str, Any]] = (), **more: Any) -> dict[str, Any]:
    """A node of a tree, as ``ChildView.to_dict``."""
    return {
        "id": path.rpartition("/")[2] or "shop",
        "path": path,
        "state": state,
        "epoch": 1,
        "restarts": 0,
        "attempt": 0,
        "next_attempt_in": None,
        "last_failure": None,
        "degraded": None,
        "mailbox": None,
        "budget_left": 5 if children else None,
        "strategy": "one_for_one" if children else None,
        "children": list(children),
        **more,
    }


def consumer(queue: str, acked: int = 0, dead: int = 0, **more: Any) -> dict[str, Any]:
    """A ``ConsumerView``, as a dict."""
    count = dict.fromkeys(("received", "acked", "retried", "returned", "unknown", "snoozed", "unclaimed"), 0)
    return {
        "queue": queue,
        "path": f"work/consumers/{queue}",
        "paused": False,
        "narrow": False,
        "concurrency": 4,
        "slots": [],
        "lanes": [],
        "stuck": [],
        "retrying": 0,
        "count": {**count, "acked": acked, "dead_lettered": dead, "received": acked + dead},
        **more,
    }


def slot(id: str, age: float = 1.0) -> dict[str, Any]:
    """A ``SlotView``, as a dict."""
    return {"number": 0, "message_id": id, "attempt": 2, "age": age, "size": 1}


def view(consumers: Sequence[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """A ``FleetView``, as a dict."""
    actors = [node(one["path"]) for one in consumers]
    tree = node("", children=[node("consuming"), node("work", children=[node("work/consumers", children=actors)])])
    return {
        "fleet": "shop",
        "stopping": False,
        "tree": tree,
        "connections": {},
        "consumers": list(consumers),
        "jobs": [],
        **more,
    }


def status(*views: dict[str, Any] | None, at: float = NOW, **more: Any) -> Status:
    """A program of so many processes."""
    processes = tuple(
        ProcessStatus(
            **{"number": number, "pid": 100 + number, "generation": 1, "state": ProcessState.READY, "since": NOW - 60,
            "rss": 50_000_000, "fleet": one, **more}
        )
        for number, one in enumerate(views, 1)
    )  # fmt: skip
    reasons = tuple(f"process {one.number}: {one.why}" for one in processes if one.why)
    state = processes[0].state if processes else ProcessState.STARTING
    return Status(
        fleet="shop", version="1", host="here", pid=1, began_at=NOW - 60, at=at, state=state, reasons=reasons,
        processes=processes,
    )  # fmt: skip
