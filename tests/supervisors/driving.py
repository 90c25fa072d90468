"""Runs random trees under a mock clock, with failures, cancellations and interrupts anywhere.

Everything follows from one number: ``python -m tests.supervisors.driving 1234 1 -v`` runs the seed 1234 again and tells
what happens in it.  The kernel's decisions are explored elsewhere, all of them; this is about the driver that carries
them out, and its rules are few: never two incarnations of an actor, no stop lost, no actor outlives the block, nobody
waits for ever, and what comes out is what went wrong.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from enum import Enum
from pathlib import Path
from types import FrameType
from typing import Any

import trio
from trio.testing import MockClock

from kombu_actors import supervisors
from kombu_actors.supervisors import (
    ActorContext,
    ActorDown,
    AskTimeout,
    AutoShutdown,
    Backoff,
    ChildSpec,
    ChildStartError,
    Escalation,
    Event,
    MailboxFull,
    OnLimit,
    Outcome,
    Restart,
    RestartLimit,
    SpecError,
    Strategy,
    Supervisor,
    SupervisorHandle,
    SupervisorSpec,
    UnknownChild,
    events,
    open_supervisor,
)

DRIVER = str(Path(supervisors.__file__).parent)
FOR_EVER = 3600.0
"""Virtual seconds after which nobody waits for anything but for ever."""
PATIENCE = 100.0
"""Virtual seconds after which a stop must be over: more than all actors of a tree may take one after the other."""
BRANCHES = ("a", "b", "c", "x", "a/a", "a/b", "b/a", "b/b")
"""Where nested supervisors may be."""
REFUSALS = (ActorDown, AskTimeout, ChildStartError, Escalation, MailboxFull, SpecError, UnknownChild)
"""What an operation may be answered with."""


class Where(Enum):
    """Where an interrupt strikes."""

    PROGRAM = "in a program's own code"
    BETWEEN = "between two steps of trio's tasks"
    DRIVER = "in the driver's own code, of whichever task that runs it"


class Boom(Exception):
    """Raised by actors and blocks that fail."""


class Book:
    """Who lives, by what the actors say themselves, and who must not."""

    def __init__(self, seed: int, verbose: bool) -> None:
        self.rng = random.Random(seed)
        self.verbose = verbose
        self.living: dict[str, int] = {}
        self.epochs: dict[str, int] = {}
        self.open: set[str] = set()
        """Started, and not reported gone for good."""
        self.stopped: set[str] = set()
        """Stopped on request: not to be started until somebody asks for it, or its supervisor starts again."""
        self.doomed: list[tuple[float, str, int]] = []
        """Until when an incarnation that was stopped, or whose start was given up, must be gone."""
        self.broken: list[str] = []
        self.interrupts: list[tuple[int, Where]] = []
        """From which checkpoint on an interrupt strikes, and where."""
        self.checkpoints = 0
        self.struck = 0

    def note(self, text: str) -> None:
        if self.verbose:
            print(f"{trio.current_time():8.3f} {text}")

    def require(self, fine: bool, rule: str) -> None:
        if not fine:
            self.note(f"BROKEN: {rule}")
            self.broken.append(rule)

    def enter(self, ctx: ActorContext) -> None:
        self.note(f"{ctx.path} {ctx.epoch} lives")
        self.require(ctx.path not in self.living, f"two incarnations of {ctx.path}")
        self.require(ctx.epoch > self.epochs.get(ctx.path, 0), f"epoch {ctx.epoch} of {ctx.path} came twice")
        self.living[ctx.path] = self.epochs[ctx.path] = ctx.epoch
        self.open.add(ctx.path)

    def leave(self, ctx: ActorContext) -> None:
        self.note(f"{ctx.path} {ctx.epoch} is gone")
        self.living.pop(ctx.path, None)

    def exited(self, path: str, outcome: Outcome) -> None:
        self.note(f"{path} is gone for good: {outcome}")
        self.open.discard(path)
        self.require(path not in self.living, f"{path} lives though it was reported gone for good")

    def doom(self, path: str) -> None:
        """Whoever lives there is to go; a nested supervisor's children go with it, one after the other."""
        for one, epoch in self.living.items():
            if one == path or one.startswith(path + "/"):
                self.doomed.append((trio.current_time() + PATIENCE, one, epoch))

    def hear(self, event: Event) -> None:
        """Hold the tree's own account against ours."""
        if isinstance(event, events.ChildStuck):
            self.require(event.epoch == self.living.get(event.path), f"{event.path} {event.epoch} is stuck, and gone")
        if not isinstance(event, events.ChildStarting):
            return
        self.require(event.path not in self.stopped, f"{event.path} was stopped, and started again")
        below = event.path + "/"
        self.stopped = {path for path in self.stopped if not path.startswith(below)}

    async def pause(self) -> None:
        """A checkpoint like any of a program: short, long, and perhaps one where an interrupt strikes."""
        self.tick(Where.PROGRAM)
        await trio.sleep(self.rng.choice((0.0, 0.0, 0.1, 0.5, 2.0)))

    def tick(self, where: Where) -> None:
        """A checkpoint; strike when it is time."""
        self.checkpoints += 1
        while self.doomed and self.doomed[0][0] < trio.current_time():
            _, path, epoch = self.doomed.pop(0)
            self.require(self.living.get(path) != epoch, f"{path} {epoch} was to stop, and goes on")
        if not self.interrupts or self.checkpoints < self.interrupts[0][0]:
            return
        wanted = self.interrupts[0][1]
        if wanted is Where.DRIVER and where is Where.BETWEEN:
            self.interrupts.pop(0)
            sys.settrace(Tracer(self.rng.randrange(1, 100), self.strike).enter)
        elif wanted is where:
            self.interrupts.pop(0)
            self.strike()

    def strike(self) -> None:
        self.struck += 1
        self.note("Ctrl-C")
        signal.raise_signal(signal.SIGINT)


