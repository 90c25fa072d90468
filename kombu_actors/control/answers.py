"""What is answered over a control socket, verb by verb, as types: for ``cli``, and whoever else asks.

They are dicts: what is read of a fleet of another version may lack some names, and have others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

from ..fleet.documents import DeadLetterDocument, DepthsDocument, StatusDocument

__all__ = [
    "DepthsFrame",
    "DropAnswer",
    "EventAnswer",
    "ExplainAnswer",
    "Frame",
    "HealthAnswer",
    "LettersAnswer",
    "PublishAnswer",
    "PurgeAnswer",
    "Refusal",
    "ReplayAnswer",
    "ShownLetter",
    "StatusAnswer",
]


class Refusal(TypedDict):
    """In place of an answer."""

    error: str
    exit: int
    """The exit code for it."""


class StatusAnswer(StatusDocument):
    """``status``."""

    control: str
    """The path of the control socket."""


class DepthsFrame(TypedDict):
    """What waits at the broker, as far as a frame of ``watch`` tells it."""

    depths: DepthsDocument | None
    why_no_depths: str | None


class Frame(StatusAnswer, DepthsFrame):
    """``watch``, each."""


class EventAnswer(TypedDict):
    """``events``, each; and what its kind has besides."""

    event: str
    path: str
    wall: float
    """Seconds since 1970."""
    process: int | None


class HealthAnswer(TypedDict):
    """``health``."""

    fleet: str
    state: str
    ready: bool
    reasons: Sequence[str]


class PublishAnswer(TypedDict):
    """``publish``."""

    id: str


class PurgeAnswer(TypedDict):
    """``purge``."""

    queue: str
    purged: int
    dry_run: bool


class LettersAnswer(TypedDict):
    """``dlq list``."""

    queue: str
    """The one that they are in."""
    letters: list[DeadLetterDocument]


class ShownLetter(DeadLetterDocument):
    """``dlq show``."""

    headers: Mapping[str, str | int | float | bool | None]


class ReplayAnswer(TypedDict):
    """``dlq replay``; see ``Replayed``."""

    queue: str
    replayed: int
    homeless: Mapping[str, int]
    looked_at: int
    left: int
    dry_run: bool
    text: str


class DropAnswer(TypedDict):
    """``dlq drop``."""

    queue: str
    dropped: int
    dry_run: bool


class ExplainAnswer(TypedDict):
    """``explain``."""

    fleet: str
    text: str
    warnings: list[str]
