"""A live AMQP link against a scripted broker: requests, deaths, heartbeats, backpressure, goodbyes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import trio
from amqp import exceptions as amqp_errors
from amqp import spec

from kombu_actors._values.endpoint import LinkOptions
from kombu_actors._values.model import ConsumerSpec, Delivery, ExchangeSpec, QueueInfo, QueueSpec, Returned
from kombu_actors.errors import ChannelLimitExceeded, ConnectionClosed, ConnectionLost
from kombu_actors.transport.amqp import AMQPTransport
from kombu_actors.transport.amqp import link as amqp_link
from kombu_actors.transport.amqp.channel import AMQPChannel
from kombu_actors.transport.amqp.link import AMQPLink
from tests import support_amqp_server as peer
from tests.support_amqp_server import FakeConnection, fake_broker, linked

CONSUME_OK = peer.method(1, spec.Basic.ConsumeOk, "s", "ctag")
CTAG = ConsumerSpec(tag="ctag", queue="q")


def nothing(*_: object) -> None:
    """A callback that isn't expected to matter."""


def message(routing_key: str = "q") -> Any:
    return AMQPTransport().prepare(b"x", exchange="", routing_key=routing_key, properties={})


async def consume(channel: AMQPChannel, connection: FakeConnection, sink: Callable[[list[Delivery]], None]) -> None:
    """Subscribe ``ctag`` on channel 1."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(channel.consume, CTAG, sink, nothing)
        await connection.expect(spec.Basic.Consume)
        await connection.send(CONSUME_OK)


class Stage:
    """Lets test and script share one connection: the script hands it over and stays out of the way."""

    def __init__(self, **handshake: Any) -> None:
        self.handshake = handshake
        self._ready = trio.Event()
        self._over = trio.Event()
        self.connection: FakeConnection

    async def __call__(self, connection: FakeConnection) -> None:
        await connection.handshake(**self.handshake)
        self.connection = connection
        self._ready.set()
        await self._over.wait()

    async def entered(self) -> FakeConnection:
        await self._ready.wait()
        return self.connection

    def hang_up(self) -> None:
        self._over.set()


async def open_channel(link: AMQPLink, connection: FakeConnection) -> AMQPChannel:
    """Open channel 1."""
    opened: list[AMQPChannel] = []

    async def ask() -> None:
        opened.append(await link.open_channel())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await connection.grant_channel(1)
    return opened[0]


# -- requests ------------------------------------------------------------------------------------


async def test_a_late_reply_is_consumed_by_the_request_it_belongs_to() -> None:
    """A cancelled request never hands its reply to the next one."""
    stage = Stage()
    async with fake_broker(stage) as endpoint, linked(endpoint) as link:
        connection = await stage.entered()
        channel = await open_channel(link, connection)
        with trio.move_on_after(0.01):
            await channel.queue_declare(QueueSpec(name="first"))
        answers: list[QueueInfo] = []

        async def ask() -> None:
            answers.append(await channel.queue_declare(QueueSpec(name="second")))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            for _ in range(2):
                await connection.expect(spec.Queue.Declare)
            await connection.send(peer.method(1, spec.Queue.DeclareOk, "sll", "first", 1, 1))
            await connection.send(peer.method(1, spec.Queue.DeclareOk, "sll", "second", 2, 2))
        assert answers == [QueueInfo("second", 2, 2)]


async def test_a_request_cancelled_beforehand_sends_nothing() -> None:
    """No declare on behalf of somebody who has left."""
    stage = Stage()
    async with fake_broker(stage) as endpoint, linked(endpoint) as link:
        connection = await stage.entered()
        channel = await open_channel(link, connection)
        with trio.CancelScope() as scope:
            scope.cancel()
            await channel.queue_declare(QueueSpec(name="never"))
        assert not link.engine.awaiting


async def test_a_cancelled_consume_is_taken_back() -> None:
    """Granted too late: the subscription is cancelled, and what it delivered is requeued."""
    stage = Stage()
    seen: list[Delivery] = []
    async with fake_broker(stage) as endpoint, linked(endpoint) as link:
        connection = await stage.entered()
        channel = await open_channel(link, connection)
        with trio.move_on_after(0.01):
            await channel.consume(CTAG, seen.extend, nothing)
        await connection.expect(spec.Basic.Consume)
        await connection.send(CONSUME_OK, peer.delivery(1, 1, b"x"), peer.delivery(1, 2, b"y"))
        assert (await connection.expect(spec.Basic.Cancel)).arguments == ["ctag", False]
        for tag in (1, 2):
            assert (await connection.expect(spec.Basic.Reject)).arguments == [tag, True]
        await connection.send(peer.method(1, spec.Basic.CancelOk, "s", "ctag"))
        await consume(channel, connection, seen.extend)
    assert seen == []


async def test_a_cancelled_get_requeues_what_comes_late() -> None:
    """The message belongs to nobody here; the broker gets it back."""
    stage = Stage()
    async with fake_broker(stage) as endpoint, linked(endpoint) as link:
        connection = await stage.entered()
        channel = await open_channel(link, connection)
        with trio.move_on_after(0.01):
            await channel.get("q")
        await connection.expect(spec.Basic.Get)
        await connection.send(peer.method(1, spec.Basic.GetOk, "Lbssl", 7, False, "", "q", 0), peer.content(1, b"x"))
        assert (await connection.expect(spec.Basic.Reject)).arguments == [7, True]


async def test_a_cancelled_open_channel_is_closed_again() -> None:
    """No channel outlives the call that wanted it."""
    stage = Stage()
    async with fake_broker(stage) as endpoint, linked(endpoint) as link:
        connection = await stage.entered()
        with trio.move_on_after(0.01):
            await link.open_channel()
        await connection.grant_channel(1)
        await connection.expect(spec.Channel.Close)
        await connection.send(peer.method(1, spec.Channel.CloseOk))
        assert (await open_channel(link, connection)).number == 1


async def test_nothing_comes_to_a_sink_after_cancel_returned() -> None:
    """What comes before cancel-ok still does."""
    stage = Stage()
    seen: list[int] = []
    async with fake_broker(stage) as endpoint, linked(endpoint) as link:
        connection = await stage.entered()
        channel = await open_channel(link, connection)
        await consume(channel, connection, lambda batch: seen.extend(each.delivery_tag for each in batch))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(channel.cancel, "ctag")
            await connection.expect(spec.Basic.Cancel)
            await connection.send(peer.delivery(1, 1, b"x"), peer.method(1, spec.Basic.CancelOk, "s", "ctag"))
        assert seen == [1]
        await connection.send(peer.delivery(1, 2, b"x"))
        assert "which doesn't exist" in str(await link.wait_closed())
    assert seen == [1]


async def test_a_request_that_rabbitmq_would_end_the_connection_for_is_refused_locally() -> None:
    """With the class the broker would have caused; the link lives on."""
    stage = Stage(product="RabbitMQ")
    async with fake_broker(stage) as endpoint, linked(endpoint) as link:
        connection = await stage.entered()
        channel = await open_channel(link, connection)
        await consume(channel, connection, nothing)
        with pytest.raises(amqp_errors.InvalidCommand, match="exchange type 'bogus'"):
            await channel.exchange_declare(ExchangeSpec(name="e", type="bogus"))
        with pytest.raises(amqp_errors.AMQPNotImplementedError, match="requeue=True"):
            await channel.recover()
        with pytest.raises(amqp_errors.AMQPNotImplementedError, match="prefetch_size"):
            await channel.qos(prefetch_size=1)
        with pytest.raises(amqp_errors.AMQPNotImplementedError, match="flow"):
            await channel.flow(False)
        with pytest.raises(amqp_errors.NotAllowed, match="'ctag' is in use"):
            await channel.consume(CTAG, nothing, nothing)
        assert link.closed is None
        assert channel.closed is None


# -- channels die alone --------------------------------------------------------------------------


async def test_a_channel_dies_alone_with_the_brokers_words() -> None:
    """py-amqp's class, code, text and method; who waited gets it, siblings live on, the number is free."""
    stage = Stage()
    async with fake_broker(stage) as endpoint, linked(endpoint) as link:
        connection = await stage.entered()
        channel = await open_channel(link, connection)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.expect, spec.Queue.Declare)
            nursery.start_soon(connection.send, peer.channel_close(1, 404, "NOT_FOUND - no queue 'q'", (50, 10)))
            with pytest.raises(amqp_errors.NotFound) as caught:
                await channel.queue_declare(QueueSpec(name="q"), passive=True)
        assert str(caught.value) == "Queue.declare: (404) NOT_FOUND - no queue 'q'"
        assert await channel.wait_closed() is channel.closed
        with pytest.raises(amqp_errors.NotFound):
            channel.ack(1)
        with pytest.raises(amqp_errors.NotFound):
            channel.publish(message())
        with pytest.raises(amqp_errors.NotFound):
            await channel.qos(prefetch_count=1)
        await channel.aclose()
        await connection.expect(spec.Channel.CloseOk)
        assert link.closed is None
        assert (await open_channel(link, connection)).number == 1


