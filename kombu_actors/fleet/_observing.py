"""From running consumers to views of them."""

from __future__ import annotations

import time

from ._consumer import FleetConsumer
from ._lane_crew import LaneCrew
from .certificate import QueueCount
from .views import ConsumerView, HeldLane, SlotView, StuckView

TEXT_MAX = 200
"""Characters of a key: it is the user's."""


def look_at(consumer: FleetConsumer, path: str, now: float) -> ConsumerView:
    """A consumer at the moment ``now``, in seconds of trio's clock."""
    crew = consumer.crew
    slots = crew.slots if crew is not None else []
    watch = consumer.watch
    step = None if watch is None else watch.step
    lanes = crew.lanes.view() if isinstance(crew, LaneCrew) else ()
    return ConsumerView(
        queue=consumer.plan.name,
        path=path,
        paused=consumer.paused,
        narrow=consumer.gate.narrow,
        concurrency=consumer.plan.concurrency,
        slots=tuple(
            SlotView(
                number=slot.number,
                message_id=slot.message.id,
                attempt=slot.message.attempt,
                age=time.perf_counter() - slot.since,
                size=slot.size,
            )
            for slot in slots
            if slot.message is not None
        ),
        deaf_for=now - watch.heard_at if step is not None and watch is not None else 0.0,
        deaf_step=None if step is None else step.value,
        lanes=tuple(
            HeldLane(
                key=f"{lane.key!r:.{TEXT_MAX}}",
                waiting=lane.waiting,
                held_for=None if lane.held_until is None else max(lane.held_until - now, 0.0),
            )
            for lane in lanes
        ),
        stuck=tuple(
            StuckView(message_id=running.message_id, age=now - running.since, stack=running.stack())
            for running in consumer.threads.stuck
        ),
        retrying=crew.tools.settling.under_way if crew is not None else 0,
        count=QueueCount.of([consumer.tally]),
        calls=consumer.measures.calls.view(),
        waits=consumer.measures.waits.view(),
        progress_at=consumer.measures.progress_at,
    )