class Tracer:
    """Lets something happen before one of the next lines of the driver's own code, whichever task runs it."""

    def __init__(self, lines: int, happen: Callable[[], None]) -> None:
        self.left = lines
        self.happen = happen

    def enter(self, frame: FrameType, event: str, arg: object) -> Callable[..., Any] | None:
        """The trace function for calls; a coroutine that goes on is called, too."""
        return self.line if frame.f_code.co_filename.startswith(DRIVER) else None

    def line(self, frame: FrameType, event: str, arg: object) -> Callable[..., Any] | None:
        self.left -= event == "line"
        if self.left > 0:
            return self.line
        sys.settrace(None)
        self.happen()
        return None


class Steps(trio.abc.Instrument):
    """Counts every step of every task as a checkpoint."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._book.tick(Where.BETWEEN)


class Forest:
    """Makes random specifications, with actors that enter themselves into the book."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.rng = book.rng
        self.trouble = self.rng.choice((0.0, 0.1, 0.3))
        """How likely an actor fails at each opportunity."""

    def child(self, path: str, depth: int) -> ChildSpec | SupervisorSpec:
        return self.supervisor(path, depth) if depth < 3 and self.rng.random() < 0.5 else self.actor(path)

    def actor(self, path: str) -> ChildSpec:
        rng = self.rng
        restart = rng.choice((Restart.PERMANENT, Restart.PERMANENT, Restart.TRANSIENT, Restart.TEMPORARY))
        own = restart is not Restart.TEMPORARY and rng.random() < 0.3
        return ChildSpec(
            id=path.rpartition("/")[2],
            start=self.live,
            restart=restart,
            limit=RestartLimit(max_restarts=1, on_limit=rng.choice(tuple(OnLimit)), cool_down=2.0) if own else None,
            start_timeout=rng.choice((None, 1.0, 30.0)),
            stop_grace=rng.choice((0.0, 0.3, 5.0)),
            mailbox=rng.choice((None, 1, 4)),
            on_exit=lambda outcome: self.book.exited(path, outcome),
            interruptible=rng.random() < 0.7,
        )

    def supervisor(self, path: str, depth: int) -> SupervisorSpec:
        rng = self.rng
        below = [f"{path}/{id}".lstrip("/") for id in "abc"[: rng.randrange(1, 4)]]
        children = tuple(self.child(one, depth + 1) for one in below)
        return SupervisorSpec(
            id=path.rpartition("/")[2] or "root",
            children=(lambda: children) if rng.random() < 0.3 else children,
            strategy=rng.choice(tuple(Strategy)),
            limit=RestartLimit(
                max_restarts=rng.choice((0, 2, 5, None)),
                within=10.0,
                on_limit=rng.choice(tuple(OnLimit)),
                cool_down=3.0,
            ),
            backoff=Backoff(first=rng.choice((0.0, 1.0)), base=0.5, maximum=3.0, reset_after=5.0),
            escalate=(lambda error: rng.random() < 0.2) if rng.random() < 0.2 else None,
            restart=rng.choice((Restart.PERMANENT, Restart.TRANSIENT, Restart.TEMPORARY)),
            auto_shutdown=rng.choice(tuple(AutoShutdown)),
        )

    async def live(self, ctx: ActorContext) -> None:
        """An actor's life: starting, serving, draining; any of it may fail, hang, or take too long."""
        rng, book = self.rng, self.book
        book.enter(ctx)
        try:
            await self.misfortune()
            if rng.random() < 0.03:
                await trio.sleep_forever()
            ctx.ready()
            try:
                with trio.move_on_after(rng.choice((0.5, 5.0, 600.0))):
                    await self.serve(ctx)
            except trio.Cancelled:
                asked = ctx.stopping.is_set() or ctx._incarnation.overdue
                book.require(asked, f"{ctx.path} was cancelled, and not asked to stop")
                raise
            if ctx.stopping.is_set():
                await book.pause()
            await self.misfortune()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(rng.choice((0.0, 0.0, 0.2, 2.0)))
            book.leave(ctx)

    async def serve(self, ctx: ActorContext) -> None:
        if ctx._reader is None:
            await ctx.stopping.wait()
            return
        async for envelope in ctx.mailbox:
            await self.book.pause()
            await self.misfortune()
            envelope.reply(envelope.message)

    async def misfortune(self) -> None:
        await self.book.pause()
        luck = self.rng.random()
        if luck < self.trouble / 2:
            raise Boom("an actor's")
        if luck < self.trouble:
            raise ExceptionGroup("two", [Boom("one"), Boom("other")])


