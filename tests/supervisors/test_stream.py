"""A stream of events ends with what it tells of."""

from __future__ import annotations

import trio
import trio.testing

from kombu_actors.supervisors import ActorContext, ChildSpec, SupervisorSpec, open_supervisor
from kombu_actors.supervisors._stream import EventStream


async def test_a_reader_that_has_read_everything_is_told_of_the_end() -> None:
    """Also when nothing happens any more: it waits for an event that does not come."""
    stream, ended = EventStream(8), trio.Event()

    async def read() -> None:
        async for _ in stream:
            pass
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        stream.end()
        with trio.fail_after(5):
            await ended.wait()


async def test_a_stream_of_a_tree_that_has_stopped_ends_at_once() -> None:
    """As does one that is opened when all is over."""

    async def serve(ctx: ActorContext) -> None:
        ctx.ready()
        await ctx.stopping.wait()

    spec = SupervisorSpec(id="app", children=(ChildSpec(id="one", start=serve),))
    with trio.fail_after(5):
        async with open_supervisor(spec) as supervisor:
            async with supervisor.events() as early:
                await supervisor.wait_ready()
                await supervisor.stop()
                assert [event async for event in early]
            async with supervisor.events() as late:
                assert [event async for event in late] == []
