"""What became of what a run publishes, counted."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

import trio

from ..errors import PublishUnknown
from ._measures import CONFIRM_BOUNDS, Measure
from .views import PublishesView

__all__ = ["Publishes"]

T = TypeVar("T")


class Publishes:
    """Owns the counts of one run; they outlive its connections."""

    def __init__(self) -> None:
        self.confirms = Measure(CONFIRM_BOUNDS)
        """How long the broker's confirms took."""
        self._waiting = 0
        self._refused = 0
        self._unknown = 0

    async def confirmed(self, publish: Awaitable[T]) -> T:
        """Await a publish, and count what becomes of it."""
        began = trio.current_time()
        self._waiting += 1
        try:
            done = await publish
        except (PublishUnknown, trio.Cancelled):
            self._unknown += 1
            raise
        except BaseException:
            self._refused += 1
            raise
        finally:
            self._waiting -= 1
        self.confirms.add(trio.current_time() - began)
        return done

    def view(self, blocked: str | None) -> PublishesView:
        """As they are now."""
        return PublishesView(waiting=self._waiting, refused=self._refused, unknown=self._unknown, blocked=blocked)