async def test_a_returned_message_too_large_comes_back_without_its_body(caplog: pytest.LogCaptureFixture) -> None:
    """It was sent by somebody who may send larger ones than are taken; the log says what is missing."""
    stage = Stage()
    returns: list[Returned] = []
    async with fake_broker(stage) as endpoint, linked(endpoint, body_max=10) as link:
        connection = await stage.entered()
        channel = await open_channel(link, connection)
        channel.confirm_select(lambda *confirm: None, returns.append)
        await connection.expect(spec.Confirm.Select)
        back = peer.method(channel.number, spec.Basic.Return, "Bsss", 312, "NO_ROUTE", "ex", "key")
        await connection.send(
            back + peer.content(channel.number, b"x" * 11), peer.method(channel.number, spec.Channel.Flow, "b", True)
        )
        await connection.expect(spec.Channel.FlowOk)
        assert returns == [Returned(312, "NO_ROUTE", "ex", "key", {}, b"")]
        assert channel.closed is None
    assert "11 bytes (exchange 'ex', routing key 'key') is larger than body_max, 10, and came back" in caplog.text


async def test_a_closed_channel_answers_with_who_closed_it() -> None:
    """aclose waits for close-ok; requests under way and later ones get ConnectionClosed."""
    stage = Stage()
    async with fake_broker(stage) as endpoint, linked(endpoint) as link:
        connection = await stage.entered()
        channel = await open_channel(link, connection)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self_closed, channel)
            await connection.expect(spec.Queue.Declare)
            nursery.start_soon(channel.aclose)
            await connection.expect(spec.Channel.Close)
            await connection.send(peer.method(1, spec.Channel.CloseOk))
        with pytest.raises(ConnectionClosed, match="you closed channel 1"):
            channel.publish(message())