class Program:
    """What a program does to a tree while it runs: anything it may, at any moment."""

    def __init__(self, book: Book, forest: Forest, supervisor: Supervisor, outside: trio.Nursery) -> None:
        self.outside = outside
        """Where tasks may go on when the tree has ended."""
        self.book = book
        self.rng = book.rng
        self.forest = forest
        self.supervisor = supervisor

    async def run(self) -> None:
        for _ in range(self.rng.randrange(1, 12)):
            await self.book.pause()
            operation = self.rng.choice(
                (self.stop, self.stop, self.start, self.start, self.restart, self.message, self.wait)
            )
            if self.rng.random() < 0.05:
                self.outside.start_soon(self.attempt, self.rng.choice((self.message, self.wait)))
            with trio.move_on_after(self.rng.choice((0.0, 0.4, 5.0, PATIENCE))):
                await self.attempt(operation)

    async def attempt(self, operation: Callable[[], Awaitable[None]]) -> None:
        try:
            await operation()
        except REFUSALS as refusal:
            self.book.note(f"refused: {refusal}")

    def handle(self) -> tuple[SupervisorHandle, str]:
        """Some supervisor that runs, and the beginning of its children's paths."""
        running = [handle for path in BRANCHES if (handle := self.supervisor.nested(path)) is not None]
        handle = self.rng.choice([self.supervisor, *running])
        return handle, f"{handle.path}/" if handle.path else ""

    def victim(self) -> str:
        return self.rng.choice(("a", "a", "b", "c", "x"))

    async def stop(self) -> None:
        handle, prefix = self.handle()
        id = self.victim()
        path = prefix + id
        if id not in handle.children():
            return
        stop = self.rng.choice((handle.stop_child, handle.remove_child))
        await trio.lowlevel.checkpoint_if_cancelled()  # past this one the stop is asked for, whatever comes
        self.book.note(f"{stop.__name__} {path}")
        self.book.stopped.add(path)
        self.book.doom(path)
        epoch = self.book.living.get(path)
        if self.rng.random() < 0.1:
            handle.remove_child_nowait(id)
            return
        with trio.move_on_after(PATIENCE - 1.0) as scope:
            await stop(id)
        self.book.require(not scope.cancelled_caught, f"the stop of {path} does not end")
        now = self.book.living.get(path)
        self.book.require(epoch is None or now != epoch, f"{path} {epoch} lives though its stop is over")

    async def start(self) -> None:
        handle, prefix = self.handle()
        path = prefix + self.victim()
        self.book.note(f"start_child {path}")
        spec = self.forest.child(path, 3 if self.rng.random() < 0.8 else 2)
        await trio.lowlevel.checkpoint_if_cancelled()
        known = path in self.book.stopped
        self.book.stopped.discard(path)
        try:
            await handle.start_child(spec)
        except (SpecError, ActorDown):
            if known:
                self.book.stopped.add(path)
            raise
        except trio.Cancelled:
            self.book.doom(path)
            raise

    async def restart(self) -> None:
        handle, prefix = self.handle()
        id = self.victim()
        self.book.note(f"restart_child {prefix + id}")
        await handle.restart_child(id, now=self.rng.random() < 0.5)

    async def message(self) -> None:
        ref = self.supervisor.ref(self.rng.choice(("a", "b", "c", "a/a", "x")))
        if self.rng.random() < 0.5:
            await ref.tell(1)
        elif self.rng.random() < 0.5:
            self.book.require(await ref.ask(2, timeout=3.0) == 2, "an ask got another's answer")
        else:
            ref.tell_nowait(3)

    async def wait(self) -> None:
        path = self.rng.choice(("", "a", "b"))
        self.supervisor.snapshot().to_dict()
        if path and self.rng.random() < 0.5:
            ref = self.supervisor.ref(path)
            await ref.wait_down(await ref.wait_ready())
        else:
            await self.supervisor.wait_ready(path)


