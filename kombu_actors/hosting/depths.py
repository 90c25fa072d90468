"""What waits at the broker, asked for while somebody wants to know, and not more often than every few seconds."""

from __future__ import annotations

import logging
import math

import trio

from ..errors import DeadlineExceeded, KombuError
from ..fleet.depths import FleetDepths
from ..fleet.fleet import Fleet

__all__ = ["DepthSampler"]

logger = logging.getLogger("kombu_actors.hosting")

FRESH = 5.0
"""Seconds for which an answer will do: a question to each queue is work for the broker."""
SHARE = 20.0
"""Looks into the broker take at most one part in so many of the time, however many queues there are."""
LOOK_TIMEOUT = 4.0
"""Seconds for a look: a broker that takes longer is away."""
IDLE = 120.0
"""Seconds without anybody asking, after which the connection is closed; scrapers come every minute at the latest."""
PATIENCE = 2.0
"""Seconds that a reader waits for an answer; scrapers give up after ten."""
AGAIN = 3.0
"""Seconds until a broker that was away is asked again."""


class DepthSampler:
    """Owns the connection over which a fleet's queues are looked at.  ``run`` it, and ``get``."""

    def __init__(self, fleet: Fleet) -> None:
        self.why: str | None = None
        """Why the broker does not say what waits; None: it did, or was not asked."""
        self._fleet = fleet
        self._latest: FleetDepths | None = None
        self._good_until = -math.inf
        self._wanted, self._settled = trio.Event(), trio.Event()

    async def get(self, *, anew: bool = False) -> FleetDepths | None:
        """The queues as they are now, or were some seconds ago; None: the broker doesn't say.

        ``anew``: something was changed, so that what is known is not good enough.
        """
        if anew or trio.current_time() >= self._good_until:
            settled = self._settled
            self._wanted.set()
            with trio.move_on_after(PATIENCE):
                await settled.wait()
        return self._latest if trio.current_time() < self._good_until else None

    async def run(self) -> None:
        """Look whenever that is wanted, until cancelled."""
        while True:
            await self._wanted.wait()
            try:
                async with self._fleet.depths() as depths:
                    while self._wanted.is_set():
                        began = trio.current_time()
                        latest = await depths.look(timeout=LOOK_TIMEOUT)
                        self._settle(latest, None, max(FRESH, (trio.current_time() - began) * SHARE))
                        with trio.move_on_after(IDLE):
                            await self._wanted.wait()
            except DeadlineExceeded as error:
                self._settle(None, str(error).partition(": ")[2] or str(error), AGAIN)  # why there is no answer
            except KombuError as error:
                self._settle(None, str(error), AGAIN)

    def _settle(self, latest: FleetDepths | None, why: str | None, good_for: float) -> None:
        if why is not None:
            logger.info("the broker does not say what waits in the queues of fleet %r: %s", self._fleet.name, why)
        self._latest, self.why = latest, why
        self._good_until = trio.current_time() + good_for
        self._settled.set()
        self._wanted, self._settled = trio.Event(), trio.Event()