async def self_closed(channel: AMQPChannel) -> None:
    with pytest.raises(ConnectionClosed):
        await channel.queue_declare(QueueSpec(name="q"))


async def test_confirms_and_returns_come_in_wire_order() -> None:
    """A returned message is told before its confirm."""
    stage = Stage()
    told: list[object] = []
    async with fake_broker(stage) as endpoint, linked(endpoint) as link:
        connection = await stage.entered()
        channel = await open_channel(link, connection)
        returned: Callable[[Returned], None] = lambda each: told.append((each.code, each.routing_key))  # noqa: E731
        channel.confirm_select(lambda *confirm: told.append(confirm), returned)
        await connection.expect(spec.Confirm.Select)
        for _ in range(3):
            channel.publish(message())
        for _ in range(3):
            await connection.expect(spec.Basic.Publish)
        await connection.send(
            peer.method(1, spec.Basic.Return, "Bsss", 312, "NO_ROUTE", "", "q"),
            peer.content(1, b"x"),
            peer.method(1, spec.Basic.Ack, "Lb", 1, False),
            peer.method(1, spec.Basic.Nack, "Lbb", 3, True, False),
            peer.channel_close(1, 406, "enough"),
        )
        await channel.wait_closed()
    assert told == [(312, "q"), (1, False, True), (3, True, False)]


async def test_the_brokers_cancel_reaches_the_consumer() -> None:
    """Its queue went away: on_cancel, and its tag is free."""
    stage = Stage()
    gone = trio.Event()
    async with fake_broker(stage) as endpoint, linked(endpoint) as link:
        connection = await stage.entered()
        channel = await open_channel(link, connection)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(channel.consume, CTAG, nothing, gone.set)
            await connection.expect(spec.Basic.Consume)
            await connection.send(CONSUME_OK)
        await connection.send(peer.method(1, spec.Basic.Cancel, "sb", "ctag", True))
        await gone.wait()
        await consume(channel, connection, nothing)


