"""What an examination finds: values, a line or two each."""

from __future__ import annotations

from enum import Enum
from typing import TypedDict

import attrs

__all__ = ["Finding", "Verdict"]


class Verdict(Enum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    """It works, and may not be what is wanted."""
    FAILED = "failed"
    SKIPPED = "skipped"
    """Not tried, for something below it failed."""


class FindingDocument(TypedDict):
    """A ``Finding`` as JSON."""

    check: str
    verdict: str
    text: str
    advice: str | None


class PlacedFinding(FindingDocument):
    """And where it was found."""

    where: str


@attrs.frozen
class Finding:
    """One check."""

    check: str
    """What was looked at, a word or two."""
    verdict: Verdict
    text: str
    """What was found.  It never has a password in it."""
    advice: str | None = None
    """What to do about it."""

    def to_dict(self) -> FindingDocument:
        """JSON-able."""
        return {"check": self.check, "verdict": self.verdict.value, "text": self.text, "advice": self.advice}
