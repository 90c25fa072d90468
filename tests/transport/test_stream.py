"""A connected socket, whoever closes it and whenever."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

import pytest
import trio
import trio.testing

from kombu_actors.transport._stream import STREAM_ERRORS, ByteStream

TIMES = 50
"""trio takes those whom one look at the sockets has woken in any order: in half of these who closes comes first."""


async def test_a_stream_that_is_closed_as_it_is_woken_reads_nothing_of_its_descriptors_next_owner() -> None:
    """Its number is somebody else's by then, and what comes there is somebody else's, too."""
    taken: list[bytes] = []
    for _ in range(TIMES):
        ours, peer = socket.socketpair()
        bell, ringer = socket.socketpair()
        with peer, bell, ringer:
            stream = ByteStream(trio.socket.from_stdlib_socket(ours))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive, stream, taken)
                nursery.start_soon(replace, stream, bell)
                await trio.testing.wait_all_tasks_blocked()
                peer.send(b"ours")
                ringer.send(b"!")
    assert set(taken) == {b"ours"}


async def receive(stream: ByteStream, taken: list[bytes]) -> None:
    with suppress(*STREAM_ERRORS):
        taken.append(bytes(await stream.receive()))


async def replace(stream: ByteStream, bell: socket.socket) -> None:
    """When the bell rings, close the stream and take the number that it had."""
    await trio.lowlevel.wait_readable(bell)
    number = stream.socket.fileno()
    stream.close()
    source, sink = os.pipe()
    try:
        assert source == number
        os.write(sink, b"another's")
        await trio.testing.wait_all_tasks_blocked()
    finally:
        os.close(source)
        os.close(sink)


async def test_a_stream_that_is_closed_says_so() -> None:
    """Before it is read from, and while it is waited for."""
    ours, peer = socket.socketpair()
    stream = ByteStream(trio.socket.from_stdlib_socket(ours))
    with peer:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def receive() -> None:
                with pytest.raises(STREAM_ERRORS):
                    await stream.receive()

            await trio.testing.wait_all_tasks_blocked()
            stream.close()
        with pytest.raises(STREAM_ERRORS):
            await stream.receive()
