"""A supervision tree as JSON, for type checkers."""

from __future__ import annotations

from typing import TypedDict


class ChildDocument(TypedDict):
    """A ``ChildView`` as JSON; the names mean what they mean there."""

    id: str
    path: str
    state: str
    epoch: int
    restarts: int
    attempt: int
    next_attempt_in: float | None
    last_failure: dict[str, str] | None
    degraded: str | None
    mailbox: dict[str, int] | None
    budget_left: int | None
    strategy: str | None
    children: list[ChildDocument]