async def test_the_channel_limit_is_the_brokers() -> None:
    """channel_max as agreed, one of which is kept; the error is kombu_actors' own."""
    stage = Stage()
    async with fake_broker(stage) as endpoint, linked(endpoint, channel_max=2) as link:
        connection = await stage.entered()
        await open_channel(link, connection)
        with pytest.raises(ChannelLimitExceeded):
            await link.open_channel()


# -- the link dies -------------------------------------------------------------------------------


async def test_a_channel_of_a_dying_link_is_dead_already() -> None:
    """From the broker's goodbye on its use raises ConnectionLost, also while our close-ok is on its way."""

    async def publish_on(channel: AMQPChannel) -> None:
        while True:
            channel.publish(message())
            await trio.lowlevel.checkpoint()

    for _ in range(5):  # who runs first is a matter of luck
        stage = Stage()
        async with fake_broker(stage) as endpoint, linked(endpoint) as link:
            connection = await stage.entered()
            channel = await open_channel(link, connection)
            await connection.send(peer.connection_close(320, "going down"))
            with trio.fail_after(5), pytest.raises(ConnectionLost, match="going down"):
                await publish_on(channel)


@pytest.mark.parametrize("how", ["close", "eof", "garbage", "kill"])
async def test_everybody_who_waits_learns_how_the_link_died(how: str) -> None:
    """Roles, requests, channels: all end, with the reason; nothing is left to hang."""
    stage = Stage()
    lost: list[BaseException] = []

    async def noting(wait: Callable[[], Any]) -> None:
        try:
            await wait()
        except ConnectionLost as error:
            lost.append(error)

    async with fake_broker(stage) as endpoint:
        link = await AMQPTransport().connect(endpoint, LinkOptions(heartbeat=0))
        async with trio.open_nursery() as nursery:
            for role in link.roles:
                nursery.start_soon(noting, lambda role=role: link.run(role))
            connection = await stage.entered()
            channel = await open_channel(link, connection)
            nursery.start_soon(noting, lambda: channel.get("q"))
            await connection.expect(spec.Basic.Get)
            nursery.start_soon(noting, link.open_channel)
            await connection.expect(spec.Channel.Open)
            if how == "close":
                await connection.send(peer.connection_close(320, "CONNECTION_FORCED - by operator"))
                await connection.expect(spec.Connection.CloseOk)
            elif how == "eof":
                stage.hang_up()
            elif how == "garbage":
                await connection.send(peer.frame(9, 0, b""))
                assert (await connection.expect(spec.Connection.Close)).arguments[0] == 501
            else:
                link.kill(ConnectionLost("enough"))
        assert len(lost) == 5
        assert set(map(id, lost)) == {id(link.closed)}
        assert await channel.wait_closed() is await link.wait_closed() is link.closed
        says = {"close": "320 CONNECTION_FORCED - by operator", "eof": "closed the socket"}
        says |= {"garbage": "unknown frame type 9", "kill": "enough"}
        assert says[how] in str(link.closed)
        if how == "close":
            assert isinstance(link.closed.__cause__, amqp_errors.ConnectionForced)
        for use in (link.open_channel, lambda: channel.get("q")):
            with pytest.raises(ConnectionLost):
                await use()
        await link.aclose()
        assert "dead" in repr(link)


async def test_a_sink_that_raises_ends_the_link_with_its_error() -> None:
    """A bug above is not swallowed, and doesn't leave a deaf reader behind."""
    stage = Stage()

    def broken(_: object) -> None:
        raise RuntimeError("sink is broken")

    async with fake_broker(stage) as endpoint:
        link = await AMQPTransport().connect(endpoint, LinkOptions(heartbeat=0))
        with pytest.raises(BaseExceptionGroup) as caught:  # noqa: PT012
            async with trio.open_nursery() as nursery:
                for role in link.roles:
                    nursery.start_soon(link.run, role)
                connection = await stage.entered()
                channel = await open_channel(link, connection)
                await consume(channel, connection, broken)
                await connection.send(peer.delivery(1, 1, b"x"))
                await link.wait_closed()
        assert caught.group_contains(RuntimeError, match="sink is broken")
        assert isinstance(link.closed, RuntimeError)


