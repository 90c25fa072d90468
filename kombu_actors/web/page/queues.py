"""The queues: what waits, what is in hand, how fast it goes.  Pure."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from ...fleet.depths import FleetDepths, QueueDepth
from ...fleet.documents import ChildDocument, ConsumerDocument, FleetDocument
from ...fleet.status import ProcessState, Status
from .history import History
from .look import Look
from .markup import Html, cut, h, id_of
from .sparkline import sparkline
from .words import age, duration, number, rate

__all__ = ["Queue", "WELL", "delay_rows", "queue_rows", "queues_of"]

WELL = frozenset({"ready", "completed"})
"""States of actors that do what they are there for."""
NAME_MAX = 120
"""Characters of a queue's name in a table."""
WHY_MAX = 400


@attrs.define(kw_only=True)
class Queue:
    """One queue, in all processes."""

    name: str
    idle: int = 0
    """How many of its consumers get nothing: their process has no connection that consumes."""
    consumers: list[tuple[int, float, ConsumerDocument]] = attrs.field(factory=list)
    """The number of a process, when its view was true (seconds since 1970), and its ``ConsumerView`` as a dict."""
    depth: QueueDepth | None = None

    @property
    def in_hand(self) -> int:
        """Messages whose handlers have been called."""
        return sum(slot["size"] for _, _, one in self.consumers for slot in one["slots"])

    @property
    def in_lanes(self) -> int:
        """Messages that are here and wait for others with their key."""
        return sum(lane["waiting"] for _, _, one in self.consumers for lane in one["lanes"])

    @property
    def oldest(self) -> float | None:
        """When the oldest handler at work was called, seconds since 1970."""
        return min((at - slot["age"] for _, at, one in self.consumers for slot in one["slots"]), default=None)

    @property
    def paused(self) -> int:
        """How many of its consumers are paused."""
        return sum(one["paused"] for _, _, one in self.consumers)


def queues_of(status: Status, depths: FleetDepths | None) -> list[Queue]:
    """All queues that a process consumes or the broker was asked for, by name."""
    queues: dict[str, Queue] = {}
    for process in status.processes:
        connected = process.state is ProcessState.READY or _consumes(process.fleet)
        for one in () if process.fleet is None else process.fleet["consumers"]:
            queue = queues.setdefault(one["queue"], Queue(name=one["queue"]))
            queue.consumers.append((process.number, status.at - process.beat_age, one))
            queue.idle += not connected
    for depth in () if depths is None else depths.queues:
        queues.setdefault(depth.queue, Queue(name=depth.queue)).depth = depth
    return [queues[name] for name in sorted(queues)]


def _consumes(view: FleetDocument | None) -> bool:
    """Whether each part of the connection that consumes works."""
    connection = None if view is None else view["connections"].get("consuming")
    return connection is not None and _works(connection)


def _works(node: ChildDocument) -> bool:
    return node["state"] in WELL and all(_works(child) for child in node["children"])


def queue_rows(queues: Iterable[Queue], history: History, look: Look) -> dict[str, Html]:
    """A row for each."""
    return {id_of("queue", queue.name): _row(queue, history, look) for queue in queues}


def _row(queue: Queue, history: History, look: Look) -> Html:
    depth, oldest = queue.depth, queue.oldest
    through = history.queues.get(queue.name)
    handled, failed = (0.0, 0.0) if through is None else through.rates()
    picture = sparkline(history.hour(f"handled/{queue.name}"), f"{queue.name}: messages handled in the last hour")
    in_hand = number(queue.in_hand) if not queue.in_lanes else f"{number(queue.in_hand)} + {number(queue.in_lanes)}"
    cells = (
        h("th", cut(queue.name, NAME_MAX), scope="row", title=queue.name if len(queue.name) > NAME_MAX else None),
        h("td", _state(queue), data_label="State"),
        h("td", _count(None if depth is None else depth.ready), class_="figure", data_label="Ready"),
        h("td", in_hand, class_="figure", data_label="In hand"),
        h(
            "td", None if oldest is None else age(look.steady(f"oldest/{queue.name}", oldest)),
            class_="figure", data_label="Oldest",
        ),
        h("td", rate(handled), " ", picture, class_="figure", data_label="Handled/s"),
        h("td", rate(failed), class_="figure", data_label="Failed/s"),
        h("td", _delays(depth), data_label="Retried after"),
        h("td", _count(None if depth is None else depth.dead), class_="figure", data_label="Dead"),
        h("td", _steering(queue)) if look.actions else None,
    )  # fmt: skip
    return h("tr", *cells, id=id_of("queue", queue.name))


def _count(count: int | None) -> str:
    return "?" if count is None else number(count)


def _state(queue: Queue) -> Html:
    paused, all_of_them = queue.paused, len(queue.consumers)
    if not all_of_them:
        return h("span", "nobody consumes", class_="state warn")
    if paused:
        words = "paused" if paused == all_of_them else f"paused in {paused} of {all_of_them}"
        return h("span", words, class_="state info")
    if any(one["narrow"] for _, _, one in queue.consumers):
        return h("span", "one at a time", class_="state warn", title="fail_fast: too many failures in a row")
    deaf = max((one.get("deaf_for", 0.0) for _, _, one in queue.consumers), default=0.0)
    if deaf:
        return h("span", "deaf", class_="state bad", title=f"messages wait, and none has come for {duration(deaf)}")
    if queue.idle:
        words = "waits for the broker" if queue.idle == all_of_them else f"{queue.idle} of {all_of_them} wait"
        return h("span", words, class_="state warn")
    return h("span", "consuming", class_="state good")


def _delays(depth: QueueDepth | None) -> str | None:
    return None if depth is None or not depth.delays else ", ".join(duration(delay) for delay in depth.delays)


def _steering(queue: Queue) -> Html | None:
    if not queue.consumers:
        return None
    verb = "resume" if queue.paused else "pause"
    return h(
        "button", verb.capitalize(), type="button", class_="act", data_action=verb, data_queue=queue.name,
        aria_label=f"{verb.capitalize()} {queue.name}",
    )  # fmt: skip


def delay_rows(depths: FleetDepths | None, unasked: str | None) -> dict[str, Html]:
    """How many messages wait in which delay; or why the broker can't be asked."""
    if unasked is not None:
        words = f"What waits at the broker is not known: {cut(unasked, WHY_MAX)}"
        return {"delays": h("div", h("p", words, class_="warn-text"), id="delays")}
    if depths is None or not depths.delays:
        return {}
    items = [
        h("li", h("b", _count(delay.waiting)), f" in {duration(delay.seconds)}")
        for delay in depths.delays
        if delay.waiting
    ]
    said = h("ul", *items, class_="chips") if items else h("p", "No message waits for a retry.", class_="quiet")
    return {"delays": h("div", h("h3", "Waiting for their next attempt"), said, id="delays")}
