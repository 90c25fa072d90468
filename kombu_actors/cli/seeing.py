"""``status``, ``health`` and ``events``."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from .asking import Asking, asks
from .options import option
from .probe import health as code_of
from .probe import verdict
from .tables import age, columns, memory, queues_of

if TYPE_CHECKING:
    from ..control.answers import EventAnswer, HealthAnswer, StatusAnswer

__all__ = ["events", "health", "status"]


@click.command()
@asks
def status(asking: Asking) -> None:
    """How a fleet that runs is: READY or why not, its processes, what became of its messages so far.

    The path of its control socket is shown, for --control.
    """
    found: StatusAnswer = asking.ask("status")
    asking.show(found, lambda: text_of(found))


@click.command()
@option("--live", is_flag=True, help="Only whether it answers: a broker that is down is nothing to restart it for.")
@asks
def health(asking: Asking, live: bool) -> None:
    """Whether a fleet is READY, for probes: exit code 0, 1 when it is not (and why), 69 when nobody answers."""
    found: HealthAnswer = asking.ask("health")
    asking.show(found, lambda: verdict(found))
    sys.exit(code_of(found, live=live))


@click.command()
@click.option("-n", "--count", type=click.IntRange(min=1), help="End after so many.")
@asks
def events(asking: Asking, count: int | None) -> None:
    """What happens from now on, a line each, until Ctrl-C or the fleet's end: failures, restarts, dead letters, ...

    With -j a JSON object a line.
    """
    shown = 0
    for event in asking.follow("events"):
        if event is None:
            continue
        if event["event"] == "listening":
            click.echo("listening; Ctrl-C ends it", err=True)
            continue
        click.echo(json.dumps(event, ensure_ascii=False) if asking.as_json else event_line(event))
        shown += 1
        if shown == count:
            break


def text_of(found: StatusAnswer) -> str:
    """A whole status for people."""
    about = (
        f"kombu-actors {found['version']} on {found['host']}, pid {found['pid']},"
        f" up {age(found['at'] - found['began_at'])}\ncontrol socket {found['control']}"
    )
    processes = [
        (
            one["number"],
            one["pid"],
            one["state"],
            one["generation"],
            memory(one["rss"]),
            f"{one['loop_lag'] * 1000:.0f} ms",
            age(found["at"] - one["since"]),
        )
        for one in found["processes"]
    ]
    queues = [
        (
            name,
            "paused" if queue["paused"] == queue["consumers"] else "narrow" if queue["narrow"] else "",
            queue["in_hand"],
            queue["received"],
            queue["acked"],
            queue["retried"],
            queue["dead_lettered"],
            queue["returned"],
        )
        for name, queue in queues_of(found).items()
    ]
    head = ("queue", "", "in hand", "received", "acked", "retried", "dead-lettered", "returned")
    return "\n\n".join(
        [
            verdict(found),
            about,
            columns(("process", "pid", "state", "generation", "memory", "loop lag", "since"), processes),
            *([columns(head, queues)] if queues else []),
        ]
    )


def event_line(event: EventAnswer) -> str:
    """One event for people."""
    from datetime import datetime

    known = {"event", "path", "at", "wall", "epoch", "attempt", "budget_left", "process", "stack", "history"}
    at = datetime.fromtimestamp(event["wall"]).strftime("%H:%M:%S.%f")[:-3]
    where = "" if event["process"] is None else f" [{event['process']}]"
    details = [f"{name}={_short(value)}" for name, value in event.items() if name not in known and value is not None]
    return " ".join([f"{at}{where}", event["event"].replace("_", " "), event["path"] or "(root)", *details])


def _short(value: object) -> str:
    if isinstance(value, dict) and {"type", "text"} <= set(value):
        return f"{value['type']}: {value['text']}"
    if isinstance(value, float):
        return f"{value:.3g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
