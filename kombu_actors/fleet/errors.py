"""Every exception of a fleet that a program meets; those of the broker are in ``kombu_actors.errors``."""

from __future__ import annotations

from ..errors import KombuError

__all__ = [
    "AlreadyHandled",
    "ConsumerIsDeaf",
    "FleetError",
    "FleetMistake",
    "HandlerTimeout",
    "PayloadError",
    "RemoteError",
]

_SHOWN_MAX = 40
"""Characters of a value that an error repeats: enough to recognise it by, too few to fill a header with."""
_STEPS_MAX = 20


class FleetError(KombuError):
    """Root of the exceptions that are a fleet's own."""


class FleetMistake(FleetError, ValueError):
    """A registration that can't work: raised where it stands, before anything connects; its text says what to write."""


class ConsumerIsDeaf(FleetError):
    """Messages wait for a consumer and none reaches it, whatever was made anew: the fleet ends over it, so that whoever
    runs the process begins another.  See ``deaf_after`` of ``Fleet``."""


class HandlerTimeout(FleetError, TimeoutError):
    """A handler took longer than its consumer's ``timeout``: a failed attempt, as any error."""


class PayloadError(FleetError, ValueError):
    """A message's payload is not what the handler's annotation says; the text says where: ``$.customer: expected str,
    got 3``, where ``$`` is the payload.  The message is dead-lettered at once, for trying again can't change it."""

    def __init__(self, problem: str, place: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        """What is wrong, without the place."""
        self._place = place
        self._steps: list[str | int] = []

    def within(self, step: str | int) -> None:
        """Told by each level on the way out: in which field, or at which index, it happened."""
        self._steps.append(step)

    @property
    def path(self) -> str:
        """Where in the payload: ``$.lines[3].sku``; its first 20 steps."""
        steps = [*map(_step, self._steps[-_STEPS_MAX:])]
        return "$" + "".join(reversed(steps)) + ("..." if len(self._steps) > _STEPS_MAX else self._place)

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


def shown(value: object) -> str:
    """A value as an error repeats it: in JSON's words, and short."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return repr(value if len(value) <= _SHOWN_MAX else value[:_SHOWN_MAX] + "...")
        case int():
            return str(value) if value.bit_length() <= 128 else "a huge integer"
        case float():
            return repr(value)
        case dict():
            return "an object"
        case list() | tuple():
            return "an array"
        case _:
            return f"a {type(value).__name__}"


def _step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if step.isidentifier() and len(step) <= _SHOWN_MAX else f"[{shown(step)}]"


class AlreadyHandled(FleetError):
    """A request came a second time, and the inbox knows it: what was answered the first time is not kept."""


class RemoteError(FleetError):
    """The handler that a request went to failed.

    ``name`` is the class name of its error and ``text`` what it said; the exception itself stays where it was raised.
    """

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}" if text else name)
        self.name = name
        self.text = text
