"""P3 over Redis: killed, restarted, cut off, emptied: consumers deliver again within 5 s, and nothing is lost."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio
from amqp.exceptions import AMQPError

from kombu_actors import Connection
from kombu_actors.broker import BindingKind, BindingSpec, ExchangeSpec, QueueSpec, open_broker
from kombu_actors.errors import OperationalError
from kombu_actors.supervisors.events import ChildFailed
from tests.acceptance.receiving import PREFETCH, Receiver, Trickle, all_beyond, drain, iterate
from tests.support.brokers import RedisNode, free_port
from tests.support.processes import wait_until
from tests.support.proxy import FaultProxy

TIMES = 20
HEARTBEAT = 0.5
NOTICED = 2 * HEARTBEAT + 0.3
"""Seconds after which a blackhole has been noticed: two pulses without an answer."""
RECOVERY = 5.0
"""Seconds from the end of a fault until messages flow again: the promise."""


@attrs.define
class Theatre:
    """A Redis of its own, behind a proxy, with both kinds of consumers, and who publishes to them past the proxy."""

    name: str
    node: RedisNode
    proxy: FaultProxy
    stop: threading.Event = attrs.field(factory=threading.Event)
    native: Receiver = attrs.field(factory=lambda: Receiver("native"))
    blocking: Receiver = attrs.field(factory=lambda: Receiver("blocking"))
    recoveries: list[float] = attrs.field(factory=list)
    gone: set[int] = attrs.field(factory=set)
    """What may have lain in Redis when it was emptied: nobody had it, and its publish had begun."""

    async def play(
        self, harm: Callable[[], Awaitable[None]], *, times: int = TIMES, patience: float = RECOVERY
    ) -> None:
        """Do harm, again and again, each time seeing that both consumers go on; ``patience`` is for the last ones."""
        url = self.node.url(port=self.proxy.port)
        async with open_broker(self.node.url()) as direct, trio.open_nursery() as nursery:
            trickle = Trickle(direct, self.native, self.blocking)
            await trickle.declare()
            await nursery.start(iterate, open_broker(url, heartbeat=HEARTBEAT, connect_timeout=2), self.native)
            connect = partial(Connection, url, heartbeat=HEARTBEAT, connect_timeout=2)
            nursery.start_soon(trio.to_thread.run_sync, drain, connect, self.blocking, self.stop)
            nursery.start_soon(trickle.run)
            try:
                await all_beyond(0, self.native, self.blocking, timeout=10)
                for _ in range(times):
                    connections = self.proxy.accepted
                    await harm()
                    over = trio.current_time()
                    await all_beyond(trickle.next, self.native, self.blocking, timeout=RECOVERY)
                    self.recoveries.append(trio.current_time() - over)
                    assert self.proxy.accepted >= connections + 2, "it did not break both connections"
                    await trio.to_thread.run_sync(self.each_subscribed_once)
                trickle.stop()
                await trickle.wait_received(patience)
            finally:
                self.stop.set()  # a thread can't be cancelled
                nursery.cancel_scope.cancel()

    def each_subscribed_once(self) -> None:
        """A consumer that was lost is no longer registered: it would be waited for."""

        def counts() -> list[int]:
            return [self.node.ask("HLEN", f"_kombu_actors.consumers.{queue}") for queue in ("native", "blocking")]

        wait_until(lambda: counts() == [1, 1], timeout=RECOVERY, waiting_for=f"one consumer each, not {counts()}")

    async def restart(self) -> None:
        self.node.kill9()
        await self.node.start_async()

    async def empty(self) -> None:
        """FLUSHALL under their sessions, which go on."""
        await self._lose_everything(("FLUSHALL",))

    async def come_back_empty(self) -> None:
        """What a restart without persistence does: nobody is connected any more, and nothing is there."""
        kills = [("CLIENT", "KILL", "TYPE", kind) for kind in ("normal", "pubsub")]
        await self._lose_everything(*kills, ("FLUSHALL",))

    async def _lose_everything(self, *commands: tuple[str, ...]) -> None:
        attempted = self.native.history.report().attempted
        for receiver in (self.native, self.blocking):
            self.gone.update(number for number in receiver.history.missing() if isinstance(number, int))
        await trio.to_thread.run_sync(self.node.ask_at_once, *commands)
        # The last one before may have been under way, as were those that came meanwhile.
        self.gone.update(range(attempted - 1, self.native.history.report().attempted))

    async def kill(self, kind: str) -> None:
        await trio.to_thread.run_sync(self.node.kill_clients, kind)

    async def blackhole(self) -> None:
        self.proxy.blackhole()
        await trio.sleep(NOTICED)
        self.proxy.heal()


@contextmanager
def theatre(name: str, base: Path, *, durable: bool = False) -> Iterator[Theatre]:
    """One with everything well."""
    with ExitStack() as stack:
        node = RedisNode(base / name, durable=durable)
        stack.callback(node.stop)
        node.start()
        yield Theatre(name, node, stack.enter_context(FaultProxy(node.port)))


@pytest.mark.slow
async def test_consumers_deliver_again_within_five_seconds_of_twenty_faults_of_each_kind(
    node_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Redis killed and restarted, its clients killed (normal ones, subscribers), the network a black hole: 20 times
    each, for a native subscription and a facade consumer.  Each is registered exactly once; nothing is lost."""
    with ExitStack() as stack:
        restarted = stack.enter_context(theatre("restarted", node_directory / "recovery", durable=True))
        normal, pubsub, blackholed = (
            stack.enter_context(theatre(name, node_directory / "recovery"))
            for name in ("killed-normal", "killed-pubsub", "blackholed")
        )
        theatres = [restarted, normal, pubsub, blackholed]
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(restarted.play, restarted.restart)
                nursery.start_soon(normal.play, partial(normal.kill, "normal"))
                nursery.start_soon(pubsub.play, partial(pubsub.kill, "pubsub"))
                nursery.start_soon(blackholed.play, blackholed.blackhole)
        finally:
            with capsys.disabled():
                print()
                for each in theatres:
                    slowest = max(each.recoveries, default=0.0)
                    print(f"  {each.name}: {len(each.recoveries)} faults, delivering after at most {slowest:.2f} s")
                    for receiver in (each.native, each.blocking):
                        print(f"    {receiver.queue}: {receiver.history.report()}")
    for each in theatres:
        for receiver in (each.native, each.blocking):
            receiver.history.report().check(duplicates=TIMES * (PREFETCH + 1))


