"""From how a program stands to all rows of the page.  Pure."""

from __future__ import annotations

from ...fleet.depths import FleetDepths
from ...fleet.status import Status
from .frames import Frame
from .handlers import handler_rows
from .history import History
from .jobs import job_rows, ledger_rows
from .letters import letter_rows
from .look import Look
from .processes import process_rows, verdict_rows
from .queues import delay_rows, queue_rows, queues_of
from .timeline import axis_rows, certificate_rows, entry_rows
from .tree import tree_rows

__all__ = ["rendered"]


def rendered(status: Status, history: History, depths: FleetDepths | None, unasked: str | None, look: Look) -> Frame:
    """A frame.  What is urgent stands first: so it is sent first.

    Args:
        depths: what waits at the broker; None when nobody knows.
        unasked: why it isn't known.
    """
    queues = queues_of(status, depths)
    verdict = verdict_rows(status, look)
    return {
        "verdict": {"verdict-line": verdict["verdict-line"]},
        "why-rows": {"why": verdict["why"]},
        "timeline": entry_rows(history),
        "processes": process_rows(status, history, look),
        "queues": queue_rows(queues, history, look),
        "delays-rows": delay_rows(depths, unasked),
        "letters": letter_rows(queues),
        "handlers": handler_rows(queues, look),
        "ledger": ledger_rows(status),
        "jobs": job_rows(status, look),
        "certificates": certificate_rows(history.certificates),
        "axis-rows": axis_rows(history, status.at - status.began_at),
        "tree": tree_rows(status, history, look),
    }
