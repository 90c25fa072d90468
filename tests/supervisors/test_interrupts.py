"""Ctrl-C: the block ends, the children are stopped in order, ``KeyboardInterrupt`` comes out; the next one hurries."""

from __future__ import annotations

import signal
import time
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from kombu_actors.supervisors import (
    ActorContext,
    ChildSpec,
    Event,
    Outcome,
    Restart,
    Supervisor,
    SupervisorSpec,
    open_supervisor,
)

from .actors import Diary

Block = Callable[[Supervisor], Awaitable[None]]
LONG = 20.0
"""Seconds that no test waits: what would take them is to be cut short."""


def interrupt() -> None:
    """Ctrl-C, at this instant."""
    signal.raise_signal(signal.SIGINT)


def interrupted_tree(
    *children: ChildSpec | SupervisorSpec, block: Block, listener: Callable[[Event], None] | None = None
) -> KeyboardInterrupt:
    """Run a tree with a real SIGINT somewhere; it must end with the bare interrupt, and soon."""

    async def main() -> None:
        async with open_supervisor(SupervisorSpec(id="s", children=children), listener=listener) as supervisor:
            await supervisor.wait_ready()
            await block(supervisor)
            await trio.sleep(LONG)

    began = time.monotonic()
    with pytest.raises(BaseException) as caught:
        trio.run(main)
    assert type(caught.value) is KeyboardInterrupt
    assert time.monotonic() - began < LONG / 2
    return caught.value


async def in_block(supervisor: Supervisor) -> None:
    interrupt()


async def in_nursery(supervisor: Supervisor) -> None:
    """In a task beside the main one: the program's own nursery makes a group of it."""

    async def task() -> None:
        await trio.lowlevel.checkpoint()
        interrupt()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(task)
        nursery.start_soon(trio.sleep_forever)


async def in_child(supervisor: Supervisor) -> None:
    async def actor(ctx: ActorContext) -> None:
        ctx.ready()
        await trio.lowlevel.checkpoint()
        interrupt()

    await supervisor.start_child(ChildSpec(id="x", start=actor))
    await trio.sleep(LONG)


async def in_on_exit(supervisor: Supervisor) -> None:
    async def actor(ctx: ActorContext) -> None:
        ctx.ready()

    def on_exit(outcome: Outcome) -> None:
        interrupt()

    await supervisor.start_child(ChildSpec(id="x", start=actor, restart=Restart.TEMPORARY, on_exit=on_exit))
    await trio.sleep(LONG)


async def in_children_callable(supervisor: Supervisor) -> None:
    def children() -> tuple[ChildSpec, ...]:
        interrupt()
        return ()

    await supervisor.start_child(SupervisorSpec(id="x", children=children))
    await trio.sleep(LONG)


async def in_escalate(supervisor: Supervisor) -> None:
    async def actor(ctx: ActorContext) -> None:
        ctx.ready()
        raise ValueError("to be judged")

    def escalate(error: BaseException) -> bool:
        interrupt()
        return False

    await supervisor.start_child(SupervisorSpec(id="x", children=(ChildSpec(id="y", start=actor),), escalate=escalate))
    await trio.sleep(LONG)


@pytest.mark.parametrize("where", [in_block, in_nursery, in_child, in_on_exit, in_children_callable, in_escalate])
def test_an_interrupt_anywhere_stops_the_children_in_order(where: Block) -> None:
    """In whatever code of the program it strikes, the elder children drain, youngest first."""
    diary = Diary()
    interrupted_tree(diary.child("a", drain=0.01), diary.child("b", drain=0.01), block=where)
    assert diary.take() == ["up a1", "up b1", "down b1", "down a1"]


def test_an_interrupt_in_a_listener_stops_the_children_in_order() -> None:
    """A listener is the program's code, called in the middle of ours."""
    diary = Diary()
    heard: list[Event] = []

    def listener(event: Event) -> None:
        heard.append(event)
        if len(heard) == 4:
            interrupt()

    interrupted_tree(diary.child("a", drain=0.01), diary.child("b", drain=0.01), block=forever_block, listener=listener)
    assert diary.take() in (["up a1", "down a1"], ["up a1", "up b1", "down b1", "down a1"])


