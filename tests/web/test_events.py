"""What happens, as server-sent events."""

from __future__ import annotations

import json

import pytest
import trio
import trio.testing

from kombu_actors.fleet import Fleet
from kombu_actors.fleet.program import Happened, SingleProcess
from kombu_actors.web import feed, server

from .support import PATIENCE, dechunked, run, served


def shop(name: str) -> SingleProcess:
    fleet = Fleet(f"memory://{name}", name="shop")

    @fleet.consumer("jobs")
    async def handle(payload: str) -> None: ...

    return SingleProcess(fleet)


async def read_until(stream: trio.SocketStream, text: str) -> str:
    got = b""
    with trio.fail_after(PATIENCE):
        while text.encode() not in got:
            more = await stream.receive_some()
            assert more, got
            got += more
    return got.decode()


def happened(text: str) -> Happened:
    return Happened(path="", at=0.0, wall=0.0, process=1, record={"event": "test", "text": text})


async def test_a_reader_hears_what_happens_as_json() -> None:
    """Each event with its process, one a line, and nothing is cached or held back on the way."""
    program = shop("feed")
    async with run(program) as site, await site.open("/events") as stream:
        head = await read_until(stream, "retry: 2000")
        assert "content-type: text/event-stream" in head.lower()
        await program.restart("work/consumers/jobs")
        text = await read_until(stream, "child_ready")
        lines = [line for line in text.split("\n") if line.startswith("data: ")]
        event = json.loads(lines[0].removeprefix("data: "))
        assert event["process"] == 1
        assert event["path"]


async def test_a_stream_ends_well_when_the_server_does() -> None:
    """The last chunk is sent within the grace, so that nobody takes it for a broken connection."""
    program = shop("ends")
    async with served(program) as site:
        stream = await site.open("/events")
        await read_until(stream, "retry")
    async with stream:
        rest = await read_until(stream, "0\r\n\r\n")
        assert dechunked(rest.encode()) == b""


async def test_a_slow_reader_is_told_how_much_it_has_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps what the buffer holds, and holds up nobody."""
    monkeypatch.setattr(feed, "EVENTS", 2)
    program = shop("slow")
    async with served(program) as site, await site.open("/events") as stream:
        await read_until(stream, "retry")
        for number in range(10):
            program.tell(happened(f"number {number}"))
        text = await read_until(stream, "number 9")
        assert 'event: lost\ndata: {"lost": 8}' in text
        assert "number 8" in text
        assert "number 7" not in text


async def test_silence_is_filled_with_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that proxies keep the connection."""
    monkeypatch.setattr(feed, "HEARTBEAT", 0.05)
    async with served(shop("silence")) as site, await site.open("/events") as stream:
        await read_until(stream, "\n:\n\n")


async def test_readers_are_bounded_and_make_room_when_they_leave() -> None:
    """One more is told to come later."""
    program = shop("readers")
    async with served(program) as site:
        streams = [await site.open("/events") for _ in range(feed.READERS)]
        for stream in streams:
            await read_until(stream, "retry")
        refused = await site.get("/events")
        assert (refused.status, refused.headers["retry-after"]) == (503, "30")
        for stream in streams:
            await stream.aclose()
        with trio.fail_after(PATIENCE):
            while program._streams:  # noqa: ASYNC110  # nobody tells that a reader has left
                await trio.sleep(0.005)
        async with await site.open("/events") as stream:
            await read_until(stream, "retry")


async def stall(program: SingleProcess, stream: trio.SocketStream) -> None:
    """Have so much sent that the server waits for this reader."""
    await read_until(stream, "retry")
    for _ in range(20):
        program.tell(happened("x" * 1_000_000))
    await trio.testing.wait_all_tasks_blocked(0.05)


async def test_one_who_takes_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while, as it would hold its place for ever."""
    monkeypatch.setattr(server, "STALLED", 0.2)
    program = shop("stalled")
    async with served(program) as site, await site.open("/events") as stream:
        await stall(program, stream)
        with trio.fail_after(PATIENCE):
            while program._streams:  # noqa: ASYNC110  # nobody tells that a reader has left
                await trio.sleep(0.005)


async def test_one_who_takes_nothing_holds_up_no_end() -> None:
    """hypercorn shields what it sends: the program would wait for somebody's suspended browser."""
    program = shop("held")
    async with served(program) as site:
        stream = await site.open("/events")
        await stall(program, stream)
        began = trio.current_time()
    assert trio.current_time() - began < server.GRACE + 1.0
    await stream.aclose()