# -- goodbye -------------------------------------------------------------------------------------


@pytest.mark.parametrize("roles", [(), ("reader",), ("writer",), ("reader", "writer", "heartbeat")])
async def test_goodbye_is_said_whoever_still_serves_the_link(roles: tuple[str, ...]) -> None:
    """What was published before is sent first; roles return without an error."""
    stage = Stage()
    async with fake_broker(stage) as endpoint:
        link = await AMQPTransport().connect(endpoint, LinkOptions(heartbeat=0))
        connection = await stage.entered()
        async with trio.open_nursery() as nursery:
            for role in link.roles:
                nursery.start_soon(link.run, role)
            channel = await open_channel(link, connection)
            nursery.cancel_scope.cancel()
        async with trio.open_nursery() as nursery:
            for role in roles:
                nursery.start_soon(link.run, role)
            await trio.testing.wait_all_tasks_blocked()
            channel.publish(message())
            nursery.start_soon(link.aclose)
            await connection.expect(spec.Basic.Publish)
            await connection.goodbye()
            await connection.until_hangup()
        assert isinstance(link.closed, ConnectionClosed)
        await link.aclose()
        with pytest.raises(ConnectionClosed):
            await link.open_channel()


async def test_goodbye_ends_when_its_caller_is_cancelled() -> None:
    """A broker that doesn't answer costs no more than the caller gives; the socket is closed."""
    stage = Stage()
    async with fake_broker(stage) as endpoint, linked(endpoint) as link:
        connection = await stage.entered()
        with trio.move_on_after(0.05) as scope:
            await link.aclose()
        assert scope.cancelled_caught
        await connection.until_hangup()
        assert isinstance(link.closed, ConnectionClosed)


async def test_goodbye_has_a_deadline_of_its_own() -> None:
    """Without a scope the timeout of connecting bounds it."""
    stage = Stage()
    async with fake_broker(stage) as endpoint, linked(endpoint, connect_timeout=0.2) as link:
        started = trio.current_time()
        await link.aclose()
        assert trio.current_time() - started < 2


async def test_goodbye_to_a_broker_that_blocks_us_is_short() -> None:
    """It doesn't read, so it can't answer; watchers were told once each."""
    stage = Stage()
    heard: list[str | None] = []
    async with fake_broker(stage) as endpoint, linked(endpoint, connect_timeout=60) as link:
        connection = await stage.entered()
        link.on_blocked(heard.append)
        blocked = peer.method(0, spec.Connection.Blocked, "s", "low on memory")
        await connection.send(blocked, blocked, peer.method(0, spec.Connection.Unblocked), blocked)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(open_channel, link, connection)
        assert link.blocked == "low on memory"
        assert heard == ["low on memory", None, "low on memory"]
        started = trio.current_time()
        await link.aclose()
        assert trio.current_time() - started < 3


# -- heartbeats and backpressure -----------------------------------------------------------------


async def test_heartbeats_are_sent_when_nothing_else_is() -> None:
    """Twice per interval, without anybody asking."""
    stage = Stage(heartbeat=1)
    async with fake_broker(stage) as endpoint, linked(endpoint, heartbeat=1) as link:
        connection = await stage.entered()
        for _ in range(2):
            with trio.fail_after(1):
                beat = await connection.expect_kind(8)
            assert (beat.channel, beat.payload) == (0, b"")
        assert link.closed is None


async def test_a_silent_broker_is_dead_after_two_intervals() -> None:
    """ConnectionLost, within twice the heartbeat and a second."""
    stage = Stage(heartbeat=1)
    async with fake_broker(stage) as endpoint, linked(endpoint, heartbeat=1) as link:
        started = trio.current_time()
        with trio.fail_after(3):
            reason = await link.wait_closed()
        assert trio.current_time() - started > 1.9
    assert isinstance(reason, ConnectionLost)
    assert "heartbeats every 1 s" in str(reason)


async def test_our_own_stall_does_not_kill_the_link() -> None:
    """The whole loop stands still for longer than two intervals; the broker's bytes are waiting."""
    stage = Stage(heartbeat=1)
    async with fake_broker(stage) as endpoint, linked(endpoint, heartbeat=1) as link:
        connection = await stage.entered()
        await connection.expect_kind(8)
        time.sleep(2.5)  # noqa: ASYNC251, the stall is what is tested
        await connection.expect_kind(8)
        await connection.send(peer.frame(8, 0, b""))
        await connection.expect_kind(8)
        assert link.closed is None