async def forever_block(supervisor: Supervisor) -> None:
    await trio.sleep(LONG)


@pytest.mark.parametrize("nested", [False, True])
def test_a_second_interrupt_ends_the_stop_at_once(nested: bool) -> None:
    """Whoever is draining is cancelled without grace; outer trees and last words don't wait either."""
    diary = Diary()

    async def draining(ctx: ActorContext) -> None:
        ctx.ready()
        try:
            await ctx.stopping.wait()
            diary.note("asked")
            trio.lowlevel.spawn_system_task(interrupted_again)
            await trio.sleep(LONG)
        finally:
            with ctx.last_words(LONG):
                await trio.sleep(LONG)
            diary.note("cancelled")

    async def interrupted_again() -> None:
        interrupt()

    async def block(supervisor: Supervisor) -> None:
        if nested:
            inner = SupervisorSpec(id="inner", children=(diary.child("b", drain=LONG, stop_grace=LONG), child))
            async with open_supervisor(inner) as within:
                await within.wait_ready()
                interrupt()
                await trio.sleep(LONG)
        await supervisor.start_child(child)
        interrupt()

    child = ChildSpec(id="x", start=draining, stop_grace=LONG)
    error = interrupted_tree(diary.child("a", drain=LONG, stop_grace=LONG), block=block)
    assert isinstance(error.__context__, KeyboardInterrupt)
    assert [line for line in diary.take() if not line.startswith("up")] == (
        ["asked", "cancelled", "down b1", "down a1"] if nested else ["asked", "cancelled", "down a1"]
    )


def test_an_interrupt_while_the_block_is_left_waits_for_the_ordered_stop() -> None:
    """The stop that is under way anyway is what the first interrupt asks for."""
    diary = Diary()

    async def draining(ctx: ActorContext) -> None:
        ctx.ready()
        await ctx.stopping.wait()
        trio.lowlevel.spawn_system_task(once)
        await trio.sleep(0.05)
        diary.note("drained")

    async def once() -> None:
        interrupt()

    async def main() -> None:
        children = (diary.child("a", drain=0.01), ChildSpec(id="x", start=draining))
        async with open_supervisor(SupervisorSpec(id="s", children=children)) as supervisor:
            await supervisor.wait_ready()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert diary.take() == ["up a1", "drained", "down a1"]


def test_an_actor_that_is_not_interruptible_is_stopped_in_its_turn() -> None:
    """``interruptible=False`` keeps the interrupt out of it, however long its lines take."""
    diary = Diary()

    async def careful(ctx: ActorContext) -> None:
        ctx.ready()
        interrupt()
        diary.note("went on")
        await ctx.stopping.wait()
        diary.note("drained")

    async def block(supervisor: Supervisor) -> None:
        await supervisor.start_child(ChildSpec(id="x", start=careful, interruptible=False))
        await trio.sleep(LONG)

    interrupted_tree(diary.child("a"), block=block)
    assert diary.take() == ["up a1", "went on", "drained", "down a1"]


async def test_last_words_go_on_after_a_cancellation(autojump_clock: MockClock) -> None:
    """For their seconds, and no longer; the deadline of the whole stop cuts them."""
    took: list[float] = []

    async def talker(ctx: ActorContext) -> None:
        ctx.ready()
        try:
            await trio.sleep_forever()
        finally:
            began = trio.current_time()
            with ctx.last_words(3):
                await trio.sleep(LONG)
            took.append(trio.current_time() - began)

    child = ChildSpec(id="x", start=talker, stop_grace=0)
    for deadline in (25.0, 2.0):
        async with open_supervisor(SupervisorSpec(id="s", children=(child,)), deadline=deadline) as supervisor:
            await supervisor.wait_ready()
    assert took == [3.0, 2.0]