@pytest.mark.slow
@pytest.mark.parametrize("harm", [Theatre.empty, Theatre.come_back_empty], ids=["emptied", "came back empty"])
async def test_everything_comes_back_after_a_flush_and_no_later_publish_is_lost(
    node_directory: Path, capsys: pytest.CaptureFixture[str], harm: Callable[[Theatre], Awaitable[None]]
) -> None:
    """Emptied under load, 5 times: exchanges, queues, bindings, leases and consumers are there again within 5 s.
    What lay in Redis at that moment is gone; every publish that was confirmed and had begun later is received."""
    with theatre("flushed", node_directory / "recovery") as flushed:
        await flushed.play(partial(harm, flushed), times=5, patience=0.5)
    with capsys.disabled():
        print(f"\n  5 x FLUSHALL: delivering again after at most {max(flushed.recoveries):.2f} s")
    for receiver in (flushed.native, flushed.blocking):
        report = receiver.history.report()
        with capsys.disabled():
            print(f"    {receiver.queue}: {report}")
        assert set(report.lost) <= flushed.gone
        assert report.unexpected == ()


async def test_a_server_that_became_a_replica_is_left_and_taken_back_as_a_primary(
    own_redis: Callable[..., RedisNode],
) -> None:
    """READONLY ends the session, though the connection is well; while the server is a replica nobody is connected, and
    a publish waits; as soon as it is a primary again the publish is confirmed and delivered."""
    node = own_redis()
    async with open_broker(node.url()) as broker, trio.open_nursery() as nursery:
        await broker.declare(QueueSpec(name="q"))
        async with broker.subscribe("q") as messages, broker.events() as events:
            await trio.to_thread.run_sync(node.ask, "REPLICAOF", "127.0.0.1", free_port())
            nursery.start_soon(partial(broker.publish, "m", routing_key="q"))
            with trio.fail_after(RECOVERY):
                async for event in events:
                    if isinstance(event, ChildFailed) and event.path == "session" and "is a replica" in str(event):
                        break
            await trio.to_thread.run_sync(node.wait_until_no_clients)
            await trio.to_thread.run_sync(node.ask, "REPLICAOF", "NO", "ONE")
            with trio.fail_after(RECOVERY):
                message = await anext(messages)
            assert message.payload == "m"
            message.ack()


LOST_KEYS = ("_kombu.binding.x", "_kombu_actors.exchanges", "_kombu_actors.queues", "_kombu_actors.bindings.x")


@pytest.mark.parametrize("kind", ["direct", "topic", "fanout", "headers"])
@pytest.mark.parametrize("lost", LOST_KEYS)
async def test_a_publish_routes_or_raises_when_a_key_has_vanished(
    redis_server: RedisNode, redis_url: str, kind: str, lost: str
) -> None:
    """Evicted, or deleted by somebody: a publish of one who declared nothing, not mandatory, is in the queue when it
    is confirmed, or raises."""
    options = {"durable_fanout": True}
    async with open_broker(redis_url, transport_options=options) as owner, open_broker(redis_url) as stranger:
        await owner.declare(
            ExchangeSpec(name="x", type=kind),
            QueueSpec(name="q"),
            BindingSpec(kind=BindingKind.QUEUE, source="x", destination="q", routing_key="k", arguments={"a": 1}),
        )
        await stranger.publish("before", exchange="x", routing_key="k", headers={"a": 1})
        redis_server.ask("DEL", lost)
        try:
            await stranger.publish("after", exchange="x", routing_key="k", headers={"a": 1})
        except (AMQPError, OperationalError) as error:
            told = str(error)
        else:
            told = ""
        stored = redis_server.ask("LLEN", "q")
    assert (stored == 2) is not bool(told), f"stored {stored - 1}, told {told!r}"
