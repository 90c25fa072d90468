"""From running consumers to views of them."""

from __future__ import annotations

from ._consumer import Consumer
from ._lane_crew import LaneCrew
from .certificate import QueueCount
from .views import ConsumerView, HeldLane, SlotView, StuckView

TEXT_MAX = 200
"""Characters of a key: it is the user's."""


def look_at(consumer: Consumer, path: str, now: float) -> ConsumerView:
    """A consumer at the moment ``now``, in seconds of trio's clock."""
    crew = consumer.crew
    slots = crew.slots if crew is not None else []
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
                age=now - slot.since,
                size=slot.size,
            )
            for slot in slots
            if slot.message is not None
        ),
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
    )
