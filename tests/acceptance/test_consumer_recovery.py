"""P3: a consumer never stays deaf, whatever happens to its connection."""

from __future__ import annotations

import itertools
import logging
import random
import threading
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import trio

from kombu_actors import Connection, Consumer, Queue
from kombu_actors.broker import BindingKind, BindingSpec, Broker, ExchangeSpec, QueueSpec, open_broker
from kombu_actors.errors import StaleDelivery
from kombu_actors.message import Message
from tests.acceptance.observing import Arrivals
from tests.support.brokers import RabbitMQNode
from tests.support.history import History
from tests.support.processes import wait_until
from tests.support.proxy import FaultProxy

SEED = 20
FAULTS = ["reset"] * 9 + ["refuse"] * 8 + ["blackhole"] * 3
HEARTBEAT = 2.0
NOTICED = 2 * HEARTBEAT + 0.5
"""Seconds after which a blackhole has been noticed: two heartbeats missed."""
PREFETCH = 20
RECOVERY = 5.0
"""Seconds from the end of a fault until messages flow again: the promise."""
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


@pytest.mark.slow
async def test_consumers_deliver_again_within_five_seconds_of_twenty_faults_and_lose_nothing(
    rabbitmq: RabbitMQNode,
    vhost: str,
    fault_proxy: Callable[[int], FaultProxy],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A native subscription and a facade consumer, each behind a proxy that resets, blackholes and
    refuses 20 times: both deliver again within 5 s of each heal, each is subscribed exactly once,
    nothing is lost.  Their code only iterates, and only drains events."""
    dice = random.Random(SEED)
    faults = dice.sample(FAULTS, len(FAULTS))
    proxy = fault_proxy(rabbitmq.port)
    proxied = rabbitmq.url(vhost=vhost, port=proxy.port)
    native, blocking = Receiver("native"), Receiver("blocking")
    stop = threading.Event()
    recoveries: list[float] = []

    async with open_broker(rabbitmq.url(vhost=vhost)) as direct, trio.open_nursery() as nursery:
        await direct.declare(ExchangeSpec(name="news", type="fanout"))
        for receiver in (native, blocking):
            await direct.declare(
                QueueSpec(name=receiver.queue),
                BindingSpec(kind=BindingKind.QUEUE, source="news", destination=receiver.queue),
            )
        await nursery.start(_iterate, proxied, native)
        nursery.start_soon(trio.to_thread.run_sync, _drain, proxied, blocking, stop)
        trickle = Trickle(direct, (native, blocking))
        nursery.start_soon(trickle.run)
        await _both_beyond(0, native, blocking, timeout=10)

        try:
            for fault in faults:
                connections = proxy.accepted
                await _inflict(fault, proxy, dice)
                healed, mark = trio.current_time(), trickle.next
                await _both_beyond(mark, native, blocking, timeout=RECOVERY)
                recoveries.append(trio.current_time() - healed)
                assert proxy.accepted >= connections + 2, f"{fault} did not break both connections"
                # A connection that the broker has not yet found dead holds a ghost of the old consumer.
                await trio.to_thread.run_sync(_each_subscribed_once, rabbitmq, vhost)

            trickle.stop()
            await _both_beyond(trickle.next - 1, native, blocking, timeout=RECOVERY)
        finally:
            stop.set()  # a thread can't be cancelled
            nursery.cancel_scope.cancel()

    with capsys.disabled():
        print(f"\n  {len(faults)} faults, delivering again after at most {max(recoveries):.2f} s")
        for receiver in (native, blocking):
            print(f"  {receiver.queue}: {receiver.history.report()}")
    for receiver in (native, blocking):
        report = receiver.history.report()
        report.check(duplicates=len(faults) * PREFETCH)
        assert report.attempted == report.confirmed == trickle.next


class Trickle:
    """A steady stream of numbered messages to both consumers, over a connection that nothing disturbs."""

    def __init__(self, broker: Broker, receivers: tuple[Receiver, ...]) -> None:
        self._broker = broker
        self._histories = [receiver.history for receiver in receivers]
        self._stopped = False
        self.next = 0
        """The number of the next message."""

    async def run(self) -> None:
        for number in itertools.takewhile(lambda _: not self._stopped, itertools.count()):
            self.next = number + 1
            for history in self._histories:
                history.attempt(number)
            await self._broker.publish(number, exchange="news")
            for history in self._histories:
                history.confirm(number)
            await trio.sleep(PACE)

    def stop(self) -> None:
        """Publish no more.  The message under way, if any, is the one before ``next``."""
        self._stopped = True


async def _iterate(url: str, receiver: Receiver, task_status: trio.TaskStatus[None]) -> None:
    async with (
        open_broker(url, heartbeat=HEARTBEAT, connect_timeout=2) as broker,
        broker.subscribe(receiver.queue, prefetch=PREFETCH) as messages,
    ):
        task_status.started()
        async for message in messages:
            receiver.received(message.payload)
            try:
                message.ack()
            except StaleDelivery:
                continue  # it comes again
            receiver.history.handle(message.payload)


def _drain(url: str, receiver: Receiver, stop: threading.Event) -> None:
    with Connection(url, heartbeat=HEARTBEAT, connect_timeout=2) as connection:

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


async def _inflict(fault: str, proxy: FaultProxy, dice: random.Random) -> None:
    """Break the connections, keep them broken for a while, heal."""
    if fault == "reset":
        proxy.reset()
        return
    if fault == "refuse":
        proxy.refuse()
        proxy.reset()
        await trio.sleep(dice.uniform(0.1, 2.0))
    else:
        proxy.blackhole()
        await trio.sleep(NOTICED)
    proxy.heal()


async def _both_beyond(number: int, *receivers: Receiver, timeout: float) -> None:
    """Wait until every receiver has got message ``number`` or a later one."""
    deadline = trio.current_time() + timeout
    for receiver in receivers:
        left = max(deadline - trio.current_time(), 0.0)
        arrived = await trio.to_thread.run_sync(receiver.arrivals.wait, number, left)
        assert arrived, f"the {receiver.queue} consumer was deaf for {timeout} s: no message from {number} on"


def _each_subscribed_once(rabbitmq: RabbitMQNode, vhost: str) -> None:
    def counts() -> dict[str, int]:
        return {name: queue["consumers"] for name, queue in rabbitmq.list_queues(vhost).items()}

    expected = {"native": 1, "blocking": 1}
    wait_until(lambda: counts() == expected, timeout=RECOVERY, waiting_for=f"{expected}, not {counts()}")
