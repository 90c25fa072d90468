"""One run of a fleet: from connecting to the certificate."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import trio

from .._logs import get_logger
from ..errors import AccessRefused, BrokerUnreachable, NotAllowed
from ..supervisors import Escalation, EventStream, Supervisor, SupervisorError, log_events, open_supervisor, root_cause
from ..supervisors._interrupts import guarded, protected
from ..supervisors.events import ChildBackingOff, ChildFailed, ChildRestarted, ChildStuck, Event, LimitReached
from ..utils.dice import new_dice
from . import events
from ._consumer import FleetConsumer
from ._cut import Cut
from ._observing import look_at
from ._tally import Tally
from ._tree import GOODBYES, FleetPlan, FleetTree, part_of
from .certificate import Certificate, QueueCount
from .errors import FleetError
from .views import FleetView

logger = get_logger("kombu_actors.fleet")
log_actors = log_events(get_logger("kombu_actors.fleet.actors"))
"""Warnings at first; errors from the third failure in a row on, for then it is no restart of a broker."""
LOGGED = (ChildFailed, ChildRestarted, ChildStuck, LimitReached)
"""What happens to actors that a log of a running fleet should have; the rest are ``events``."""

EVENTS = 1024
"""Events that wait for whoever reads them: a burst of failures at a concurrency of some hundred."""


@protected
class Run:
    """Owns the tree of one run, and how it ends."""

    def __init__(self, plan: FleetPlan) -> None:
        self._plan = plan
        self._cut = Cut()
        self._tree = FleetTree(plan, self._cut, self._heard_below)
        self._supervisor: Supervisor | None = None
        self._stopping = trio.Event()
        self._streams: list[EventStream] = []
        self._listeners: list[Callable[[Event], None]] = []
        self._began_at = time.time()
        self._restarts: Counter[str] = Counter()

    # -- its life -----------------------------------------------------------------------------

    async def live(self, *, signals: bool, certificate: Path | None, task_status: trio.TaskStatus[None]) -> Certificate:
        """Run until it is told to drain, or cancelled; see ``Fleet.run``."""
        try:
            await self._run_tree(signals, task_status)
        except Escalation as error:
            cause = root_cause(error)
            if not self._tree.connections.were_up and isinstance(cause, BrokerUnreachable | AccessRefused | NotAllowed):
                raise cause from None
            raise
        finally:
            for stream in self._streams:
                stream.end()
            made = self.certificate()
            logger.log(logging.INFO if made.balanced else logging.ERROR, "%s", made)
            if certificate is not None:
                write_certificate(made, certificate)
        return made

    async def _run_tree(self, signals: bool, task_status: trio.TaskStatus[None]) -> None:
        deadline = self._plan.drain_timeout + GOODBYES
        failure: BaseException | None = None
        async with trio.open_nursery() as nursery:
            if signals:
                await nursery.start(obey_signals, self)
            try:
                spec = self._tree.spec()
                async with open_supervisor(spec, deadline=deadline, listener=self.tell, rng=new_dice()) as supervisor:
                    self._supervisor = supervisor
                    nursery.start_soon(self._tell_ready, supervisor, task_status)
                    try:
                        await self._stopping.wait()
                    finally:
                        self.drain("the fleet's scope was cancelled")
            except (Exception, KeyboardInterrupt) as error:
                failure = error  # bare, not in the nursery's group
            nursery.cancel_scope.cancel(reason="the fleet has stopped")
        if failure is not None:
            raise failure

    async def _tell_ready(self, supervisor: Supervisor, task_status: trio.TaskStatus[None]) -> None:
        try:
            await supervisor.wait_ready()
        except SupervisorError:
            return  # whoever waits hears it from the tree itself
        logger.info("fleet %r is READY", self._plan.name)
        task_status.started()

    # -- its end ------------------------------------------------------------------------------

    def drain(self, reason: str) -> None:
        """Take no more messages, let handlers finish, and end."""
        if not self._stopping.is_set():
            logger.info("fleet %r drains, for at most %g s: %s", self._plan.name, self._plan.drain_timeout, reason)
            now, wall = trio.current_time(), time.time()
            self.tell(events.DrainBegan(path="", at=now, wall=wall, reason=reason))
            self._stopping.set()

    def cut(self, reason: str) -> None:
        """End at once: handlers are cancelled, and their messages go back."""
        self.drain(reason)
        if not self._cut.made:
            logger.warning("fleet %r ends at once: %s", self._plan.name, reason)
            self._cut.cut(reason)

    def certificate(self) -> Certificate:
        """What has become of the messages so far."""
        queues: dict[str, list[Tally]] = {}
        for consumer in self._tree.consumers:
            queues.setdefault(consumer.plan.name, []).append(consumer.tally)
        return Certificate(
            fleet=self._plan.name,
            began_at=self._began_at,
            ended_at=time.time(),
            cold=self._cut.made or any(consumer.cancelled for consumer in self._tree.consumers),
            queues={name: QueueCount.of(tallies) for name, tallies in queues.items()},
        )

    # -- what can be seen, and asked of it ------------------------------------------------------

    def snapshot(self) -> FleetView:
        """See ``Fleet.snapshot``."""
        if self._supervisor is None:
            raise FleetError(f"fleet {self._plan.name!r} is only being started: there is nothing to see yet")
        now = trio.current_time()
        return FleetView(
            fleet=self._plan.name,
            stopping=self._stopping.is_set(),
            tree=self._supervisor.snapshot(),
            connections={path: broker.snapshot() for path, broker in self._tree.connections.open.items()},
            consumers=tuple(look_at(one, self._tree.path_of(one), now) for one in self._tree.consumers),
            jobs=() if self._tree.periodic is None else self._tree.periodic.view(),
            confirms=self._tree.connections.publishes.confirms.view(),
            publishes=self._tree.connections.publishes_view(),
            restarts=self._restarts,
        )

    @guarded
    async def events(self, capacity: int = EVENTS) -> AsyncIterator[EventStream]:
        """See ``Fleet.events``."""
        stream = EventStream(capacity)
        self._listeners.append(stream.push)
        self._streams.append(stream)
        try:
            yield stream
        finally:
            self._listeners.remove(stream.push)
            self._streams.remove(stream)
            stream.end()

    def activity(self) -> tuple[int, int]:
        """See ``Fleet.activity``."""
        taken = in_hand = 0
        for consumer in self._tree.consumers:
            taken += consumer.tally.received
            in_hand += consumer.tally.in_hand + len(consumer.threads.stuck)
        return taken, in_hand

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Have every event told, as it happens, to the end of the run."""
        self._listeners.append(listener)

    def consumers(self, queue: str) -> list[FleetConsumer]:
        """The consumers of a queue; ``FleetError`` when there is none."""
        found = [consumer for consumer in self._tree.consumers if consumer.plan.name == queue]
        if not found:
            names = sorted({consumer.plan.name for consumer in self._tree.consumers})
            raise FleetError(f"fleet {self._plan.name!r} has no consumer of queue {queue!r}, only of {names}")
        return found

    def begin_paused(self, queue: str) -> None:
        """Before it lives: have the consumers of a queue take nothing until they are resumed."""
        for consumer in self.consumers(queue):
            consumer.paused = True

    async def restart(self, path: str) -> None:
        """See ``Fleet.restart``."""
        if self._supervisor is None:
            raise FleetError(f"fleet {self._plan.name!r} is only being started")
        above, _, id = path.rpartition("/")
        supervisor = self._supervisor.nested(above) if above else self._supervisor
        if supervisor is None or id not in supervisor.children():
            raise FleetError(f"fleet {self._plan.name!r} has no actor {path!r} that could be restarted")
        await supervisor.restart_child(id)

    def tell(self, event: Event) -> None:
        """Pass an event on to whoever listens."""
        if isinstance(event, LOGGED):
            log_actors(event)
        if isinstance(event, ChildBackingOff):
            self._restarts[part_of(event.path)] += 1
        for listener in self._listeners:
            listener(event)

    def _heard_below(self, path: str, event: Event) -> None:
        """Of a connection's own tree."""
        self.tell(event.but(path=f"{path}/{event.path}" if event.path else path))


async def obey_signals(run: Run, task_status: trio.TaskStatus[None]) -> None:
    """TERM or INT: drain; the second: at once; the third: leave the process, whatever is left behind."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        count = 0
        async for number in signals:
            count += 1
            name = signal.Signals(number).name
            if count == 1:
                run.drain(f"{name} was received")
            elif count == 2:
                run.cut(f"{name} was received a second time")
            else:
                os._exit(1)


def write_certificate(certificate: Certificate, path: Path) -> None:
    """As JSON, whole or not at all."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(json.dumps(certificate.to_dict(), indent=2) + "\n")
        beside.replace(path)
    except OSError:
        logger.exception("the certificate could not be written to %s", path)
        beside.unlink(missing_ok=True)
