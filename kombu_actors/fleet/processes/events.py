"""What happens to worker processes, as frozen records; ``Happened.process`` says which place it was."""

from __future__ import annotations

from ...supervisors.events import Event
from ..documents import CertificateDocument

__all__ = ["ProcessDied", "ProcessEnded", "ProcessReady", "ProcessReplaced", "ProcessSilent", "ProcessStarted"]


class ProcessStarted(Event):
    """A worker process was started."""

    pid: int
    generation: int


class ProcessReady(Event):
    """Each of its consumers consumes."""

    pid: int
    seconds: float
    """Since it was started."""


class ProcessSilent(Event):
    """Nothing was heard of it for ``seconds``: it is stopped, or its loop is blocked.  It is killed."""

    pid: int
    seconds: float


class ProcessEnded(Event):
    """It ended as it was told to."""

    pid: int | None
    code: int | None
    certificate: CertificateDocument | None = None
    """Its drain certificate, as a dict; None: it left none."""


class ProcessDied(Event):
    """It ended, and nobody had told it to."""

    pid: int | None
    """None: it could not be started."""
    code: int | None
    """Its exit code; below 0 the signal that killed it."""
    why: str
    in_hand: tuple[str, ...]
    """The messages that it had in hand, the first twenty."""


class ProcessReplaced(Event):
    """Another one is READY in its place; it drains."""

    pid: int
    by: int
    reason: str
