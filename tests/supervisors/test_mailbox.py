"""Messages to actors, over their deaths."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from kombu_actors.supervisors import (
    ActorContext,
    ActorDown,
    AskTimeout,
    Backoff,
    ChildSpec,
    Down,
    Envelope,
    Failed,
    MailboxFull,
    SelfStop,
    SpecError,
    Stopped,
    SupervisorSpec,
    events,
    open_supervisor,
)

from .actors import Diary, forever


async def doubler(ctx: ActorContext) -> None:
    """Doubles numbers, refuses ``"odd"``, dies of ``"die"``."""
    ctx.ready()
    async for envelope in ctx.mailbox:
        match envelope.message:
            case "die":
                raise OSError("died")
            case "odd":
                envelope.fail(ValueError("odd"))
            case number:
                envelope.reply(number * 2)


def tree(start: object = doubler, *, capacity: int = 4, backoff: float = 0.0) -> SupervisorSpec:
    child = ChildSpec(id="a", start=start, mailbox=capacity)  # type: ignore[arg-type]
    return SupervisorSpec(id="s", children=(child,), backoff=Backoff(first=backoff, jitter=0))


async def test_ask_gets_the_reply_or_the_error(autojump_clock: MockClock) -> None:
    """What the actor gives to ``fail`` is raised where ``ask`` waits."""
    async with open_supervisor(tree()) as sup:
        assert await sup.ref("a").ask(21) == 42
        with pytest.raises(ValueError, match="odd"):
            await sup.ref("a").ask("odd")


async def test_a_reference_survives_restarts_and_so_do_queued_messages(autojump_clock: MockClock) -> None:
    """Who was being served learns of the death; who still waits is served by the next incarnation."""
    answers: list[object] = []
    async with open_supervisor(tree(backoff=5)) as sup, trio.open_nursery() as nursery:
        ref = sup.ref("a")
        await sup.wait_ready()

        async def ask(message: object) -> None:
            try:
                answers.append(await ref.ask(message))
            except ActorDown as error:
                answers.append(str(error))

        nursery.start_soon(ask, "die")
        await ref.wait_down(1)
        nursery.start_soon(ask, 4)
        await trio.sleep(1)
        assert answers == ["epoch 1 of actor 'a' died before it answered"]
        assert await ref.wait_ready() == 2
        await trio.testing.wait_all_tasks_blocked()
        assert answers[1:] == [8]


async def test_a_reply_from_a_dead_epoch_is_dropped_and_counted(autojump_clock: MockClock) -> None:
    """An answer never crosses epochs."""
    kept: list[Envelope] = []
    diary = Diary()

    async def keeper(ctx: ActorContext) -> None:
        ctx.ready()
        kept.append(await ctx.mailbox.receive())
        if ctx.epoch == 1:
            raise OSError("died")
        await ctx.stopping.wait()

    async with open_supervisor(tree(keeper), listener=diary.events.append) as sup:
        with pytest.raises(ActorDown, match="epoch 1"):
            await sup.ref("a").ask("question")
        await sup.wait_ready()
        assert kept[0].reply("late") is False
        view = sup.snapshot().find("a")
        assert view is not None
        assert view.mailbox == {"waiting": 0, "capacity": 4, "stale_replies": 1}
    assert [event.count for event in diary.of(events.ReplyDropped)] == [1]


async def test_the_mailbox_is_bounded(autojump_clock: MockClock) -> None:
    """``tell`` waits for room, ``tell_nowait`` refuses."""
    async with open_supervisor(tree(forever, capacity=2)) as sup:
        ref = sup.ref("a")
        ref.tell_nowait(1)
        await ref.tell(2)
        with pytest.raises(MailboxFull, match="full \\(2 messages\\)"):
            ref.tell_nowait(3)
        with trio.move_on_after(5) as scope:
            await ref.tell(3)
        assert scope.cancelled_caught


async def test_an_ask_that_times_out_is_withdrawn(autojump_clock: MockClock) -> None:
    """An actor doesn't work for someone who has left."""
    seen: list[object] = []

    async def late(ctx: ActorContext) -> None:
        ctx.ready()
        await trio.sleep(10)
        async for envelope in ctx.mailbox:
            seen.append(envelope.message)

    async with open_supervisor(tree(late)) as sup:
        with pytest.raises(AskTimeout, match="'a' did not answer within 3 s"):
            await sup.ref("a").ask("gone", timeout=3)
        sup.ref("a").tell_nowait("stays")
        await trio.sleep(20)
        assert seen == ["stays"]


