"""Events in words, for the timeline.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import attrs

from .markup import cut
from .words import cause, duration

__all__ = ["Entry", "Grade", "Record", "Told", "told"]

TEXT_MAX = 400
"""Characters of an error's text: what says what was wrong is at its beginning."""
STACK_MAX = 4096
"""Characters of a stack: the last twenty frames."""
Record = Mapping[str, Any]
"""An event, as ``Happened.to_dict()``."""


class Grade(Enum):
    """How much an event is of people's business."""

    GOOD = "good"
    INFO = "info"
    WARN = "warn"
    BAD = "bad"


@attrs.frozen(kw_only=True)
class Told:
    """One event in words."""

    at: float
    """Seconds since 1970."""
    grade: Grade
    process: int | None
    subject: str
    """Whom it is about: a path in the tree, a queue, or nobody."""
    sentence: str
    detail: str = ""
    """What varies from one to the next: an error's text, a message's id."""
    stack: str = ""

    def same_as(self, other: Told) -> bool:
        """Whether it says the same of the same, in whichever process."""
        return (self.process is None, self.subject, self.sentence) == (
            other.process is None,
            other.subject,
            other.sentence,
        )


@attrs.define(kw_only=True, eq=False)
class Entry:
    """A line of the timeline: an event, and how often it came again in a short time."""

    number: int
    told: Told
    """The latest of them."""
    times: int = 1
    processes: set[int] = attrs.field(factory=set)
    """Those that it happened in."""

    def __attrs_post_init__(self) -> None:
        self._note(self.told)

    @property
    def at(self) -> float:
        """When it was last."""
        return self.told.at

    def same_as(self, other: Told) -> bool:
        """Whether ``other`` is one more of it."""
        return self.told.same_as(other)

    def again(self, other: Told) -> None:
        """It happened again."""
        self.told, self.times = other, self.times + 1
        self._note(other)

    def _note(self, told: Told) -> None:
        if told.process is not None:
            self.processes.add(told.process)


def told(record: Record) -> Told | None:
    """An event in words; None for those that say nothing by themselves: a start, what follows from a failure."""
    kind = str(record.get("event", ""))
    if kind in _SILENT or _is_told_below(kind, record):
        return None
    grade, say = _KNOWN.get(kind, (_grade_of(record), _plainly))
    try:
        sentence, detail = say(record)
    except (KeyError, TypeError, ValueError):  # it is another version's
        sentence, detail = _plainly(record)
    return Told(
        at=float(record.get("wall", 0.0)),
        grade=grade,
        process=record.get("process"),
        subject=cut(record.get("path") or record.get("queue") or "", TEXT_MAX),
        sentence=cut(sentence, TEXT_MAX),
        detail=cut(detail, TEXT_MAX),
        stack=stack_of(record),
    )


def _is_told_below(kind: str, record: Record) -> bool:
    """Whether it is a failure that a supervisor below has passed on, and that has been told of there."""
    error = record.get("error")
    passed_on = isinstance(error, Mapping) and error.get("type") == "RestartLimitExceeded"
    return passed_on and bool(record.get("path")) and kind in ("child_failed", "escalated")


def stack_of(record: Record) -> str:
    """The stack of an event that has one, its end if it is long."""
    stack = record.get("stack") or ""
    whole = stack if isinstance(stack, str) else "\n".join(str(line) for line in stack)
    return whole[-STACK_MAX:]


def _error(record: Record) -> tuple[str, str]:
    """The class of a record's error, and its text."""
    error = record.get("error")
    if isinstance(error, Mapping):
        return cause(str(error.get("type", "")), str(error.get("text", "")))
    return ("", "") if error is None else ("", str(error))


def _failed(record: Record) -> tuple[str, str]:
    kind, text = _error(record)
    return f"failed: {kind}", text


def _gave_up(record: Record) -> tuple[str, str]:
    kind, text = _error(record)
    return f"gives up after {kind}", text


def _retried(record: Record) -> tuple[str, str]:
    kind, text = _error(record)
    delay = duration(record["delay"])
    return f"retries after {kind}", f"{record['message_id']}: {text} (attempt {record['failed']}, again in {delay})"