async def test_a_paused_link_reads_nothing_but_answers() -> None:
    """Deliveries stay in the kernel; a request is answered all the same, and then it is quiet again."""
    stage = Stage(heartbeat=1)
    seen: list[int] = []
    async with fake_broker(stage) as endpoint, linked(endpoint, heartbeat=1) as link:
        connection = await stage.entered()
        channel = await open_channel(link, connection)
        await consume(channel, connection, lambda batch: seen.extend(each.delivery_tag for each in batch))
        link.pause_reading()
        await connection.send(peer.delivery(1, 1, b"x"))  # the read under way takes this one
        await trio.testing.wait_all_tasks_blocked(0.01)
        taken = len(seen)
        await connection.send(peer.delivery(1, taken + 1, b"x"))
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert len(seen) == taken
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: channel.qos(prefetch_count=1, apply_global=True))
            await connection.expect(spec.Basic.Qos)
            await connection.send(peer.method(1, spec.Basic.QosOk))
        assert len(seen) == taken + 1
        await connection.send(peer.delivery(1, taken + 2, b"x"))
        with trio.move_on_after(2.5):  # paused for longer than two heartbeats
            await link.wait_closed()
        assert link.closed is None
        assert len(seen) <= taken + 2
        link.resume_reading()
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert len(seen) == taken + 2


async def test_a_link_that_is_read_seldom_takes_together_what_came_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever drains is behind: the reader rests, but for answers that are waited for, and never for long."""
    monkeypatch.setattr(amqp_link, "REST", 5.0)
    stage = Stage()
    batches: list[int] = []
    last = trio.Event()

    def sink(batch: list[Delivery]) -> None:
        batches.append(len(batch))
        if batch[-1].delivery_tag == 7:
            last.set()

    async with fake_broker(stage) as endpoint, linked(endpoint) as link:
        connection = await stage.entered()
        channel = await open_channel(link, connection)
        await consume(channel, connection, sink)
        link.read_seldom()
        await connection.send(peer.delivery(1, 1, b"x"))  # the read under way takes this one
        await trio.testing.wait_all_tasks_blocked(0.01)
        del batches[:]
        for tag in range(2, 7):
            await connection.send(peer.delivery(1, tag, b"x"))
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert batches == []
        with trio.fail_after(2.5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: channel.qos(prefetch_count=1, apply_global=True))
                await connection.expect(spec.Basic.Qos)
                await connection.send(peer.method(1, spec.Basic.QosOk))
        assert batches == [5]
        monkeypatch.setattr(amqp_link, "REST", 0.01)
        link.read_seldom()
        link.ask()  # it looks again, and rests for so long now
        await connection.send(peer.delivery(1, 7, b"x"))
        with trio.fail_after(2.5):
            await last.wait()


async def test_a_torn_frame_is_never_continued() -> None:
    """The writer is cancelled in the middle of a large body: the link is lost, not reused."""
    stage = Stage()
    async with fake_broker(stage) as endpoint:
        link = await AMQPTransport().connect(endpoint, LinkOptions(heartbeat=0))
        connection = await stage.entered()

        async def read() -> None:
            with pytest.raises(ConnectionLost, match="half-way"):
                await link.run("reader")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as inner:
                    inner.start_soon(link.run, "writer")
                    channel = await open_channel(link, connection)
                    channel.publish(
                        AMQPTransport().prepare(bytes(40_000_000), exchange="", routing_key="q", properties={})
                    )
                    await trio.testing.wait_all_tasks_blocked(0.05)
                    scope.cancel()
            assert isinstance(await link.wait_closed(), ConnectionLost)
        await link.aclose()


async def test_served_links_leave_no_tasks() -> None:
    """Everything a link runs ends with its roles."""
    before = trio.lowlevel.current_statistics().tasks_living
    stage = Stage()
    async with fake_broker(stage) as endpoint, linked(endpoint, heartbeat=5) as link:
        await open_channel(link, await stage.entered())
    assert trio.lowlevel.current_statistics().tasks_living == before
