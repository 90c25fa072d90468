"""One owner of what waits to be sent and of the right to send: all interleavings of threads, runtime, writer, death.

Everything that can happen between two threads with a frame of their own each, the runtime that appends, the writer
that takes its turn, the end of a channel and the death of the connection is visited, with every part that a socket
may take of a write, and an interrupt (Ctrl-C) at each point where a thread can be interrupted.  A frame is two
bytes, small and capital letter: whatever gets between them shows on the wire.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest

from kombu_actors.protocols.amqp.sender import Lone, Sender

THREADS = ("a", "b")
APPENDED = ("p", "q")
CLOSE = "z"
"""The last frame of the channel that the threads publish on."""


class Violation(AssertionError):
    """A rule was broken; the text has a shortest way there."""


def frame(letter: str) -> bytes:
    """Two bytes that belong together."""
    return (letter + letter.upper()).encode()


@dataclass(frozen=True)
class Caller:
    """A thread with one frame to send past the writer; ``holds`` the lock from ``begin`` to the end of its write."""

    name: str
    phase: str = "new"
    counts: tuple[int, ...] = ()
    answer: str = ""


@dataclass
class World:
    """Who is where.  ``wire`` is what the peer has got."""

    sender: Sender
    callers: dict[str, Caller] = field(default_factory=lambda: {name: Caller(name) for name in THREADS})
    lones: dict[str, Lone] = field(default_factory=dict)
    to_append: tuple[str, ...] = APPENDED
    appended: str = ""
    wire: bytes = b""
    sending: bytes | None = None
    """What the writer has taken and not sent yet."""
    parked: bool = True
    flush_due: bool = False
    channel: str = "open"
    dead: bool = False

    def copy(self) -> World:
        sender = type(self.sender)()
        old = self.sender
        lones = {name: Lone(lone.frames) for name, lone in self.lones.items()}
        for name, lone in self.lones.items():
            lones[name].counts.extend(lone.counts)
        sender.extend(old._waiting)
        current = next((lones[name] for name, lone in self.lones.items() if lone is old._lone), None)
        if current is None:
            current = Lone(old._lone.frames)
            current.counts.extend(old._lone.counts)
        sender._lone = current
        sender._manned, sender._sending = old._manned, old._sending
        return replace(self, sender=sender, callers=dict(self.callers), lones=lones)

    @property
    def key(self) -> tuple[object, ...]:
        sender = self.sender
        state = (tuple(sender._waiting), sender._lone.frames, tuple(sender._lone.counts), sender._sending)
        rest = (self.to_append, self.wire, self.sending, self.parked, self.flush_due, self.channel, self.dead)
        return (state, tuple(self.callers.values()), rest)

    @property
    def locked(self) -> bool:
        return any(caller.phase == "holding" for caller in self.callers.values())


Move = tuple[str, ...]


def moves(world: World, *, locking: bool = True) -> Iterator[Move]:
    """All that can happen next."""
    free = not (world.locked and locking)
    for caller in world.callers.values():
        if caller.phase == "new" and free:
            yield "begin", caller.name
        elif caller.phase == "holding":
            for count in range(3):
                yield "write", caller.name, str(count)
            yield "interrupt", caller.name
        elif caller.phase == "wrote":
            yield "return", caller.name
            yield "interrupt", caller.name
    if world.dead:
        return
    if world.channel == "closing":  # the runtime does nothing else in between
        if free:
            yield ("channel is dead",)
        return
    if world.to_append:
        yield ("append",)
    if not world.parked and world.sending is None and free:
        yield ("look",)
    for count in range(1, len(world.sending or b"") + 1):
        yield "send", str(count)
    if world.flush_due and free:
        for count in range(3):
            yield "flush", str(count)
    if world.channel == "open":
        yield ("close channel",)
    if free:
        yield ("die",)


def perform(world: World, move: Move) -> None:
    """Make one move, as ``AMQPLink`` and ``ChannelHandle`` do."""
    sender = world.sender
    match move:
        case ("begin", name):
            lone = world.lones[name] = Lone(frame(name))
            granted = world.channel != "dead" and sender.begin(lone)
            assert not (granted and world.dead), "a thread began to send over a dead connection"
            answer = "" if granted else "nothing"
            world.callers[name] = Caller(name, "holding" if granted else "gone", (), answer)
        case ("write", name, count):
            counts = world.lones[name].counts
            if int(count):
                counts.append(int(count))
                world.wire += frame(name)[: int(count)]
            world.callers[name] = Caller(name, "wrote", tuple(counts))
        case ("return", name):
            lone = world.lones[name]
            answer = "nothing" if not lone.begun else "part" if lone.torn else "all"
            world.flush_due |= answer == "part"
            world.callers[name] = Caller(name, "gone", tuple(lone.counts), answer)
        case ("interrupt", name):
            world.flush_due = True
            world.callers[name] = Caller(name, "gone", tuple(world.lones[name].counts), "interrupted")
        case ("append",):
            letter, *rest = world.to_append
            append(world, letter)
            world.to_append = tuple(rest)
        case ("look",):
            if sender.may_take:
                world.sending = sender.take()
            else:
                world.parked = True
        case ("send", count):
            assert world.sending is not None
            world.wire, rest_ = world.wire + world.sending[: int(count)], world.sending[int(count) :]
            world.sending = rest_ or None
            if not rest_:
                sender.sent()
        case ("flush", count):
            world.flush_due = False
            if sender.manned and sender.may_take:
                data = sender.take()
                world.wire += data[: int(count)]
                sender.sent(data[int(count) :])
            world.parked = world.parked and not sender.waiting
        case ("close channel",):
            append(world, CLOSE)
            world.channel = "closing"
        case ("channel is dead",):
            world.channel = "dead"
        case ("die",):
            world.dead = True
            sender.man(False)


def append(world: World, letter: str) -> None:
    world.sender.append(frame(letter))
    world.appended += letter
    world.parked = False


def check(world: World) -> None:
    """The rules that hold at every moment."""
    text = world.wire.decode()
    letters = [text[at] for at in range(0, len(text), 2)]
    whole = b"".join(map(frame, letters))
    assert whole.startswith(world.wire), f"frames interleave: {text}"
    assert len(set(letters)) == len(letters), f"a frame left twice: {text}"
    in_order = [letter for letter in letters if letter in world.appended]
    assert in_order == list(world.appended[: len(in_order)]), f"out of order: {text}, appended {world.appended}"
    if CLOSE in letters:
        after = letters[letters.index(CLOSE) + 1 :]
        assert not set(after) & set(THREADS), f"published on a channel after its end: {text}"
    for caller in world.callers.values():
        if caller.answer == "all":
            assert frame(caller.name) in world.wire, f"{caller.name} was told that all has left: {text}"
        elif caller.answer == "nothing":
            assert caller.name not in letters, f"{caller.name} was told that nothing was sent: {text}"
        elif caller.answer == "part":
            assert caller.name in letters, f"{caller.name} was told that a part has left: {text}"


def check_rest(world: World) -> None:
    """Nothing happens any more: what was accepted has left."""
    if world.dead:
        return
    text = world.wire.decode()
    due = set(world.appended) | {name for name, lone in world.lones.items() if lone.begun}
    missing = {letter for letter in due if frame(letter) not in world.wire}
    assert not missing, f"{sorted(missing)} never leave: {text}"
    assert not world.sender.waiting
    assert not world.sender.busy


def explore(kind: type[Sender] = Sender, *, locking: bool = True) -> tuple[int, int]:
    """Visit every world, breadth first; returns how many, and by how many moves."""
    sender = kind()
    sender.man(True)
    first = World(sender)
    seen: dict[tuple[object, ...], tuple[Move, ...]] = {first.key: ()}
    queue = deque([first])
    steps = 0
    while queue:
        world = queue.popleft()
        trace = seen[world.key]
        choices = list(moves(world, locking=locking))
        try:
            if all(move[0] in ("die", "close channel", "append") for move in choices):
                check_rest(world)
            for move in choices:
                steps += 1
                after = world.copy()
                perform(after, move)
                check(after)
                if after.key not in seen:
                    seen[after.key] = (*trace, move)
                    queue.append(after)
        except AssertionError as error:
            raise Violation(f"{error}; after {' / '.join(' '.join(each) for each in (*trace, move))}") from None
    return len(seen), steps


def test_frames_never_interleave_and_none_is_lost_whoever_sends_and_is_interrupted() -> None:
    """Every interleaving: whole frames on the wire, each once, the runtime's in order, nothing past a channel's end;
    who was told that it left has left, who was told nothing was sent has sent nothing, and no rest stays behind."""
    began = time.process_time()
    worlds, steps = explore()
    print(f"\n{worlds} worlds, {steps} moves, {time.process_time() - began:.1f} s")
    assert worlds > 5_000


class RestBehind(Sender):
    """Puts the rest of a thread's write behind what the runtime appended meanwhile."""

    def take(self) -> bytes:
        lone, self._lone = self._lone, Lone(b"")
        return super().take() + (lone.frames[lone.counts[0] :] if lone.torn else b"")