def _dead(record: Record) -> tuple[str, str]:
    kind, text = _error(record)
    return f"dead-letters after {kind or 'a refusal'}", f"{record['message_id']}: {record['reason'] or text}"


def _returned(record: Record) -> tuple[str, str]:
    kind, text = _error(record)
    return f"gives messages back: {kind}", f"{record['message_id']}: {text}"


def _operated(record: Record) -> tuple[str, str]:
    return f"operator: {record['action']}", f"by {record['who']}"


def _deaf(record: Record) -> tuple[str, str]:
    silent, waiting = duration(record["silent_for"]), record["waiting"]
    return f"is deaf: {record['step']}", f"nothing came for {silent}, though {waiting} messages wait"


def _died(record: Record) -> tuple[str, str]:
    in_hand = f", with {', '.join(str(one) for one in record['in_hand'])} in hand" if record["in_hand"] else ""
    return "died", f"{record['why']}{in_hand}"


def _plainly(record: Record) -> tuple[str, str]:
    """A kind of event that is not known here: its name, and whatever it says of a reason."""
    kind, text = _error(record)
    said = [kind, text, *(str(record[name]) for name in ("why", "reason", "message_id") if record.get(name))]
    return str(record.get("event", "something happened")).replace("_", " "), ": ".join(part for part in said if part)


def _grade_of(record: Record) -> Grade:
    return Grade.WARN if record.get("error") is not None else Grade.INFO


def _says(sentence: str, detail: str = "") -> Callable[[Record], tuple[str, str]]:
    def say(record: Record) -> tuple[str, str]:
        return sentence, str(record.get(detail) or "") if detail else ""

    return say


_SILENT = {
    "group_restarted",
    "limit_reached",
    "supervisor_stopping",
    "child_completed",
    "child_starting",
    "child_ready",
    "child_stopped",
    "supervisor_stopped",
    "reply_dropped",
    "message_snoozed",
    "",
}

_KNOWN: Mapping[str, tuple[Grade, Callable[[Record], tuple[str, str]]]] = {
    "child_restarted": (Grade.GOOD, lambda record: ("is back", f"after {duration(record['downtime'])}")),
    "child_degraded": (Grade.WARN, _says("is not well", "why")),
    "child_failed": (Grade.BAD, _failed),
    "child_backing_off": (
        Grade.WARN,
        lambda record: ("waits before it starts again", f"{duration(record['delay'])}, attempt {record['attempt']}"),
    ),
    "cooling_down": (
        Grade.WARN,
        lambda record: ("has spent its restarts and cools down", f"{duration(record['delay'])}"),
    ),
    "child_returned": (Grade.WARN, _says("ended by itself")),
    "child_gone": (Grade.WARN, _says("is gone for good", "fate")),
    "child_stuck": (Grade.BAD, _says("was cancelled, and is still there")),
    "escalated": (Grade.BAD, _gave_up),
    "deadline_passed": (Grade.BAD, lambda record: ("took too long to stop", ", ".join(record["left"]))),
    "message_retried": (Grade.WARN, _retried),
    "message_dead_lettered": (Grade.BAD, _dead),
    "message_returned": (Grade.WARN, _returned),
    "handler_stuck": (Grade.BAD, _says("has a stuck handler", "message_id")),
    "consumer_paused": (Grade.INFO, _says("is paused")),
    "consumer_resumed": (Grade.INFO, _says("goes on")),
    "drain_began": (Grade.INFO, _says("drains", "reason")),
    "operator_acted": (Grade.INFO, _operated),
    "consumer_deaf": (Grade.BAD, _deaf),
    "consumer_hears": (Grade.GOOD, lambda record: ("gets messages again", f"after {duration(record['silent_for'])}")),
    "process_started": (Grade.INFO, lambda record: ("is started", f"pid {record['pid']}")),
    "process_ready": (Grade.GOOD, lambda record: ("is ready", f"after {duration(record['seconds'])}")),
    "process_silent": (Grade.BAD, lambda record: ("is silent, and killed", duration(record["seconds"]))),
    "process_ended": (Grade.INFO, lambda record: ("has ended", f"exit code {record['code']}")),
    "process_died": (Grade.BAD, _died),
    "process_replaced": (Grade.INFO, lambda record: ("is replaced", str(record["reason"]))),
}
