"""What a parent and its worker processes say to each other, as types: JSON records, of one version at both ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict, final

from .documents import CertificateDocument, FleetDocument

__all__ = [
    "Answer",
    "Command",
    "FromParent",
    "FromWorker",
    "LeftRecord",
    "Question",
    "Reply",
    "Report",
    "StartRecord",
    "TaskRecord",
]


class TaskRecord(TypedDict):
    """A ``processes.task.Task``."""

    fleet: str
    url: str | None
    queues: Sequence[str] | None
    changes: Mapping[str, float]
    log_level: str
    log_json: bool
    command: Sequence[str]


@final
class StartRecord(TypedDict):
    """The first word to a worker; see ``processes._start.Start``."""

    parent: int
    """Its pid."""
    hands: int
    """The descriptor of the worker's memory for what is in hand."""
    task: TaskRecord
    number: int
    generation: int
    paused: Sequence[str]
    wait_for_broker: bool
    silence: float


@final
class Command(TypedDict):
    """A worker is to do something."""

    id: int
    """What the ``Reply`` says again; 0: nobody waits for one."""
    do: str
    arguments: Sequence[object]


@final
class Answer(TypedDict):
    """To a ``Question``: the verdict on a message."""

    answer: int
    """The question's ``ask``."""
    queue: str
    message: str
    deaths: int
    alone: bool
    condemned: str | None


FromParent = Command | Answer
"""After the first word."""


@final
class Report(TypedDict):
    """How a worker stands, or stood at its end."""

    rss: int
    lag: float
    view: NotRequired[FleetDocument]
    """Where it is another one than that before."""
    events: NotRequired[Sequence[Mapping[str, Any]]]
    certificate: NotRequired[CertificateDocument | None]
    """In the last word."""


@final
class Reply(TypedDict):
    """A command is done."""

    reply: int
    error: str | None
    """Why it can't be."""


@final
class Question(TypedDict):
    """What is to be done with a message that came again?"""

    ask: int
    queue: str
    message: str


@final
class LeftRecord(TypedDict):
    """A worker has done with a suspect, or has not begun it."""

    left: Sequence[str]
    """Its queue, and its name there."""
    survived: bool
    alone: bool


FromWorker = Report | Reply | Question | LeftRecord
