"""What comes in one piece with a channel's end: the engine knows of it before anybody is told, and nobody trips."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from amqp import exceptions as amqp_errors
from amqp import spec

from kombu_actors._values.model import QueueSpec
from kombu_actors.errors import ConnectionClosed, ConnectionLost
from kombu_actors.transport.amqp.channel import AMQPChannel
from kombu_actors.transport.amqp.link import AMQPLink
from tests import support_amqp_server as peer
from tests.support_amqp_server import FakeConnection, fake_broker, linked
from tests.transport.test_amqp_link import CTAG, Stage, message, nothing, open_channel

CLOSE = peer.channel_close(1, 406, "PRECONDITION_FAILED - something else")


async def is_usable(link: AMQPLink, connection: FakeConnection) -> None:
    """The link has survived: it opens a channel."""
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.open_channel)
            while (frame := await connection.next_frame()).signature != spec.Channel.Open:
                assert frame.signature != spec.Connection.Close
            await connection.send(peer.channel_open_ok(frame.channel))
    assert link.closed is None


async def given_up(call: Callable[[], Awaitable[Any]], connection: FakeConnection, signature: tuple[int, int]) -> None:
    """Make a call and cancel it when the broker has it."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await connection.expect(signature)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("what", ["consume", "deliveries", "get", "open"])
async def test_what_nobody_waits_for_any_more_is_not_taken_back_from_a_channel_that_has_ended(what: str) -> None:
    """A grant that comes too late, in one piece with the channel's end: the link and its other channels live on."""
    stage = Stage()
    async with fake_broker(stage) as endpoint, linked(endpoint) as link:
        connection = await stage.entered()
        consume_ok = peer.method(1, spec.Basic.ConsumeOk, "s", "ctag")
        if what == "open":
            await given_up(link.open_channel, connection, spec.Channel.Open)
            await connection.send(peer.channel_open_ok(1) + CLOSE)
        else:
            channel = await open_channel(link, connection)
            if what == "get":
                await given_up(lambda: channel.get("q"), connection, spec.Basic.Get)
                late = peer.method(1, spec.Basic.GetOk, "Lbssl", 7, False, "", "q", 0) + peer.content(1, b"x")
            else:
                await given_up(lambda: channel.consume(CTAG, nothing, nothing), connection, spec.Basic.Consume)
                late = consume_ok
            if what == "deliveries":
                await connection.send(consume_ok)
                await connection.expect(spec.Basic.Cancel)
                late = peer.delivery(1, 1, b"x") + peer.delivery(1, 2, b"y")
            await connection.send(late + CLOSE)
            with trio.fail_after(5):
                assert isinstance(await channel.wait_closed(), amqp_errors.PreconditionFailed)
        await is_usable(link, connection)


async def test_a_reply_that_comes_with_its_channels_end_to_a_caller_who_is_leaving_disturbs_nobody() -> None:
    """The caller is cancelled after the reply was handed over and before it runs: its cancellation goes on."""
    stage = Stage()
    async with fake_broker(stage) as endpoint, linked(endpoint) as link:
        connection = await stage.entered()
        channel = await open_channel(link, connection)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: channel.consume(CTAG, nothing, nothing))
                await connection.expect(spec.Basic.Consume)
                await connection.send(peer.method(1, spec.Basic.ConsumeOk, "s", "ctag") + CLOSE)
                await channel.wait_closed()
                scope.cancel()
        await is_usable(link, connection)


async def test_what_waits_for_the_end_of_an_alarm_is_not_published_on_a_channel_that_has_ended() -> None:
    """The broker reads again and has just closed the channel: the publish raises, and the link lives on."""
    stage = Stage()
    raised: list[BaseException] = []
    async with fake_broker(stage) as endpoint, linked(endpoint) as link:
        connection = await stage.entered()
        channel = await open_channel(link, connection)

        def pump(reason: str | None) -> None:
            if reason is None:
                try:
                    channel.publish(message())
                except ConnectionLost as error:
                    raised.append(error)

        link.on_blocked(pump)
        await connection.send(peer.method(0, spec.Connection.Blocked, "s", "low on memory"))
        await connection.send(peer.method(0, spec.Connection.Unblocked) + CLOSE)
        with trio.fail_after(5):
            await channel.wait_closed()
        await is_usable(link, connection)
    assert "channel 1" in str(raised[0])


async def test_after_our_goodbye_every_call_says_that_the_connection_was_closed() -> None:
    """The broker has not answered it yet; requests under way have ended, nothing is sent any more, nothing trips."""
    stage = Stage()
    ended: list[BaseException] = []
    async with fake_broker(stage) as endpoint, linked(endpoint) as link:
        connection = await stage.entered()
        channel = await open_channel(link, connection)

        async def declare(channel: AMQPChannel) -> None:
            try:
                await channel.queue_declare(QueueSpec(name="q"))
            except ConnectionClosed as error:
                ended.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(declare, channel)
            await connection.expect(spec.Queue.Declare)
            nursery.start_soon(link.aclose)
            await connection.expect(spec.Connection.Close)
            assert link.closed is None
            with trio.fail_after(5):
                await channel.wait_closed()
                await declare(channel)
                with pytest.raises(ConnectionClosed):
                    channel.ack(1)
                with pytest.raises(ConnectionClosed):
                    channel.publish(message())
                with pytest.raises(ConnectionClosed):
                    await link.open_channel()
                await channel.aclose()
            await connection.send(peer.method(0, spec.Connection.CloseOk))
    assert len(ended) == 2


def blocked(link: AMQPLink) -> str | None:
    """Asked anew."""
    return link.blocked


async def test_an_alarm_ends_when_all_its_reasons_have() -> None:
    """``channel.flow`` of one channel and ``connection.blocked`` are two; a channel takes its own with it."""
    stage = Stage()
    heard: list[str | None] = []

    def flow(active: bool) -> bytes:
        return peer.method(1, spec.Channel.Flow, "b", active)

    async with fake_broker(stage) as endpoint, linked(endpoint) as link:
        connection = await stage.entered()
        await open_channel(link, connection)
        link.on_blocked(heard.append)
        await connection.send(flow(False))
        await connection.expect(spec.Channel.FlowOk)
        await connection.send(peer.method(0, spec.Connection.Blocked, "s", "low on memory") + flow(True))
        await connection.expect(spec.Channel.FlowOk)
        assert blocked(link) == "low on memory"
        await connection.send(flow(False) + peer.method(0, spec.Connection.Unblocked))
        await connection.expect(spec.Channel.FlowOk)
        assert blocked(link) == "channel.flow on channel 1"
        await connection.send(CLOSE)
        await connection.expect(spec.Channel.CloseOk)
        assert blocked(link) is None
    assert heard == ["channel.flow on channel 1", "low on memory", "channel.flow on channel 1", None]