async def test_messages_to_the_dead_are_refused(autojump_clock: MockClock) -> None:
    """Whether they wait in the mailbox, for room in it, or come later."""
    refused: list[object] = []
    async with open_supervisor(tree(forever, capacity=1)) as sup, trio.open_nursery() as nursery:
        ref = sup.ref("a")

        async def ask(message: int) -> None:
            with pytest.raises(ActorDown):
                await ref.ask(message)
            refused.append(message)

        nursery.start_soon(ask, 1)
        nursery.start_soon(ask, 2)
        await trio.testing.wait_all_tasks_blocked()
        await sup.stop_child("a")
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(refused) == [1, 2]  # type: ignore[type-var]
        with pytest.raises(ActorDown):
            await ref.tell(3)
        with pytest.raises(ActorDown):
            sup.ref("nobody").tell_nowait(3)


async def test_an_actor_without_mailbox_says_so(autojump_clock: MockClock) -> None:
    """On both sides."""
    async with open_supervisor(
        SupervisorSpec(id="s", children=(ChildSpec(id="a", start=forever, stop_grace=0),))
    ) as sup:
        with pytest.raises(SpecError, match="give its ChildSpec mailbox=<capacity>"):
            await sup.ref("a").tell(1)


async def test_wait_down_watches_one_epoch(autojump_clock: MockClock) -> None:
    """It fires at once when that incarnation is already gone."""
    async with open_supervisor(tree(backoff=5)) as sup:
        ref = sup.ref("a")
        await sup.wait_ready()
        ref.tell_nowait("die")
        outcome = await ref.wait_down(1)
        assert isinstance(outcome, Failed)
        assert str(outcome.error) == "died"
        assert await ref.wait_down(1) is outcome
        assert await ref.wait_ready() == 2
        with trio.move_on_after(9) as scope:
            await ref.wait_down(2)
        assert scope.cancelled_caught


async def test_the_loop_over_a_mailbox_ends_with_the_stop(autojump_clock: MockClock) -> None:
    """So the plainest actor needs no grace."""
    began = trio.current_time()
    async with open_supervisor(tree()) as sup:
        await sup.wait_ready()
    assert trio.current_time() == began


async def test_what_its_asker_has_withdrawn_makes_room(autojump_clock: MockClock) -> None:
    """Asks that timed out fill no mailbox: who waits for room comes in, in order, and nobody else."""
    received: list[object] = []

    async def slow(ctx: ActorContext) -> None:
        ctx.ready()
        async for envelope in ctx.mailbox:
            received.append(envelope.message)
            await trio.sleep(10)
            envelope.reply()

    async with open_supervisor(SupervisorSpec(id="s", children=(ChildSpec(id="x", start=slow, mailbox=2),))) as sup:
        await sup.wait_ready()
        ref = sup.ref("x")

        async def give_up(message: str) -> None:
            with pytest.raises(AskTimeout):
                await ref.ask(message, timeout=1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ref.ask, "first")
            await trio.testing.wait_all_tasks_blocked()
            for message in ("withdrawn 1", "withdrawn 2"):
                nursery.start_soon(give_up, message)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(MailboxFull):
                ref.tell_nowait("too early")
            began = trio.current_time()
            nursery.start_soon(ref.tell, "second")
            await trio.sleep(2)
            ref.tell_nowait("third")
            assert trio.current_time() - began == 2
            with pytest.raises(MailboxFull):
                ref.tell_nowait("too many")
        await trio.sleep(30)
    assert received == ["first", "second", "third"]


