"""Two consumers who only iterate, and only drain events, and the steady stream that shows whether they are deaf."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from typing import Any

import attrs
import trio

from kombu_actors import Connection, Consumer, Queue
from kombu_actors.broker import BindingKind, BindingSpec, Broker, ExchangeSpec, QueueSpec
from kombu_actors.message import Message
from tests.acceptance.observing import Arrivals
from tests.support.history import History
from tests.support.processes import wait_until

PREFETCH = 20
PACE = 0.01
"""Seconds between two messages of the trickle."""
logger = logging.getLogger(__name__)


@attrs.define
class Receiver:
    """What one consumer has seen."""

    queue: str
    history: History = attrs.Factory(History)
    arrivals: Arrivals = attrs.Factory(Arrivals)

    def received(self, number: int) -> None:
        self.history.receive(number)
        self.arrivals.add(number)


class Trickle:
    """A steady stream of numbered messages to all consumers, ``width`` of them at a time."""

    def __init__(self, broker: Broker, *receivers: Receiver, width: int = 1) -> None:
        self._broker = broker
        self._width = width
        self._receivers = receivers
        self._stopped = False
        self._ended = trio.Event()
        self.next = 0
        """The number of the next message."""
        self.confirmed = Arrivals()
        """Which publishes returned."""

    async def declare(self) -> None:
        """Make the queues, and the exchange that leads to all of them."""
        await self._broker.declare(ExchangeSpec(name="news", type="direct"))
        for receiver in self._receivers:
            await self._broker.declare(
                QueueSpec(name=receiver.queue),
                BindingSpec(kind=BindingKind.QUEUE, source="news", destination=receiver.queue),
            )

    async def run(self) -> None:
        """Publish until stopped."""
        for first in itertools.takewhile(lambda _: not self._stopped, itertools.count(step=self._width)):
            async with trio.open_nursery() as nursery:
                for number in range(first, first + self._width):
                    self.next = number + 1
                    nursery.start_soon(self._publish, number)
            await trio.sleep(PACE)
        self._ended.set()

    async def wait_received(self, timeout: float) -> None:
        """After ``stop``: wait until everybody has got what was confirmed, or the time is up: the report will tell."""

        def received() -> bool:
            return not any(receiver.history.missing() for receiver in self._receivers)

        await self._ended.wait()
        with suppress(TimeoutError):
            await trio.to_thread.run_sync(
                partial(wait_until, received, timeout=timeout, waiting_for="what was confirmed to be received")
            )

    async def _publish(self, number: int) -> None:
        for receiver in self._receivers:
            receiver.history.attempt(number)
        await self._broker.publish(number, exchange="news")
        for receiver in self._receivers:
            receiver.history.confirm(number)
        self.confirmed.add(number)

    def stop(self) -> None:
        """Publish no more.  What is under way, if anything is, comes before ``next``."""
        self._stopped = True


async def iterate(
    opened: AbstractAsyncContextManager[Broker], receiver: Receiver, task_status: trio.TaskStatus[None]
) -> None:
    """Consume natively, for ever."""
    async with opened as broker, broker.subscribe(receiver.queue, prefetch=PREFETCH) as messages:
        task_status.started()
        async for message in messages:
            number = message.payload_as(int)
            receiver.received(number)
            if message.ack():  # else it comes again
                receiver.history.handle(number)


def drain(connect: Callable[[], Connection], receiver: Receiver, stop: threading.Event) -> None:
    """Consume by the documented API, until told to stop."""
    with connect() as connection:

        def handle(body: Any, message: Message) -> None:
            receiver.received(body)
            message.ack_log_error(logger, connection.connection_errors)
            receiver.history.handle(body)

        with Consumer(connection, [Queue(receiver.queue)], callbacks=[handle], prefetch_count=PREFETCH):
            while not stop.is_set():
                try:
                    connection.drain_events(timeout=0.2)
                except TimeoutError:
                    continue


async def all_beyond(number: int, *receivers: Receiver, timeout: float) -> None:
    """Wait until every receiver has got message ``number`` or a later one."""
    deadline = trio.current_time() + timeout
    for receiver in receivers:
        left = max(deadline - trio.current_time(), 0.0)
        arrived = await trio.to_thread.run_sync(receiver.arrivals.wait, number, left)
        assert arrived, f"the {receiver.queue} consumer was deaf for {timeout} s: no message from {number} on"
