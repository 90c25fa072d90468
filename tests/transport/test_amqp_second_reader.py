"""Two readers of one socket: what the second hands over in its thread, and what it leaves to the link's own."""

from __future__ import annotations

import select
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from amqp import spec

from kombu_actors._values.model import Delivery, Sent
from kombu_actors.errors import ConnectionLost
from kombu_actors.transport.amqp.channel import AMQPChannel
from kombu_actors.transport.amqp.link import AMQPLink
from kombu_actors.transport.amqp.reader import REST, SecondReader
from tests import support_amqp_server as peer
from tests.support_amqp_server import FakeConnection, fake_broker, linked

from .test_amqp_link import CONSUME_OK, CTAG, Stage, message, nothing, open_channel

PATIENCE = 10.0
"""Seconds for bytes to come."""


class Place:
    """A link with a consumer, its broker, and a second reader; the link's own reads only what it is asked to."""

    def __init__(self, link: AMQPLink, channel: AMQPChannel, connection: FakeConnection) -> None:
        second = link.second_reader()
        assert second is not None
        self.link = link
        self.channel = channel
        self.connection = connection
        self.second: SecondReader = second
        self.seen: list[int] = []
        """Delivery tags."""
        self.threads: set[int] = set()
        """Where they were handed over."""
        self.gone = trio.Event()
        """The broker has cancelled the consumer."""

    def sink(self, batch: list[Delivery]) -> None:
        self.seen += [each.delivery_tag for each in batch]
        self.threads.add(threading.get_ident())

    def wait_bytes(self) -> None:
        """In the second reader's thread, as an event loop does."""
        assert select.select([self.second.socket], [], [], PATIENCE)[0], "nothing came"

    def read_next(self) -> bool:
        self.wait_bytes()
        return self.second.read()

    async def read(self) -> bool:
        """Have the second one read, in a thread of its own."""
        return await trio.to_thread.run_sync(self.read_next)

    async def until(self, done: Callable[[], object]) -> None:
        """Wait for what the link does by itself."""
        with trio.fail_after(PATIENCE):
            while not done():  # noqa: ASYNC110  # bytes that come, and threads, tell nobody
                await trio.sleep(0.001)


@asynccontextmanager
async def two_readers(**options: Any) -> AsyncIterator[Place]:
    stage = Stage(heartbeat=options.get("heartbeat", 0))
    async with fake_broker(stage) as endpoint, linked(endpoint, make_lock=threading.RLock, **options) as link:
        connection = await stage.entered()
        link.pause_reading()
        channel = await open_channel(link, connection)
        place = Place(link, channel, connection)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(channel.consume, CTAG, place.sink, place.gone.set)
            await connection.expect(spec.Basic.Consume)
            await connection.send(CONSUME_OK)
        await trio.testing.wait_all_tasks_blocked()
        yield place


async def test_whole_messages_are_handed_over_where_they_are_read() -> None:
    """The first half of the next one stays where it is until the rest is there."""
    async with two_readers() as place:
        late = peer.delivery(1, 3, b"late")
        await place.connection.send(peer.delivery(1, 1, b"a"), peer.delivery(1, 2, b"b"), late[:-5])
        assert await place.read()
        assert place.seen == [1, 2]
        assert not await place.read()
        await place.connection.send(late[-5:])
        await place.until(lambda: select.select([place.second.socket], [], [], 0)[0] and place.second.read())
        assert place.seen == [1, 2, 3]
        assert place.channel.highest_tag == 3
    assert threading.get_ident() in place.threads


async def test_all_else_is_left_to_the_links_own_reader_in_its_order() -> None:
    """The broker's cancel, for one, and a message that comes in pieces."""
    async with two_readers() as place:
        await place.connection.send(
            peer.delivery(1, 1, b"whole"),
            peer.delivery(1, 2, b"in pieces", piece=3),
            peer.delivery(1, 3, b"whole"),
            peer.method(1, spec.Basic.Cancel, "sb", "ctag", True),
        )
        await place.until(lambda: place.second.read() and place.seen)
        assert place.seen == [1]
        assert not await place.read()
        place.link.resume_reading()
        await place.gone.wait()
        assert place.seen == [1, 2, 3]


