"""What keeps the page: an hour's history always; frames, and questions to the broker, only while somebody looks."""

from __future__ import annotations

import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager

import trio

from ...fleet.depths import FleetDepths
from ...fleet.status import Status
from ...hosting.depths import DepthSampler
from ...supervisors import EventStream
from ..observed import Observed
from .frames import Frame, Outbox, kept
from .history import STEP, History
from .look import Look, Steady
from .rendering import rendered

__all__ = ["Page"]

INTERVAL = 1.0
"""Seconds between frames when nothing happens but work."""
GATHER = 0.2
"""Seconds after an event in which others are waited for: a failure is several."""
SHARE = 20.0
"""Frames take at most one part in so many of the time: they share it with handlers."""
FRAMES = 12
"""Frames that are remembered: a browser that had one of them lately is told only of what is new."""
DEPTHS_EVERY = 2.5
"""Seconds between questions for what waits at the broker, while somebody looks: an answer will do for twice as long."""
PIECE = 4_000
"""Characters of rows in one event: a fifth of what a second may take, even if nothing of it can be compressed."""


logger = logging.getLogger("kombu_actors.web")


@contextmanager
def reported(what: str) -> Iterator[None]:
    """Whatever goes wrong with the page is logged, and is no reason for the fleet to end."""
    try:
        yield
    except Exception:
        logger.exception("the status page could not take in %s", what)


class Page:
    """The status page of a program: run it beside, and have ``routes.page_routes`` show it."""

    def __init__(self, program: Observed, depths: DepthSampler | None = None, *, acts: bool = False) -> None:
        self.program = program
        self._sampler = depths
        """What knows the broker; somebody else runs it."""
        self.history = History()
        self.acts = acts
        """Whether actions may be taken from it."""
        self.viewers = 0
        self._life = secrets.token_hex(4)
        self._count = 0
        self._frames: OrderedDict[str, Frame] = OrderedDict()
        self._status = program.status()
        self._made_at = -INTERVAL
        self._steady = Steady()
        self._depths: FleetDepths | None = None
        self._unasked: str | None = None
        self._newer = trio.Event()
        self._happened = trio.Event()
        self._looked_at = trio.Event()
        self._due = trio.Event()
        """Set when the broker is to be asked at once."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch the program until cancelled."""
        async with self.program.events() as stream, trio.open_nursery() as nursery:
            nursery.start_soon(self._hear, stream)
            nursery.start_soon(self._sample)
            nursery.start_soon(self._render)
            if self._sampler is not None:
                nursery.start_soon(self._ask, self._sampler)
            task_status.started()

    # -- what routes take ---------------------------------------------------------------------

    def moment(self) -> tuple[str, Frame, Status]:
        """The newest frame, made now if the last is old; its name, and the status that it shows."""
        if trio.current_time() - self._made_at >= INTERVAL / 2:
            self._make()
        return next(reversed(self._frames)), next(reversed(self._frames.values())), self._status

    async def changes(self, since: str) -> AsyncGenerator[Mapping[str, object]]:
        """What differs from frame ``since`` on, piece by piece, for ever.

        A piece after which the browser has a frame wholly says which, as ``frame``.
        """
        outbox = Outbox(self._frames.get(since, {}))
        with self._looking():
            self.moment()
            while True:
                name, newer = next(reversed(self._frames)), self._newer
                outbox.offer(self._frames[name])
                piece = outbox.take(PIECE)
                if piece is not None:
                    whole = {"frame": name} if outbox.empty else {}
                    yield {"now": round(time.time(), 3), **piece, **whole}
                    continue
                await newer.wait()

    def happened(self) -> None:
        """Have a frame made soon."""
        self._happened.set()

    def ask_again(self) -> None:
        """What waits at the broker has been changed from here."""
        self._due.set()

    # -- the work -----------------------------------------------------------------------------

    @contextmanager
    def _looking(self) -> Iterator[None]:
        self.viewers += 1
        self._looked_at.set()
        try:
            yield
        finally:
            self.viewers -= 1
            if not self.viewers:
                self._looked_at = trio.Event()

    async def _hear(self, stream: EventStream) -> None:
        async for event in stream:
            with reported("an event"):
                self.history.heard(event.to_dict())
            self._happened.set()

    async def _sample(self) -> None:
        while True:
            with reported("the history"):
                self.history.saw(self.program.status())
            await trio.sleep(STEP)

    async def _render(self) -> None:
        while True:
            await self._looked_at.wait()
            began = trio.current_time()
            with reported("the page"):
                self._make()
            cost = trio.current_time() - began
            with trio.move_on_after(max(INTERVAL, cost * SHARE)):
                await self._happened.wait()
                await trio.sleep(max(GATHER, cost * SHARE))
            self._happened = trio.Event()

    def _make(self) -> None:
        self._status = status = self.program.status()
        self.history.saw(status)
        self._steady.turn()
        look = Look(at=status.at, actions=self.acts, steady=self._steady)
        made = rendered(status, self.history, self._depths, self._unasked, look)
        before = next(reversed(self._frames.values())) if self._frames else {}
        self._count += 1
        self._frames[f"{self._life}-{self._count}"] = kept(made, before)
        if len(self._frames) > FRAMES:
            self._frames.popitem(last=False)
        self._made_at = trio.current_time()
        self._newer.set()
        self._newer = trio.Event()

    async def _ask(self, depths: DepthSampler) -> None:
        """Have it counted what waits at the broker, while somebody looks."""
        anew = False
        while True:
            await self._looked_at.wait()
            self._depths = await depths.get(anew=anew)
            self._unasked = depths.why
            self._happened.set()
            with trio.move_on_after(DEPTHS_EVERY) as waiting:
                await self._due.wait()
            anew = not waiting.cancelled_caught
            self._due = trio.Event()