async def test_a_reference_to_an_actor_that_is_not_there_yet_waits(autojump_clock: MockClock) -> None:
    """Whatever can wait does: who starts first is nobody's business."""
    async with open_supervisor(SupervisorSpec(id="s")) as sup, trio.open_nursery() as nursery:
        ref = sup.ref("a")
        results: list[object] = []

        async def keep(call: Callable[[], Awaitable[object]]) -> None:
            results.append(await call())

        for call in (lambda: ref.ask(21), ref.wait_ready, lambda: ref.wait_down(1), lambda: sup.wait_ready("a")):
            nursery.start_soon(keep, call)
        nursery.start_soon(ref.tell, 1)
        await trio.testing.wait_all_tasks_blocked()
        assert results == []
        with pytest.raises(ActorDown, match="nobody has started 'a' yet"):
            ref.tell_nowait(1)
        with pytest.raises(ActorDown, match="not READY now"):
            _ = ref.value
        await sup.start_child(ChildSpec(id="a", start=doubler, mailbox=4))
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(results, key=str) == [1, 42, None]
        await sup.remove_child("a")
        await trio.testing.wait_all_tasks_blocked()
        assert results[3] == Stopped("remove_child")
        with pytest.raises(ActorDown, match="'a' is gone for good"):
            await ref.tell(1)


async def test_waiting_for_an_actor_that_never_comes_ends_with_the_tree(autojump_clock: MockClock) -> None:
    """And leaves nothing behind when it is cancelled."""
    async with trio.open_nursery() as nursery, open_supervisor(SupervisorSpec(id="s")) as sup:
        with trio.move_on_after(1):
            await sup.ref("a").tell(1)
        assert sup._tree._awaited == {}

        async def wait() -> None:
            with pytest.raises(ActorDown, match="tree 's' has stopped"):
                await sup.ref("a").wait_ready()

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()


async def watching(ctx: ActorContext, other: str, seen: list[Down]) -> None:
    """Watches another actor, with a mailbox of one place."""
    ctx.monitor(ctx.ref(other))
    ctx.ready()
    async for envelope in ctx.mailbox:
        match envelope.message:
            case Down() as down:
                seen.append(down)
            case "die":
                raise OSError("the watcher")
            case busy:
                await busy.wait()


async def test_a_monitor_tells_of_each_end_in_the_mailbox(autojump_clock: MockClock) -> None:
    """Of an actor that isn't there yet, of one that is restarted, of one that is gone for good."""
    diary, seen = Diary(), list[Down]()
    watcher = ChildSpec(id="w", start=partial(watching, other="a", seen=seen), mailbox=1)
    async with open_supervisor(SupervisorSpec(id="s", children=(watcher,), backoff=Backoff(jitter=0))) as sup:
        await sup.wait_ready()
        ref = await sup.start_child(diary.child("a"))
        diary.fail["a"].set()
        await ref.wait_down(1)
        assert await ref.wait_ready() == 2
        await sup.stop_child("a")
        await trio.testing.wait_all_tasks_blocked()
        assert [(down.epoch, type(down.outcome), down.gone) for down in seen] == [
            (1, Failed, False),
            (2, Stopped, True),
        ]
        assert {down.path for down in seen} == {"a"}


async def test_a_monitor_never_blocks_and_never_piles_up(autojump_clock: MockClock) -> None:
    """One unread message at most, which says how many others it stands for; a successor isn't told of it."""
    diary, seen = Diary(), list[Down]()
    watcher = ChildSpec(id="w", start=partial(watching, other="a", seen=seen), mailbox=1)
    spec = SupervisorSpec(id="s", children=(diary.child("a"), watcher), backoff=Backoff(jitter=0))
    async with open_supervisor(spec) as sup:
        await sup.wait_ready()
        busy = trio.Event()
        await sup.ref("w").tell(busy)
        await trio.testing.wait_all_tasks_blocked()
        for epoch in (1, 2, 3):
            await sup.restart_child("a")
            await sup.ref("a").wait_down(epoch)
            await sup.wait_ready()
        busy.set()
        await trio.testing.wait_all_tasks_blocked()
        assert [(down.epoch, down.missed) for down in seen] == [(3, 2)]
        await sup.ref("w").tell("die")
        await sup.ref("w").wait_down(1)
        await sup.wait_ready()
        assert list(sup._tree.monitors) == ["a"]
        assert len(sup._tree.monitors["a"]) == 1