async def block(book: Book, forest: Forest, ending: str) -> None:
    """The tree's block, in a nursery whose tasks wait for the tree and must end with it."""
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as outside:
            try:
                await inner_block(book, forest, ending, outside)
            except trio.Cancelled:
                raise
            except BaseException as error:
                failure = error
    except* KeyboardInterrupt as group:  # when the tree was over: only that nursery made a group of it
        failure = group.exceptions[0]
    except* trio.Cancelled:
        if not isinstance(failure, KeyboardInterrupt):  # else it is more than a reason to end: it is to come out
            raise
    if failure is not None:
        raise failure


async def inner_block(book: Book, forest: Forest, ending: str, outside: trio.Nursery) -> None:
    spec = forest.supervisor("", 1)
    async with open_supervisor(spec, deadline=20.0, listener=book.hear, rng=book.rng) as supervisor:
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(Program(book, forest, supervisor, outside).run)
            if ending != "leave":
                await trio.sleep(book.rng.choice((1.0, 10.0)))
        if ending == "stop":
            await supervisor.stop()
        elif ending == "raise":
            raise Boom("the block's")
        elif ending == "long":
            await trio.sleep(100.0)


async def main(book: Book, seed: int) -> None:
    forest = Forest(book)
    ending = book.rng.choice(("leave", "long", "stop", "raise", "cancel"))
    if book.rng.random() < 0.4:
        first = book.rng.randrange(1, 600)
        moments = [first, first + book.rng.randrange(1, 100)][: book.rng.randrange(1, 3)]
        book.interrupts = [(moment, book.rng.choice(tuple(Where))) for moment in moments]
    trio.lowlevel.spawn_system_task(watch, book, seed)
    try:
        with trio.move_on_after(book.rng.uniform(0.0, 20.0) if ending == "cancel" else FOR_EVER - 100.0) as scope:
            await block(book, forest, ending)
        book.require(ending == "cancel" or not scope.cancelled_caught, "the block had to be cancelled")
    except* Boom:
        book.require(ending == "raise", "an actor's failure came out of the block")
    except* Escalation as group:
        book.require(len(group.exceptions) == 1, "several escalations came out of the block")
    finally:
        book.require(not book.living, f"{sorted(book.living)} live on after the block")
        book.require(not book.open, f"nobody told that {sorted(book.open)} are gone for good")


async def watch(book: Book, seed: int) -> None:
    """Nothing can be cancelled out of a shielded wait, so a hang ends the process."""
    await trio.sleep(FOR_EVER)
    print(f"seed {seed}: somebody waits for ever; alive: {sorted(book.living)}", flush=True)
    os._exit(3)


def run(seed: int, *, verbose: bool = False) -> Book:
    """One random program; the same for the same seed."""
    # Trio's own door for deterministic tests, which it doesn't call public.
    vars(trio._core._run)["_ALLOW_DETERMINISTIC_SCHEDULING"] = True
    trio._core._run._r.seed(seed)
    book = Book(seed, verbose)
    try:
        trio.run(main, book, seed, clock=MockClock(autojump_threshold=0), instruments=[Steps(book)])
        book.require(book.struck == 0, "an interrupt was lost")
    except KeyboardInterrupt:
        book.require(book.struck > 0, "an interrupt that nobody made")
    except BaseException as error:
        book.broken.append(f"{type(error).__name__} came out: {error!r}")
        if verbose:
            raise
    finally:
        sys.settrace(None)
    return book


if __name__ == "__main__":
    first, count = int(sys.argv[1]), int(sys.argv[2])
    began = time.process_time()
    total = 0
    for seed in range(first, first + count):
        book = run(seed, verbose="-v" in sys.argv)
        total += book.checkpoints
        if book.broken:
            print(f"seed {seed}: {'; '.join(book.broken)}")
            if "-k" not in sys.argv:
                sys.exit(1)
    print(f"{count} seeds, {total:,} checkpoints, {time.process_time() - began:.1f} s of CPU")
