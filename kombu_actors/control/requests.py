"""What a request brings along, read and checked; and what is said of one that fails."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from ..errors import (
    AccessRefused,
    BrokerUnreachable,
    KombuError,
    NotAllowed,
    NotFound,
    PreconditionFailed,
    ResourceLocked,
)
from ..fleet import FleetMistake
from .answers import Refusal

__all__ = ["NO_BROKER", "REFUSED", "WRONG", "Arguments", "WrongRequest", "refusal"]

logger = logging.getLogger("kombu_actors.control")

REFUSED = 1
WRONG = 2
NO_BROKER = 3
"""The exit codes of ``cli.exits``, for whoever asks from there."""


class WrongRequest(ValueError):
    """A request that can't be meant like that."""


class Arguments:
    """The arguments of a request, each read as what it has to be; raises ``WrongRequest``."""

    def __init__(self, given: Mapping[str, object]) -> None:
        self._given = given

    def get(self, name: str) -> Any:
        """Whatever it is; None when it isn't there."""
        return self._given.get(name)

    def text(self, name: str) -> str:
        """A text that has to be there."""
        value = self._given.get(name)
        if not isinstance(value, str) or not value:
            raise WrongRequest(f"the request has to say {name!r}, a text")
        return value

    def flag(self, name: str) -> bool:
        """Yes or no; no when it isn't there."""
        return self._given.get(name, False) is True

    def number(self, name: str, *, least: float = 0.0) -> float | None:
        """A finite number; None when it isn't there."""
        value = self._given.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < math.inf:
            raise WrongRequest(f"{name!r} takes a number from {least:g} on, not {value!r:.80}")
        return value

    def count(self, name: str, *, least: int = 1) -> int | None:
        """A whole number; None when it isn't there."""
        value = self.number(name, least=least)
        if isinstance(value, float):
            raise WrongRequest(f"{name!r} takes a whole number, not {value!r}")
        return value

    def texts(self, name: str) -> list[str]:
        """Texts, maybe none."""
        value = self._given.get(name) or []
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise WrongRequest(f"{name!r} takes a list of texts, not {value!r:.80}")
        return value


def refusal(error: Exception) -> Refusal:
    """The answer to a request that failed; what nobody expects is logged, too."""
    match error:
        case WrongRequest() | FleetMistake():
            return {"error": str(error), "exit": WRONG}
        case BrokerUnreachable():
            return {"error": f"no broker: {error}", "exit": NO_BROKER}
        case KombuError() | NotFound() | AccessRefused() | NotAllowed() | PreconditionFailed() | ResourceLocked():
            return {"error": str(error), "exit": REFUSED}
        case _:
            logger.error("a request over the control socket failed", exc_info=error)
            return {"error": f"it failed: {type(error).__name__}: {error}", "exit": REFUSED}