async def test_a_monitor_of_an_actor_that_is_gone_tells_at_once(autojump_clock: MockClock) -> None:
    """As in OTP: who watches too late is not left waiting.  Cancelled, it takes back what was not read."""
    diary = Diary()
    taken: list[object] = []

    async def late(ctx: ActorContext) -> None:
        ref = ctx.supervisor.ref("a")
        assert await ctx.supervisor.stop_child("a") == Stopped("stop_child")
        ctx.monitor(ref).cancel()
        ctx.monitor(ref)
        taken.append((await ctx.mailbox.receive()).message)
        ctx.ready()
        await ctx.stopping.wait()

    group = SupervisorSpec(id="g", children=(diary.child("a"), ChildSpec(id="w", start=late, mailbox=1)))
    async with open_supervisor(SupervisorSpec(id="s", children=(group,))) as sup:
        await sup.wait_ready()
    assert taken == [Down(path="g/a", epoch=1, outcome=Stopped("stop_child"), gone=True)]


async def test_an_actor_finds_its_siblings_and_itself(autojump_clock: MockClock) -> None:
    """Without a word from whoever opened the tree."""
    found: list[object] = []

    async def seeker(ctx: ActorContext) -> None:
        ctx.ready()
        found.append(await ctx.supervisor.ref("a").ask(21))
        found.append(await ctx.ref("g/a").ask(1))
        found.append(ctx.supervisor.children())
        found.append(ctx.ref(ctx.path).path)
        with pytest.raises(SelfStop):
            await ctx.supervisor.stop_child(ctx.id)
        await ctx.stopping.wait()

    children = (ChildSpec(id="a", start=doubler, mailbox=1), ChildSpec(id="b", start=seeker))
    async with open_supervisor(SupervisorSpec(id="s", children=(SupervisorSpec(id="g", children=children),))) as sup:
        await sup.wait_ready()
        await trio.testing.wait_all_tasks_blocked()
    assert found == [42, 2, ("a", "b"), "g/b"]


async def test_an_unanswered_ask_says_what_is_wrong_where_it_can(autojump_clock: MockClock) -> None:
    """A path that nobody has started, and an actor that asks itself."""

    async def selfish(ctx: ActorContext) -> None:
        ctx.ready()
        async for envelope in ctx.mailbox:
            with pytest.raises(AskTimeout, match="within 3 s; it asked itself"):
                await sup.ref("a").ask("again", timeout=3)
            envelope.reply("told")

    async with open_supervisor(tree(selfish)) as sup:
        with pytest.raises(
            AskTimeout, match="'b' did not answer within 30 s, for nobody has started it; there are 'a'"
        ):
            await sup.ref("b").ask(1)
        assert await sup.ref("a").ask("go") == "told"


async def test_senders_that_are_cancelled_together_leave_no_message(autojump_clock: MockClock) -> None:
    """One that goes makes room for the next, which has been cancelled, too: it leaves as quietly."""
    spec = SupervisorSpec(id="s", children=(ChildSpec(id="a", start=forever, mailbox=1),))
    async with open_supervisor(spec) as sup:
        await sup.wait_ready()
        ref = sup.ref("a")
        for _ in range(20):  # trio shuffles whose turn it is
            with trio.move_on_after(1.0):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(ref.ask, 0)
                    await trio.testing.wait_all_tasks_blocked()
                    for number in range(1, 4):
                        nursery.start_soon(ref.tell if number % 2 else ref.ask, number)
            view = sup.snapshot().find("a")
            assert view is not None
            assert view.mailbox is not None
            assert view.mailbox["waiting"] == 0
