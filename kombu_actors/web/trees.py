"""Programs without a fleet: the supervision tree of their connection, served as a fleet's."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Protocol, cast

import attrs
import trio

from ..fleet._standing import standing
from ..fleet.documents import FleetDocument
from ..fleet.program import EVENTS, Happened, resident
from ..fleet.status import ProcessState, ProcessStatus, Status
from ..supervisors import ChildView, EventStream
from ..supervisors._interrupts import guarded, protected
from .binding import Binding, parse_binding
from .server import serve

__all__ = ["TreeStatus", "serve_status"]


@guarded
async def serve_status(broker: Watched, bind: Binding | str, *, name: str = "program") -> AsyncIterator[None]:
    """``async with serve_status(broker, "8080"):`` the page, health, metrics and events of a connection's tree.

    ``/readyz`` is whether the connection is up and each of its consumers consumes; there are no queues to steer.

    Args:
        broker: from ``open_broker``, or a tree of ``open_supervisor``; it has to outlive the block.
        bind: a port of this machine, ``HOST:PORT``, or ``unix:PATH``.
        name: what the page calls the program.

    Raises:
        ValueError: that is no place to listen at.
        OSError: nothing can be served there.
    """
    place = parse_binding(bind) if isinstance(bind, str) else bind
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        try:
            await nursery.start(partial(serve, TreeStatus(broker, name), place))
            yield
        except (Exception, KeyboardInterrupt) as error:
            failure = error  # bare, not in the nursery's group
        nursery.cancel_scope.cancel(reason="the block of serve_status was left")
    if failure is not None:
        raise failure


class Watched(Protocol):
    """A supervision tree: a ``Broker`` shows its own, a ``Supervisor`` is one."""

    def snapshot(self) -> ChildView:
        """The tree as it is now."""

    def events(self, capacity: int = ...) -> AbstractAsyncContextManager[EventStream]:
        """What happens in it from now on."""


@protected
class TreeStatus:
    """What is known of one tree, as ``Observed`` has it."""

    def __init__(self, tree: Watched, name: str) -> None:
        self._tree = tree
        self._name = name
        self._began_at = time.time()
        self._state, self._since = ProcessState.STARTING, self._began_at

    def status(self) -> Status:
        """See ``Program.status``: one process, whose tree is the connection's."""
        now = time.time()
        tree = self._tree.snapshot().to_dict()
        view: FleetDocument = {
            "fleet": self._name,
            "stopping": False,
            "tree": tree,
            "connections": {},
            "consumers": [],
            "jobs": [],
            "confirms": None,
            "restarts": {},
        }
        state, reasons = standing(view)
        if state is not self._state:
            self._state, self._since = state, now
        process = ProcessStatus(
            number=1,
            pid=os.getpid(),
            generation=1,
            state=state,
            why="; ".join(reasons) or None,
            since=self._since,
            rss=resident(),
            fleet=view,
        )
        return Status(
            fleet=self._name,
            version=version("kombu-actors"),
            host=socket.gethostname(),
            pid=os.getpid(),
            began_at=self._began_at,
            at=now,
            state=state,
            reasons=reasons,
            processes=(process,),
        )

    @asynccontextmanager
    async def events(self, capacity: int = EVENTS) -> AsyncIterator[EventStream]:
        """See ``Program.events``."""
        async with self._tree.events(capacity) as stream:
            yield cast(EventStream, Retold(stream))


@attrs.define
class Retold:
    """The events of a stream as a program's."""

    stream: EventStream

    @property
    def lost(self) -> int:
        """How many the reader has missed."""
        return self.stream.lost

    def __aiter__(self) -> Retold:
        return self

    async def __anext__(self) -> Happened:
        event = await anext(self.stream)
        return Happened(path=event.path, at=event.at, wall=event.wall, process=1, record=event.to_dict())