async def test_what_is_for_nobody_is_judged_by_the_link() -> None:
    """It ends as it would without a second reader, which reads nothing of it."""
    async with two_readers() as place:
        await place.connection.send(peer.delivery(1, 1, b"x", consumer="stranger"))
        assert not await place.read()
        place.link.resume_reading()
        assert "which doesn't exist" in str(await place.link.wait_closed())


async def test_while_an_answer_is_awaited_the_links_own_reader_reads_all() -> None:
    """What comes before the answer to a cancel goes where the cancel says."""
    async with two_readers() as place, trio.open_nursery() as nursery:
        nursery.start_soon(place.channel.cancel, "ctag")
        await place.connection.expect(spec.Basic.Cancel)
        await place.connection.send(peer.delivery(1, 1, b"x"))
        await place.until(lambda: place.seen or place.second.read())
        assert place.threads == {threading.get_ident()}
        await place.connection.send(peer.method(1, spec.Basic.CancelOk, "s", "ctag"))


async def test_the_links_own_reader_rests_while_the_other_reads_and_no_longer() -> None:
    """A thread that has something else to do for long doesn't keep the link from hearing of the broker."""
    async with two_readers() as place:
        place.link.resume_reading()
        await trio.testing.wait_all_tasks_blocked()
        await place.connection.send(peer.delivery(1, 1, b"x"))
        await place.until(lambda: place.seen)
        place.link._reader.relieved = True  # as by the other one, which is fast
        for tag in range(2, 6):
            await place.connection.send(peer.delivery(1, tag, b"x"))
            await place.until(lambda tag=tag: place.seen[-1] == tag or place.second.read())  # type: ignore[misc]
        assert place.link.last_heard <= trio.current_time()
        before = trio.current_time()
        await place.connection.send(peer.channel_close(1, 406, "enough"))
        await place.channel.wait_closed()
        assert trio.current_time() - before < 100 * REST
        assert place.seen == [1, 2, 3, 4, 5]


async def test_a_publish_is_not_written_past_a_reader_that_rests() -> None:
    """Its confirm would not be heard of at once.  An acknowledgement, which has no answer, is."""
    async with two_readers() as place:
        place.link._reader.relieved = True
        place.link.resume_reading()
        await place.until(lambda: place.link.resting)
        assert place.channel.publish_now(message(), nothing) is Sent.NOTHING
        assert place.channel.ack_now(1) is Sent.ALL
        await place.connection.expect(spec.Basic.Ack)


async def test_interrupted_between_reading_and_handing_over_the_link_is_lost() -> None:
    """Nobody knows what has been handed over; the broker delivers again what is not settled."""

    class Interrupted(BaseException):
        """Raised by a signal handler."""

    async with two_readers() as place:
        await place.connection.send(peer.delivery(1, 1, b"x"))
        place.channel._consumers["ctag"].sink = lambda batch: (_ for _ in ()).throw(Interrupted)
        await trio.to_thread.run_sync(place.wait_bytes)
        with pytest.raises(Interrupted):
            place.second.read()
        place.second.spoil()
        reason = await place.link.wait_closed()
    assert isinstance(reason, ConnectionLost)
    assert "was interrupted while it read" in str(reason)


async def test_interrupted_before_that_nothing_is_lost() -> None:
    """The message is still in the socket."""
    async with two_readers() as place:
        place.second.spoil()
        await place.connection.send(peer.delivery(1, 1, b"x"))
        assert await place.read()
        assert place.link.closed is None


@pytest.mark.parametrize("by", ["us", "the broker"])
async def test_the_end_is_seen_by_all(by: str) -> None:
    """The duplicate of a socket keeps no connection open, and its reader is told."""
    async with two_readers() as place:
        place.link.resume_reading()
        if by == "us":
            place.link.kill(ConnectionLost("enough"))
            with trio.fail_after(PATIENCE):
                await place.connection.until_hangup()
        else:
            await place.connection.stream.send_eof()
            await place.link.wait_closed()
        assert not await place.read()
        assert place.second.over
        assert place.link.second_reader() is None
