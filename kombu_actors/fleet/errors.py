"""Every exception of a fleet that a program meets; those of the broker are in ``kombu_actors.errors``."""

from __future__ import annotations

from ..errors import KombuError

__all__ = ["FleetError", "FleetMistake", "HandlerTimeout", "PayloadError", "RemoteError"]


class FleetError(KombuError):
    """Root of the exceptions that are a fleet's own."""


class FleetMistake(FleetError, ValueError):
    """A registration that can't work: raised where it stands, before anything connects; its text says what to write."""


class HandlerTimeout(FleetError, TimeoutError):
    """A handler took longer than its consumer's ``timeout``: a failed attempt, as any error."""


class PayloadError(FleetError, ValueError):
    """A message's payload is not what the handler's annotation says; the text says where: ``$.customer: expected str,
    got 3``.  The message is dead-lettered at once, for trying again can't change it."""


class RemoteError(FleetError):
    """The handler that a request went to failed.

    ``name`` is the class name of its error and ``text`` what it said; the exception itself stays where it was raised.
    """

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}" if text else name)
        self.name = name
        self.text = text
