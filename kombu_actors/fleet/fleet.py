"""``Fleet``: what a program registers its handlers with, and what runs them."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Collection, Hashable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from os import PathLike
from pathlib import Path
from ssl import SSLContext
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import trio

from .._native.opening import endpoints_and_transport
from ..broker import QueueSpec
from ..supervisors.events import Event
from ._address import Address
from ._explain import explain
from ._inbox import Once, inbox
from ._plans import Middleware
from ._registering import check_middleware, check_name, check_retry, check_seconds, plan_consumer
from ._registry import Registry
from ._running import Run
from ._steered import Steered
from ._tree import FleetPlan
from .certificate import Certificate
from .client import Client, open_client
from .dead_letters import DeadLetters, open_dead_letters
from .depths import Depths, open_depths
from .errors import FleetError, FleetMistake
from .policy import DEAF_AFTER, HANDLER_TIMEOUT, Batch, Retry

if TYPE_CHECKING:
    from ._blocking import SyncClient

__all__ = ["DRAIN_TIMEOUT", "Fleet"]

DRAIN_TIMEOUT = 25.0
"""Seconds that handlers have to finish when the fleet ends: within a container's usual 30."""

F = TypeVar("F", bound=Callable[..., object])
R = TypeVar("R", bound=Callable[..., AsyncIterator[object]])
OnceT = TypeVar("OnceT", bound=Once)


