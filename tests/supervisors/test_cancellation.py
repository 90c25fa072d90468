"""Every public async call of supervision, cancelled at each step taken while it is made: the tree goes on, whole.

The steps are those of all tasks, the supervisors' and the children's included.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from kombu_actors.supervisors import (
    ActorContext,
    ChildSpec,
    ChildState,
    EventStream,
    Restart,
    Supervisor,
    SupervisorSpec,
    open_supervisor,
)
from tests.support.cancelling import cancelled_everywhere

PATIENCE = 10.0
"""Seconds for what takes microseconds."""


async def echo(ctx: ActorContext) -> None:
    """Answers each message with itself."""
    ctx.ready()
    with ctx.until_stopping():
        async for envelope in ctx.mailbox:
            envelope.reply(envelope.message)


async def polite(ctx: ActorContext) -> None:
    """Serves until it is asked to stop."""
    ctx.ready()
    await ctx.stopping.wait()


def tree() -> SupervisorSpec:
    """Two actors, and a supervisor to which more are added."""
    return SupervisorSpec(
        id="app",
        children=[
            ChildSpec(id="echo", start=echo, mailbox=4),
            SupervisorSpec(id="crowd", children=[ChildSpec(id="one", start=polite)]),
        ],
    )


def calls_of(supervisor: Supervisor, stream: EventStream) -> dict[str, Callable[[], Awaitable[object]]]:
    """Each is through, when nobody cancels it, and changes at most what ``mend`` puts right."""
    crowd = supervisor.nested("crowd")
    assert crowd is not None
    echoing, one = supervisor.ref("echo"), supervisor.ref("crowd/one")

    async def wait_ready() -> None:
        await crowd.restart_child("one")
        await supervisor.wait_ready("crowd/one")

    async def ref_wait_ready() -> None:
        await crowd.restart_child("one")
        await one.wait_ready()

    async def wait_down() -> None:
        epoch = await one.wait_ready()
        await crowd.restart_child("one")
        await one.wait_down(epoch)

    async def hear() -> None:
        await crowd.restart_child("one")
        await anext(stream)

    async def listen() -> None:
        async with supervisor.events() as events:
            await crowd.restart_child("one")
            await anext(events)

    return {
        "start_child": lambda: crowd.start_child(ChildSpec(id="new", start=polite)),
        "start a supervisor": lambda: crowd.start_child(
            SupervisorSpec(id="new", children=[ChildSpec(id="x", start=polite)])
        ),
        "stop_child": lambda: crowd.stop_child("one"),
        "remove_child": lambda: crowd.remove_child("one"),
        "restart_child": lambda: crowd.restart_child("one"),
        "wait_ready": wait_ready,
        "ask": lambda: echoing.ask(1),
        "tell": lambda: echoing.tell(2),
        "ref.wait_ready": ref_wait_ready,
        "wait_down": wait_down,
        "EventStream": hear,
        "events": listen,
    }


NAMES = (
    *("start_child", "start a supervisor", "stop_child", "remove_child", "restart_child", "wait_ready", "ask", "tell"),
    *("ref.wait_ready", "wait_down", "EventStream", "events"),
)


@pytest.mark.parametrize("name", NAMES)
async def test_a_call_cancelled_at_any_step_leaves_the_tree_whole(name: str) -> None:
    """Afterwards each actor answers, no child is there whose start was given up, and no task and no reader is left."""
    tasks = trio.lowlevel.current_statistics().tasks_living
    async with open_supervisor(tree()) as supervisor, supervisor.events() as stream:
        await supervisor.wait_ready()
        crowd = supervisor.nested("crowd")
        assert crowd is not None
        calls = calls_of(supervisor, stream)
        assert set(calls) == set(NAMES)
        living = trio.lowlevel.current_statistics().tasks_living

        async def check() -> None:
            with trio.fail_after(PATIENCE):
                await mend()
                await supervisor.wait_ready()
                assert await supervisor.ref("echo").ask("there?") == "there?"
                while trio.lowlevel.current_statistics().tasks_living != living:
                    await trio.lowlevel.checkpoint()
            states = {view.path: view.state for view in supervisor.snapshot().children[1].children}
            assert states == {"crowd/one": ChildState.READY}
            assert len(supervisor._tree.streams) == 1

        async def mend() -> None:
            """What a call that was through, or goes on, has changed is changed back."""
            if name in ("start_child", "start a supervisor"):
                if through:
                    await crowd.remove_child("new")
                while "new" in crowd.children():  # nobody waits for it any more: it goes by itself
                    await trio.lowlevel.checkpoint()
            elif name in ("stop_child", "remove_child"):
                view = supervisor.snapshot().find("crowd/one")
                while view is not None and view.state is ChildState.STOPPING:
                    await trio.lowlevel.checkpoint()
                    view = supervisor.snapshot().find("crowd/one")
                assert not through or view is None or view.state is ChildState.STOPPED
                if view is None or view.state is ChildState.STOPPED:
                    await crowd.start_child(ChildSpec(id="one", start=polite))
            through.clear()

        async def call() -> None:
            await calls[name]()
            through.append(True)

        through: list[bool] = []
        await cancelled_everywhere(call, check)
    assert trio.lowlevel.current_statistics().tasks_living == tasks


async def test_opening_and_leaving_a_tree_cancelled_at_any_step_leaves_no_task() -> None:
    """Children that were up were asked to stop first, and the younger before the elder."""
    tasks = trio.lowlevel.current_statistics().tasks_living
    down: list[str] = []

    async def child(ctx: ActorContext) -> None:
        await polite(ctx)
        down.append(ctx.id)

    async def call() -> None:
        children = [ChildSpec(id=id, start=child, restart=Restart.TRANSIENT) for id in ("elder", "younger")]
        async with open_supervisor(SupervisorSpec(id="app", children=children)) as supervisor:
            await supervisor.wait_ready()
            await supervisor.stop()
            await supervisor.wait_stopped()

    async def check() -> None:
        assert down in ([], ["elder"], ["younger", "elder"])
        down.clear()
        assert trio.lowlevel.current_statistics().tasks_living == tasks

    assert await cancelled_everywhere(call, check) > 10
