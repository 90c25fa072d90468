"""``/metrics``: from a program's status to what Prometheus reads; pure, but for the route.

Counters and histograms are those of ``Status.totals``, which never go back; gauges are of the processes that serve.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..fleet.depths import FleetDepths
from ..fleet.documents import ChildDocument, ConsumerDocument
from ..fleet.status import ProcessState, Status
from ..fleet.totals import CALL_BOUNDS, CONFIRM_BOUNDS, WAIT_BOUNDS, QueueTotals
from ..hosting.depths import DepthSampler
from .exposition import CONTENT_TYPE, Family, exposition
from .observed import Observed

__all__ = ["metrics", "metrics_route"]


def metrics_route(program: Observed, depths: DepthSampler | None) -> Route:
    """``/metrics``."""

    async def get(request: Request) -> Response:
        waiting = None if depths is None else await depths.get()
        return Response(exposition(metrics(program.status(), waiting)), headers={"content-type": CONTENT_TYPE})

    return Route("/metrics", get)


def metrics(status: Status, depths: FleetDepths | None) -> Sequence[Family]:
    """All that is known; ``docs/observing.md`` has the list."""
    return [
        *_program(status),
        *_messages(status.totals.queues),
        *_times(status),
        *_consumers(status),
        *_actors(status),
        *([] if depths is None else _depths(depths)),
    ]


def _program(status: Status) -> Iterator[Family]:
    build = Family("build_info", "gauge", "Which program this is; always 1.")
    build.add(1, fleet=status.fleet, version=status.version, python=platform.python_version())
    yield build
    began = Family("start_time_seconds", "gauge", "When the program began, seconds since 1970.")
    began.add(status.began_at)
    yield began
    ready = Family("ready", "gauge", "1 while every consumer of every process consumes.")
    ready.add(status.ready)
    yield ready
    states = Counter({state.value: 0 for state in ProcessState})
    states.update(process.state.value for process in status.processes)
    processes = Family("processes", "gauge", "Processes by what they are doing.")
    processes.add_all(states, "state")
    yield processes
    deaths = Family("process_deaths_total", "counter", "Processes that ended and had not been told to.")
    deaths.add(status.totals.deaths)
    yield deaths
    memory = Family("process_resident_memory_bytes", "gauge", "Memory that a process keeps.")
    lag = Family("process_loop_lag_seconds", "gauge", "How long a turn of its event loop took lately, at most.")
    beat = Family("process_beat_age_seconds", "gauge", "Since it was heard of last.")
    for process in status.processes:
        if process.pid is not None:
            memory.add(process.rss, process=str(process.number))
            lag.add(process.loop_lag, process=str(process.number))
            beat.add(process.beat_age, process=str(process.number))
    yield from (memory, lag, beat)


def _messages(queues: Mapping[str, QueueTotals]) -> Iterator[Family]:
    received = Family("messages_received_total", "counter", "Messages taken in.")
    processed = Family("messages_processed_total", "counter", "What became of messages.")
    retries = Family("retries_total", "counter", "Failed attempts after which the message is tried again.")
    dead = Family("dead_letters_total", "counter", "Messages that were given up, by why.")
    unclaimed = Family("replies_unclaimed_total", "counter", "Replies that nobody waited for any more.")
    for queue, totals in queues.items():
        count = totals.count
        failed = count.retried - count.snoozed
        outcomes = {
            "acked": count.acked,
            "retried": failed,
            "snoozed": count.snoozed,
            "dead_lettered": count.dead_lettered,
            "returned": count.returned,
            "unknown": count.unknown,
        }
        causes = {
            "rejected": count.rejected,
            "condemned": count.condemned,
            "undecodable": count.undecodable,
            "given_up": count.given_up,
        }
        received.add(count.received, queue=queue)
        processed.add_all(outcomes, "outcome", queue=queue)
        retries.add(failed, queue=queue)
        dead.add_all({"failed": count.dead_lettered - sum(causes.values()), **causes}, "reason", queue=queue)
        unclaimed.add(count.unclaimed, queue=queue)
    yield from (received, processed, retries, dead, unclaimed)


def _times(status: Status) -> Iterator[Family]:
    calls = Family("process_duration_seconds", "histogram", "How long calls of handlers took, failed ones included.")
    waits = Family(
        "queue_wait_seconds",
        "histogram",
        "From a message's timestamp to the first call of its handler.",
    )
    for queue, totals in status.totals.queues.items():
        calls.observe(totals.calls, CALL_BOUNDS, queue=queue)
        waits.observe(totals.waits, WAIT_BOUNDS, queue=queue)
    confirms = Family("publish_confirm_seconds", "histogram", "How long the broker's confirms took.")
    confirms.observe(status.totals.confirms, CONFIRM_BOUNDS)
    yield from (calls, waits, confirms)


def _consumers(status: Status) -> Iterator[Family]:
    queues: dict[str, list[ConsumerDocument]] = {}
    for process in status.processes:
        for consumer in () if process.fleet is None else process.fleet["consumers"]:
            queues.setdefault(consumer["queue"], []).append(consumer)
    flight = Family("messages_in_flight", "gauge", "Messages that handlers are at work on.")
    confirming = Family("messages_confirming", "gauge", "Retries, dead letters and replies without a confirm yet.")
    blocked = Family("lanes_blocked", "gauge", "Lanes whose messages wait for one that is tried again.")
    stuck = Family("handlers_stuck", "gauge", "Plain functions that were cancelled and go on in their threads.")
    paused = Family("consumer_paused", "gauge", "1 while a queue is paused.")
    deaf = Family("consumer_deaf_seconds", "gauge", "For how long nothing came though messages wait, at most.")
    progress = Family("last_progress_timestamp_seconds", "gauge", "When a handler was done last, seconds since 1970.")
    for queue, consumers in queues.items():
        flight.add(sum(slot["size"] for one in consumers for slot in one["slots"]), queue=queue)
        confirming.add(sum(one["retrying"] for one in consumers), queue=queue)
        blocked.add(sum(lane["held_for"] is not None for one in consumers for lane in one["lanes"]), queue=queue)
        stuck.add(sum(len(one["stuck"]) for one in consumers), queue=queue)
        paused.add(any(one["paused"] for one in consumers), queue=queue)
        deaf.add(max(one["deaf_for"] for one in consumers), queue=queue)
        done = [one["progress_at"] for one in consumers if one["progress_at"] is not None]
        progress.add(max(done, default=None), queue=queue)
    yield from (flight, confirming, blocked, stuck, paused, deaf, progress)


def _actors(status: Status) -> Iterator[Family]:
    restarts = Family("actor_restarts_total", "counter", "Actors that went down and were started again.")
    restarts.add_all(status.totals.restarts, "part")
    yield restarts
    states: Counter[str] = Counter()
    budgets = Family("restart_budget_left", "gauge", "Restarts that a supervisor may still make in its window.")
    for process, path, node in _nodes(status):
        if node["strategy"] is None:
            states[node["state"]] += 1
        elif process is None or not path.startswith(("publishing/", "consuming/")):  # channels come and go
            budgets.add(node["budget_left"], process=str(process or ""), supervisor=path)
    actors = Family("actors", "gauge", "Actors by state, those of connections included.")
    actors.add_all(states, "state")
    yield from (actors, budgets)


def _nodes(status: Status) -> Iterator[tuple[int | None, str, ChildDocument]]:
    """Each node of each tree: its process (None: the parent), its path there, and itself."""
    if status.tree is not None:
        for node in _below(status.tree):
            yield None, node["path"], node
    for process in status.processes:
        if process.fleet is not None:
            for node in _below(process.fleet["tree"]):
                yield process.number, node["path"], node
            for above, tree in process.fleet["connections"].items():
                for node in _below(tree):
                    yield process.number, "/".join(filter(None, [above, node["path"]])), node


def _below(node: ChildDocument) -> Iterator[ChildDocument]:
    yield node
    for child in node["children"]:
        yield from _below(child)


def _depths(depths: FleetDepths) -> Iterator[Family]:
    ready = Family("queue_messages", "gauge", "Messages that wait in a queue.")
    consumers = Family("queue_consumers", "gauge", "Who consumes a queue, in all programs.")
    dead = Family("dead_letter_messages", "gauge", "Messages in the dead letters of a queue.")
    for one in depths.queues:
        ready.add(one.ready, queue=one.queue)
        consumers.add(one.consumers, queue=one.queue)
        dead.add(one.dead, queue=one.queue)
    delayed = Family("delayed_messages", "gauge", "Messages that wait for their next attempt, by the seconds.")
    for delay in depths.delays:
        delayed.add(delay.waiting, delay=f"{delay.seconds:g}")
    yield from (ready, consumers, dead, delayed)
