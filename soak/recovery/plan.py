"""The program of a seed: pure, the same steps for the same seed and traits."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import TypeVar

from .model import Traits, World
from .steps import (
    AddQueue,
    Bind,
    Binding,
    Cancel,
    Check,
    Consume,
    DeclareExchange,
    DeclareQueue,
    DeleteExchange,
    DeleteQueue,
    Fault,
    Harm,
    Kind,
    PeerReturns,
    Publish,
    RemoveQueue,
    Side,
    Step,
    Unbind,
)

__all__ = ["CHANNELS", "FAULTS", "plan"]

_N = TypeVar("_N")
CHANNELS = 3
FAULTS = 20
OPERATIONS = (10, 30)
FIRST_OPERATIONS = 6
"""Before the first fault there is something to lose."""
TYPES = ("direct", "topic", "fanout", "headers")
KEYS = {"direct": ("a", "b"), "topic": ("a.x", "b.x", "*.x", "#"), "fanout": ("",), "headers": ("a", "b")}
PUBLISHED = {"direct": ("a", "b"), "topic": ("a.x", "b.x"), "fanout": ("",), "headers": ("a", "b")}


def plan(seed: int, traits: Traits) -> list[Step]:
    """10-30 operations and 20 faults, some checks among them, and one at the end."""
    return _Planner(seed, traits).steps()


class _Planner:
    def __init__(self, seed: int, traits: Traits) -> None:
        self.dice = random.Random(f"{traits.name} {seed}")
        self.world = World(traits)
        self.written: list[Step] = []
        self._numbers: dict[str, Iterator[int]] = {letter: count() for letter in "xqc"}

    def steps(self) -> list[Step]:
        dice = self.dice
        operations = dice.randint(*OPERATIONS)
        rest = [True] * (operations - FIRST_OPERATIONS) + [False] * FAULTS
        dice.shuffle(rest)
        for make in (self._declare_exchange, self._declare_exchange, self._declare_queue, self._declare_queue):
            self._write(make())
        self._operate_by(self._consume)
        self._operate_by(self._bind)
        for is_operation in rest:
            if is_operation:
                self._operate()
            else:
                self._harm()
                if dice.random() < 0.35:
                    self._write(Check())
        if self.world.peer_has_gone():
            self._write(PeerReturns(round(dice.uniform(0.02, 0.6), 2)))
        self._write(Check())
        return self.written

    def _write(self, step: Step | None) -> bool:
        if step is None or not self.world.applies(step):
            return False
        self.world.apply(step)
        self.written.append(step)
        return True

    def _new(self, letter: str) -> str:
        return f"{letter}{next(self._numbers[letter])}"

    # -- operations --------------------------------------------------------------------------------

    def _operate(self) -> None:
        makers: dict[Callable[[], Step | None], int] = {
            self._declare_exchange: 3 if len(self.world.exchanges) < 4 else 1,
            self._declare_queue: 5 if len(self.world.queues) < 6 else 1,
            self._consume: 7,
            self._bind: 4,
            self._unbind: 3,
            self._add_queue: 2,
            self._remove_queue: 2,
            self._cancel: 2,
            self._publish: 5,
            self._delete_queue: 1,
            self._delete_exchange: 1,
        }
        while not self._write(self.dice.choices(list(makers), list(makers.values()))[0]()):
            pass

    def _operate_by(self, make: Callable[[], Step | None]) -> None:
        for _ in range(20):  # dice may ask for what makes no sense
            if self._write(make()):
                return

    def _declare_exchange(self) -> Step:
        side = self._side(0.35)
        types = TYPES if side is Side.OURS else self.world.traits.peer_types
        return DeclareExchange(side, self._new("x"), self.dice.choice(types), self.dice.random() < 0.5)

    def _declare_queue(self) -> Step:
        side = self._side(0.25 if self.world.traits.peer_owns_queues else 0)
        name = self._new("q")
        if side is Side.PEER:
            return DeclareQueue(side, name, self.dice.choice((Kind.DURABLE, Kind.TRANSIENT, Kind.AUTO_DELETE)))
        kind = self.dice.choice(list(Kind))
        if kind is Kind.BROADCAST:
            exchange = self._broadcast_exchange()
            return DeclareQueue(side, name, kind, (Binding(exchange, name, ""),))
        bindings = {binding for _ in range(self.dice.randint(0, 2)) if (binding := self._binding_to(name))}
        return DeclareQueue(side, name, kind, tuple(sorted(bindings, key=str)))

    def _broadcast_exchange(self) -> str:
        """Where a broadcast's queue belongs: a durable fanout exchange of ours."""
        known = [
            name
            for name, exchange in self.world.exchanges.items()
            if (exchange.type, exchange.durable, exchange.side) == ("fanout", True, Side.OURS) and exchange.there
        ]
        if known:
            return self.dice.choice(known)
        name = self._new("x")
        self._write(DeclareExchange(Side.OURS, name, "fanout", True))
        return name

    def _binding_to(self, queue: str) -> Binding | None:
        if not self.world.exchanges:
            return None
        exchange = self.dice.choice(list(self.world.exchanges))
        return Binding(exchange, queue, self.dice.choice(KEYS[self.world.exchanges[exchange].type]))

    def _bind(self) -> Step | None:
        queue = self._some(self.world.queues)
        binding = queue and self._binding_to(queue)
        return Bind(self._side(0.3), binding) if binding else None

    def _unbind(self) -> Step | None:
        binding = self._some(self.world.ties)
        return Unbind(self._side(0.2), binding) if binding else None

    def _consume(self) -> Step | None:
        free = [name for name in self.world.queues if self.world.consumer_of(name) is None]
        if not free:
            return self._declare_queue()
        queues = self.dice.sample(free, min(len(free), self.dice.choice((1, 1, 2, 3))))
        return Consume(self._new("c"), self.dice.randrange(CHANNELS), tuple(queues), self.dice.random() < 0.15)

    def _add_queue(self) -> Step | None:
        consumer, queue = self._some(self.world.consumers), self._some(self.world.queues)
        return AddQueue(consumer, queue) if consumer and queue else None

    def _remove_queue(self) -> Step | None:
        consumer = self._some(self.world.consumers)
        queue = consumer and self._some(self.world.consumers[consumer].queues)
        return RemoveQueue(consumer, queue) if consumer and queue else None

    def _cancel(self) -> Step | None:
        consumer = self._some(self.world.consumers)
        return Cancel(consumer) if consumer else None

    def _publish(self) -> Step | None:
        side, number = self._side(0.3), self.dice.randint(1, 5)
        exchange = self._some(self.world.exchanges) if self.dice.random() < 0.5 else None
        if exchange:
            keys = PUBLISHED[self.world.exchanges[exchange].type]
            return Publish(side, exchange, self.dice.choice(keys), number)
        queue = self._some(self.world.queues)
        return Publish(side, "", queue, number) if queue else None

    def _delete_queue(self) -> Step | None:
        queue = self._some(self.world.queues)
        return DeleteQueue(Side.OURS, queue) if queue else None

    def _delete_exchange(self) -> Step | None:
        exchange = self._some(self.world.exchanges)
        return DeleteExchange(Side.OURS, exchange) if exchange else None

    # -- faults ------------------------------------------------------------------------------------

    def _harm(self) -> None:
        """One fault; a deletion by the peer is one, and so is its coming late after another one."""
        kind = self.dice.random()
        if kind < 0.08:
            queue = self._some(self.world.queues)
            if self._write(DeleteQueue(Side.PEER, queue) if queue else None):
                return
        elif kind < 0.14:
            exchange = self._some(self.world.exchanges)
            if self._write(DeleteExchange(Side.PEER, exchange) if exchange else None):
                return
        elif kind < 0.40 and self.world.peer_has_gone():
            self._write(PeerReturns(round(self.dice.uniform(0.02, 0.6), 2)))
            return
        harms = self.world.traits.harms
        harm = self.dice.choices(list(harms), list(harms.values()))[0]
        lasting = harm in (Harm.REFUSED, Harm.BLACKHOLE, Harm.VANISHED, Harm.ABANDONED)
        seconds = round(self.dice.uniform(0.05, 0.3), 2) if lasting else 0.0
        self._write(Fault(harm, self.dice.randrange(CHANNELS), seconds))

    # -- dice ----------------------------------------------------------------------------------------

    def _side(self, peer: float) -> Side:
        return Side.PEER if self.dice.random() < peer else Side.OURS

    def _some(self, names: Iterable[_N]) -> _N | None:
        known = list(names)
        return self.dice.choice(known) if known else None
