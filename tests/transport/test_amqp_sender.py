"""Bytes that a thread sends past the writer, on a live link; and confirms, which the ledger alone counts."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import trio
from amqp import spec

from kombu_actors._values.model import Sent
from kombu_actors.protocols.amqp.sender import Lone
from kombu_actors.protocols.ledger import Entry, Ledger
from kombu_actors.transport.amqp import AMQPTransport
from kombu_actors.transport.amqp.link import AMQPLink
from tests import support_amqp_server as peer
from tests.support_amqp_server import FakeConnection, fake_broker, linked
from tests.transport.test_amqp_link import Stage, nothing, open_channel


def message(body: bytes = b"x") -> Any:
    return AMQPTransport().prepare(body, exchange="", routing_key="q", properties={})


def take_ten_bytes(link: AMQPLink, taken: threading.Event, go_on: threading.Event) -> None:
    """The kernel takes ten bytes of the next write, and its thread comes back to Python only when told to."""
    stream = link._stream
    send_counted = stream.send_counted

    def send_ten(data: bytes, counts: list[int]) -> None:
        stream.send_counted = send_counted  # type: ignore[method-assign] # once only
        send_counted(data[:10], counts)
        taken.set()
        assert go_on.wait(10)

    stream.send_counted = send_ten  # type: ignore[method-assign] # the order is forced here, nothing else replaced


async def test_what_the_runtime_sends_never_gets_into_a_frame_that_a_thread_has_half_sent() -> None:
    """The socket takes ten bytes of a thread's publish; acks that the runtime appends leave after its rest."""
    stage = Stage()
    taken, go_on = threading.Event(), threading.Event()
    async with fake_broker(stage) as endpoint, linked(endpoint, make_lock=threading.RLock) as link:
        connection = await stage.entered()
        channel = await open_channel(link, connection)
        lones: list[Lone] = []
        take_ten_bytes(link, taken, go_on)
        answers: list[Sent] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                trio.to_thread.run_sync, lambda: answers.append(channel.publish_now(message(b"body"), lones.append))
            )
            await trio.to_thread.run_sync(taken.wait, 10)
            for tag in (2, 4):
                channel.ack(tag)
            go_on.set()
        assert answers == [Sent.PART]
        assert [lone.begun for lone in lones] == [True]
        link.flush()
        kinds = [await connection.next_frame() for _ in range(5)]
        assert [(frame.kind, frame.signature) for frame in kinds] == [
            (1, spec.Basic.Publish),
            (2, None),
            (3, None),
            (1, spec.Basic.Ack),
            (1, spec.Basic.Ack),
        ]


async def test_while_reading_is_paused_nothing_goes_past_the_runtime() -> None:
    """Else nobody would look for its confirm: the window would fill and stay full."""
    stage = Stage()
    async with fake_broker(stage) as endpoint, linked(endpoint, make_lock=threading.RLock) as link:
        channel = await open_channel(link, await stage.entered())
        link.pause_reading()
        assert channel.publish_now(message(), nothing) is Sent.NOTHING
        assert channel.ack_now(1) is Sent.NOTHING
        link.resume_reading()
        assert channel.publish_now(message(), nothing) is Sent.ALL


async def test_confirms_are_read_though_reading_is_paused() -> None:
    """What was published is confirmed also while nobody drains what was delivered."""
    stage = Stage()
    confirms: list[int] = []
    async with fake_broker(stage) as endpoint, linked(endpoint) as link:
        connection = await stage.entered()
        channel = await open_channel(link, connection)
        confirmed = trio.Event()
        owed = False

        def on_confirm(tag: int, multiple: bool, accepted: bool) -> None:
            confirms.append(tag)
            confirmed.set()

        channel.confirm_select(on_confirm, nothing, lambda: owed)
        await connection.expect(spec.Confirm.Select)
        link.pause_reading()
        channel.publish(message())
        owed = True
        link.flush()
        await connection.expect(spec.Basic.Publish)
        await connection.send(peer.method(1, spec.Basic.Ack, "Lb", 1, False))
        with trio.fail_after(5):
            await confirmed.wait()
    assert confirms == [1]


def written(count: int) -> Ledger:
    """A ledger with so many publishes on the wire."""
    ledger = Ledger()
    for _ in range(count):
        ledger.accept(Entry(b"", 1, "", "q"))
    assert len(list(ledger.take())) == count
    return ledger


@pytest.mark.parametrize(("tag", "multiple"), [(0, False), (4, False), (4, True), (2**64 - 1, False)])
async def test_a_confirm_for_what_was_never_sent_ends_the_connection(tag: int, multiple: bool) -> None:
    """503 to the broker, whose count must be another than ours: no confirm could be believed any more."""
    stage = Stage()
    ledger = written(3)
    async with fake_broker(stage) as endpoint, linked(endpoint) as link:
        connection = await stage.entered()
        channel = await open_channel(link, connection)

        def on_confirm(tag: int, multiple: bool, accepted: bool) -> None:
            ledger.confirm(tag, multiple, accepted)

        channel.confirm_select(on_confirm, nothing, None)
        await connection.expect(spec.Confirm.Select)
        await connection.send(peer.method(1, spec.Basic.Ack, "Lb", tag, multiple))
        assert (await connection.expect(spec.Connection.Close)).arguments[0] == 503
        with trio.fail_after(5):
            assert f"confirm for publish {tag} on channel 1: 3 were sent" in str(await link.wait_closed())
    assert len(ledger) == 3


async def test_a_confirm_where_nobody_asked_for_any_ends_the_connection() -> None:
    """503, as for any other method out of place."""
    stage = Stage()
    async with fake_broker(stage) as endpoint, linked(endpoint) as link:
        connection: FakeConnection = await stage.entered()
        await open_channel(link, connection)
        await connection.send(peer.method(1, spec.Basic.Ack, "Lb", 1, False))
        assert (await connection.expect(spec.Connection.Close)).arguments[0] == 503


def test_a_publish_has_its_tag_when_it_was_written_and_only_then() -> None:
    """What could not be written stays waiting, takes no tag, and shifts nobody else's."""
    ledger = Ledger()
    first, second, third = (Entry(name, 1, "", "q") for name in "abc")
    for entry in (first, second, third):
        ledger.accept(entry)

    for entry in ledger.take():
        if entry is second:
            break  # it could not be written
    assert (list(ledger.waiting), ledger.written) == ([second, third], {1: first})
    assert list(ledger.take()) == [second, third]
    assert ledger.written == {1: first, 2: second, 3: third}
    assert ledger.confirm(0, True, True) == 3