class TwoTurns(Sender):
    """Lets a thread send during the writer's turn."""

    def begin(self, lone: Lone) -> bool:
        self._sending, sending = False, self._sending
        granted = super().begin(lone)
        self._sending = sending
        return granted


class Overtaking(Sender):
    """Lets a thread send past what waits."""

    def begin(self, lone: Lone) -> bool:
        if self._sending or not self.manned or self._lone.torn:
            return False
        self._lone = lone
        return True


class Forgetful(Sender):
    """Forgets the rest of a write when the next thread begins."""

    def begin(self, lone: Lone) -> bool:
        self._lone = Lone(b"")
        return super().begin(lone)


class Undead(Sender):
    """Lets a thread begin when the connection is over."""

    def man(self, manned: bool) -> None:
        self._manned = True


class Lossy(Sender):
    """Gives up the part of a turn that has not left."""

    def sent(self, rest: bytes = b"") -> None:
        super().sent()


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (RestBehind, "frames interleave"),
        (TwoTurns, "frames interleave"),
        (Overtaking, "interleave"),
        (Forgetful, "frames interleave"),
        (Undead, "over a dead connection"),
        (Lossy, "interleave|never leave"),
    ],
)
def test_the_exploration_finds_what_is_planted(kind: type[Sender], says: str) -> None:
    """Each mistake that could be made breaks a rule."""
    with pytest.raises(Violation, match=says):
        explore(kind)


def test_the_drivers_lock_is_needed() -> None:
    """Without it the writer may take its turn between a thread's leave to send and its write."""
    with pytest.raises(Violation, match="interleave"):
        explore(locking=False)
