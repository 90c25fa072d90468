"""The handlers: how long they take, what is in flight, what is stuck, which lanes wait.  Pure."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from ...fleet.totals import CALL_BOUNDS, MeasureView, quantile
from .look import Look
from .markup import Html, cut, h, id_of
from .queues import NAME_MAX, Queue
from .words import NOTHING, age, countdown, duration, number

__all__ = ["handler_rows"]

SHOWN = 3
"""Calls in flight, and lanes, that are listed: the oldest ones say what is wrong."""
ID_MAX = 60
"""Characters of a message's id, and of a lane's key."""


def handler_rows(queues: Iterable[Queue], look: Look) -> dict[str, Html]:
    """A row for each queue that a process consumes."""
    return {id_of("handler", queue.name): _row(queue, look) for queue in queues if queue.consumers}


def _row(queue: Queue, look: Look) -> Html:
    calls = _calls(queue)
    busy = sum(len(one["slots"]) for _, _, one in queue.consumers)
    slots = sum(one["concurrency"] for _, _, one in queue.consumers)
    bar = h("meter", f"{busy} of {slots}", value=busy, min=0, max=slots, aria_label=f"calls at work: {busy} of {slots}")
    return h(
        "tr",
        h("th", cut(queue.name, NAME_MAX), scope="row"),
        h("td", bar, h("span", f"{number(busy)} of {number(slots)}", class_="quiet"), data_label="Calls"),
        h("td", _took(calls, 0.5), class_="figure", data_label="p50"),
        h("td", _took(calls, 0.95), class_="figure", data_label="p95"),
        h("td", _in_flight(queue, look), data_label="In flight, oldest first"),
        h("td", _lanes(queue, look), data_label="Lanes that wait"),
        h("td", _stuck(queue, look), data_label="Stuck"),
        id=id_of("handler", queue.name),
    )


def _took(calls: MeasureView | None, share: float) -> str:
    seconds = None if calls is None else quantile(calls.counts, CALL_BOUNDS, share)
    return NOTHING if seconds is None else duration(seconds)


def _calls(queue: Queue) -> MeasureView | None:
    """How long they took, in all processes."""
    calls: MeasureView | None = None
    for _, _, one in queue.consumers:
        more = MeasureView.of(one.get("calls"))
        if more is not None:
            calls = more if calls is None else calls + more
    return calls


def _in_flight(queue: Queue, look: Look) -> Html | None:
    calls = [
        (at - slot["age"], process, slot) for process, at, one in queue.consumers for slot in one["slots"]
    ]  # fmt: skip
    if not calls:
        return None
    calls.sort(key=lambda call: (call[0], call[1], call[2]["number"]))
    several = len({process for process, _, _ in queue.consumers}) > 1
    items = []
    for began, process, slot in islice(calls, SHOWN):
        moment = look.steady(f"slot/{queue.name}/{process}/{slot['message_id']}", began)
        more = [f" attempt {slot['attempt']}"] if slot["attempt"] > 1 else []
        more += [f" batch of {slot['size']}"] if slot["size"] > 1 else []
        more += [f" process {process}"] if several else []
        items.append(h("li", h("code", cut(slot["message_id"], ID_MAX)), " ", age(moment), ",".join(more)))
    if len(calls) > SHOWN:
        items.append(h("li", f"and {number(len(calls) - SHOWN)} more", class_="quiet"))
    return h("ul", *items, class_="calls flight")


def _lanes(queue: Queue, look: Look) -> Html | None:
    lanes = [(process, at, lane) for process, at, one in queue.consumers for lane in one["lanes"]]
    if not lanes:
        return None
    lanes.sort(key=lambda lane: (-lane[2]["waiting"], lane[2]["key"]))
    items = []
    for process, at, lane in islice(lanes, SHOWN):
        parts: list[object] = [h("code", cut(lane["key"], ID_MAX)), f" {number(lane['waiting'])} waiting"]
        if lane["held_for"] is not None:
            moment = look.steady(f"lane/{queue.name}/{process}/{lane['key']}", at + lane["held_for"])
            parts += [", held, tried again ", countdown(moment)]
        items.append(h("li", *parts))
    if len(lanes) > SHOWN:
        items.append(h("li", f"and {number(len(lanes) - SHOWN)} more", class_="quiet"))
    return h("ul", *items, class_="calls")


def _stuck(queue: Queue, look: Look) -> Html | None:
    stuck = [(process, at, one) for process, at, view in queue.consumers for one in view["stuck"]]
    if not stuck:
        return None
    items = []
    for process, at, one in islice(stuck, SHOWN):
        moment = look.steady(f"stuck/{queue.name}/{process}/{one['message_id']}", at - one["age"])
        head = h("summary", h("code", cut(one["message_id"], ID_MAX)), " ", age(moment))
        stack = "\n".join(one["stack"])
        items.append(h("li", h("details", head, h("pre", stack, tabindex=0, aria_label="stack"))))
    return h("ul", *items, class_="calls bad-text")