class Fleet(Steered):
    """Handlers of queues, what they depend on, and the broker where the queues are.

    Registering connects to nothing, and finds mistakes: each is a ``FleetMistake`` where it is made.

    Args:
        url: of the broker, or several to fail over between (as for ``open_broker``).
        name: the operator sees it at the broker; fleets of one name share their periodic jobs.
        retry: for consumers that have none of their own; four retries within a little more than eleven minutes.
        drain_timeout: seconds that handlers have to finish when the fleet ends; then they are cancelled.
        deaf_after: seconds after which a consumer counts as deaf that gets nothing while messages wait and it has
            room: it is DEGRADED, and every third of that its subscription, channel and session are made anew, one
            after the other; at last the fleet ends with ``ConsumerIsDeaf``.  0: never.
        tls: ``True``, kombu's ``ssl`` dict, or an ``ssl.SSLContext``.
        options: further arguments of ``open_broker`` (``heartbeat``, ``transport_options``, ...).

    Raises:
        InvalidURL, FleetMistake: an argument can't be meant like that.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        name: str = "fleet",
        retry: Retry | None = None,
        drain_timeout: float = DRAIN_TIMEOUT,
        deaf_after: float = DEAF_AFTER,
        tls: bool | Mapping[str, object] | SSLContext = False,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        given = dict(options or {})
        endpoints_and_transport(url, tls, given.get("transport_options"))
        check_name(name)
        super().__init__(name)
        self._address = Address(url, name, {**given, "tls": tls})
        self._retry = Retry() if retry is None else retry
        check_retry("retry", self._retry)
        self.drain_timeout = check_seconds("drain_timeout", drain_timeout, least=0.0)
        """Seconds that handlers have to finish when the fleet ends."""
        self._deaf_after = check_seconds("deaf_after", deaf_after, least=0.0)
        self._registry = Registry(name)

    def __repr__(self) -> str:
        queues = ", ".join(consumer.name for consumer in self._registry.consumers)
        return f"<Fleet {self.name!r}: {queues or 'no consumers'}>"

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that it consumes, in the order of registration, each once."""
        return tuple(dict.fromkeys(consumer.name for consumer in self._registry.consumers))

    def on(
        self,
        url: str | Sequence[str] | None = None,
        *,
        queues: Collection[str] | None = None,
        **changes: Any,
    ) -> Fleet:
        """The same handlers as a fleet of its own: on another broker, or only some of them.

        Args:
            url: another broker, for tests and for trying things; None: the same.  What calls ``open`` of this fleet
                itself, a resource perhaps, stays here.
            queues: only the consumers of these; None: all.  Periodic jobs are the whole fleet's, and stay.
            changes: further arguments of ``Fleet``; all others are this one's, but that ``tls`` and ``options``
                belong to a broker and don't go over to another.

        Raises:
            InvalidURL, FleetMistake: as ``Fleet``; there is no consumer of one of ``queues``.
        """
        given = {
            "name": self.name,
            "retry": self._retry,
            "drain_timeout": self.drain_timeout,
            "deaf_after": self._deaf_after,
            **changes,
        }
        if url is None:
            own = dict(self._address.options)
            given = {"tls": own.pop("tls"), "options": own, **given}
        other = Fleet(self._address.url if url is None else url, **given)
        other._registry.take_over(self._registry, queues)
        other.tracing = self.tracing
        return other

    # -- registration -------------------------------------------------------------------------

    def consumer(
        self,
        queue: str | QueueSpec,
        *,
        concurrency: int = 1,
        timeout: float | None = HANDLER_TIMEOUT,
        retry: Retry | None = None,
        key: Callable[[Any], Hashable] | Callable[[Any, Any], Hashable] | None = None,
        on_error: Literal["pass", "block"] = "pass",
        batch: Batch | None = None,
        dead_letter: str | None = None,
        fail_fast: int | None = None,
        prefetch: int | None = None,
        deaf_after: float | None = None,
        accept: Collection[str] | None = None,
    ) -> Callable[[F], F]:
        """``@fleet.consumer("orders")``: this function handles the queue's messages.

        An async function runs in trio, and can be cancelled; a plain one runs in a worker thread, and can't.  What it
        gets is told by its annotations: the payload, the ``Message``, resources (``Annotated[T, Depends(resource)]``).
        When it returns the message is acked; when it raises it is tried again after the delays of the ``Retry``, then
        dead-lettered.  A return annotation other than None makes what it returns the answer to a request.

        The function itself stays what it was, so that tests can call it.

        Args:
            queue: its name (declared as a durable queue where there is none), or how it is declared.
            concurrency: handlers at once in this process; 1 keeps the queue's order.
            timeout: seconds for one call; more is a failed attempt.  None: no limit.
            retry: instead of the fleet's.
            key: messages for which it returns the same are handled one after the other, in the queue's order, and
                others at the same time.  Its parameters are the handler's: ``lambda order: order.customer``.
            on_error: with ``key``, what becomes of those behind a message that is tried again: "pass", they go on
                meanwhile; "block", they wait.  Then it is kept here, unacked, until it is handled or dead-lettered.
            batch: the handler gets lists.
            dead_letter: the queue for what can't be handled; ``<queue>.dead`` when None.
            fail_fast: after so many failures in a row one message at a time is tried, until one succeeds.
            prefetch: messages that the broker may send ahead; None: two for each handler (with ``key`` at least 100,
                and twice as many where lanes wait; with ``batch`` two batches each).
            deaf_after: instead of the fleet's.
            accept: serializers or content types that may be decoded; None: JSON.

        Raises:
            FleetMistake: it can't work like that.
        """
        names = sys._getframe(1).f_locals

        def register(function: F) -> F:
            plan = partial(
                plan_consumer,
                queue,
                retry=self._retry if retry is None else retry,
                concurrency=concurrency,
                timeout=timeout,
                on_error=on_error,
                batch=batch,
                dead_letter=dead_letter,
                fail_fast=fail_fast,
                prefetch=prefetch,
                deaf_after=deaf_after,
                accept=accept,
            )
            self._registry.add_consumer(function, plan, key=key, batch=batch, names=names)
            return function

        return register

    def every(self, schedule: str | float, *, timezone: str = "UTC") -> Callable[[F], F]:
        """``@fleet.every("*/5 * * * *")``, or seconds: called then, once in all processes of fleets of this name.

        Moments that nobody was there for are made up for once; those that come while the last call still runs are left
        out.  A call that fails is logged, and the next moment is its next chance; one that is killed is made again.
        60 is at each full minute.  The function takes resources only.  Cron takes ``kombu-actors[cron]``.
        """
        names = sys._getframe(1).f_locals

        def register(function: F) -> F:
            self._registry.add_job(function, schedule, timezone, names=names)
            return function

        return register

    def resource(self, function: R) -> R:
        """``@fleet.resource``: this async generator function yields something that handlers depend on.

        It is opened before the first consumer, and closed after the last one; once in the process.  When it raises,
        the handlers that depend on it are cancelled, their messages go back, and it is opened again.  It may depend on
        resources registered before it.
        """
        self._registry.add_resource(function, names=sys._getframe(1).f_locals)
        return function

    def middleware(self, function: Middleware) -> Middleware:
        """``@fleet.middleware``: ``async def timed(message, call_next)`` runs around each call of a handler.

        It returns what ``await call_next(message)`` returns, or does something instead.  The first one registered is
        the outermost.  Batches are not wrapped: there is no one message.
        """
        check_middleware(function)
        self._registry.middleware.append(function)
        return function

    def inbox(self, once: OnceT) -> OnceT:
        """``@fleet.inbox``: skip messages that were handled before, by the program's own record of them.

        ``once(message)`` makes an async context manager, as ``@asynccontextmanager`` does.  What it yields is whether
        the message is new: then it is handled inside.  Left without an error it has to be on record from then on; left
        with one, which is the handler's, not.  A message that isn't new is acked; where somebody waits for its answer,
        which nobody has kept, the answer is ``AlreadyHandled``.

        It is middleware: around what was registered after it, and not around batches.
        """
        self._registry.middleware.append(inbox(once))
        return once

    # -- running ------------------------------------------------------------------------------

    async def run(
        self,
        *,
        signals: bool = False,
        certificate: str | PathLike[str] | None = None,
        listener: Callable[[Event], None] | None = None,
        paused: Collection[str] = (),
        wait_for_broker: bool = False,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> Certificate:
        """Handle messages until it is told to drain, or cancelled; return the drain certificate.

        ``await nursery.start(fleet.run)`` returns when every consumer is READY.  The end: the broker sends nothing
        more, what no handler has begun goes back, handlers finish (``drain_timeout`` seconds; then they are cancelled,
        and their messages go back), everything is confirmed, resources and connections are closed.

        Args:
            signals: the first TERM or INT drains, a second one ends it at once, a third leaves the process.  Only in
                the main thread; off by default, for a trio program has signals of its own.
            certificate: a file for the certificate as JSON; it is logged in any case.
            listener: called with each event, as ``events`` has them, from the first on; it has to return soon, and not
                to raise.
            paused: queues whose consumers begin paused.
            wait_for_broker: wait for it at the start, too, as long as that takes.

        Raises:
            BrokerUnreachable, AccessRefused, NotAllowed: there was no broker at the start.  Later it is waited for.
            RestartLimitExceeded, ChildFailed: supervision gave up; ``__cause__`` is the last failure.
            FleetError: it is running already.

        Cancelled, it drains first: whoever cancels it and can't wait sets a shorter ``drain_timeout``.
        """
        if self._run is not None:
            raise FleetError(f"fleet {self.name!r} is running already")
        if not self._registry.consumers and not self._registry.jobs:
            raise FleetMistake(f"fleet {self.name!r} has nothing to do: register a handler with @fleet.consumer(queue)")
        run = Run(self._plan(wait_for_broker))
        for queue in paused:
            run.begin_paused(queue)
        self._run = run
        if listener is not None:
            run.listen(listener)
        try:
            path = None if certificate is None else Path(certificate)
            return await run.live(signals=signals, certificate=path, task_status=task_status)
        finally:
            self._run = None

    def run_sync(self, *, certificate: str | PathLike[str] | None = None) -> Certificate:
        """``run`` with signals, in a script: from the main thread, and not inside trio."""

        async def main() -> Certificate:
            return await self.run(signals=True, certificate=certificate)

        return trio.run(main)

    def explain(self) -> str:
        """In words: what becomes of a message in each case.

        Lines that begin with ``!`` point at settings that don't go together: a timeout beyond RabbitMQ's for consumers,
        retries beyond a queue's TTL, a drain beyond the grace that a container has.
        """
        return explain(self.name, self._registry.consumers, jobs=self._registry.jobs, drain_timeout=self.drain_timeout)

    def _plan(self, wait_for_broker: bool) -> FleetPlan:
        return FleetPlan(
            name=self.name,
            address=self._address,
            consumers=tuple(self._registry.consumers),
            resources=tuple(self._registry.resources),
            jobs=tuple(self._registry.jobs),
            middleware=tuple(self._registry.middleware),
            drain_timeout=self.drain_timeout,
            deaf_after=self._deaf_after,
            wait_for_broker=wait_for_broker,
            custody=self.custody,
            tracing=self.tracing,
        )

    def open(self) -> AbstractAsyncContextManager[Client]:
        """``async with fleet.open() as client``: publish and ask, in a trio program."""
        return open_client(self._address, self.tracing)

    def open_sync(self) -> SyncClient:
        """``with fleet.open_sync() as client``, or without: the same in Django, Flask, scripts and threads."""
        from ._blocking import open_sync_client  # it starts a thread: only for who asks

        return open_sync_client(self._address, self.tracing)

    def dead_letters(self, queue: str) -> AbstractAsyncContextManager[DeadLetters]:
        """``async with fleet.dead_letters("orders") as dead``: look at a queue's dead letters, replay or drop them."""
        return open_dead_letters(self._address, queue, self._registry.dead_letter(queue))

    def depths(self) -> AbstractAsyncContextManager[Depths]:
        """``async with fleet.depths() as depths``: count what waits in its queues, dead letters and delays."""
        return open_depths(self._address, self._registry.consumers)
