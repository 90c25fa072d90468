"""The exchanges, queues and bindings of one virtual host, and the way messages take through them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

import attrs

from ..._values.model import BindingKind, BindingSpec, ExchangeSpec, QueueSpec
from ._arguments import KNOWN_EXCHANGE_ARGUMENTS, KNOWN_QUEUE_ARGUMENTS, check_equivalent, queue_policy
from ._errors import (
    Named,
    access_refused,
    command_invalid,
    inequivalent,
    not_found,
    precondition_failed,
    resource_locked,
    wire_type,
)
from ._queue import Queue, Upkeep
from ._routing import ROUTING_TABLES, Destination, RoutingTable, check_headers_binding, destination

if TYPE_CHECKING:
    from ._session import Session

ROUTES_REMEMBERED: Final = 4_096
"""Ways kept for (exchange, routing key): covers a busy program's keys in under a megabyte."""

PREDECLARED: Final = {
    "amq.direct": "direct",
    "amq.fanout": "fanout",
    "amq.topic": "topic",
    "amq.headers": "headers",
    "amq.match": "headers",
}


@attrs.define(eq=False)
class Exchange:
    """One exchange and the bindings that start at it."""

    spec: ExchangeSpec
    table: RoutingTable
    bindings: dict[BindingSpec, None] = attrs.field(factory=dict)


@attrs.define(eq=False)
class Topology:
    """Owns every exchange, queue and binding.  Size: the number of entities declared."""

    virtual_host: str
    upkeep: Upkeep
    exchanges: dict[str, Exchange] = attrs.field(factory=dict)
    queues: dict[str, Queue] = attrs.field(factory=dict)
    _arriving: dict[Destination, dict[BindingSpec, None]] = attrs.field(factory=dict)
    """Bindings by where they lead, to take them down with their destination."""
    _routes: dict[tuple[str, str], tuple[Queue, ...]] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        for name, kind in PREDECLARED.items():
            self._add_exchange(ExchangeSpec(name=name, type=kind))

    # exchanges

    def declare_exchange(self, spec: ExchangeSpec, *, passive: bool = False) -> None:
        _refuse_default(spec.name)
        if passive:
            self.exchange(spec.name)
            return
        if spec.type not in ROUTING_TABLES:
            raise command_invalid(f"unknown exchange type '{spec.type}'")
        what = self.exchange_named(spec.name)
        alternate = spec.arguments.get("alternate-exchange")
        if alternate is not None and not isinstance(alternate, str):
            raise precondition_failed(f"invalid type '{wire_type(alternate)}' for arg 'alternate-exchange' in {what}")
        found = self.exchanges.get(spec.name)
        if found is None:
            _refuse_reserved("exchange", spec.name)
            self._add_exchange(spec)
            return
        for name in ("type", "durable", "auto_delete", "internal"):
            _check_same(name, what, getattr(spec, name), getattr(found.spec, name))
        check_equivalent(KNOWN_EXCHANGE_ARGUMENTS, what, spec.arguments, found.spec.arguments)

    def delete_exchange(self, name: str, *, if_unused: bool = False) -> None:
        """Delete an exchange with all its bindings; a missing one is as good as deleted."""
        _refuse_default(name)
        if name in PREDECLARED:
            raise access_refused(f"deletion of system {self.exchange_named(name)} not allowed")
        exchange = self.exchanges.get(name)
        if exchange is None:
            return
        if if_unused and exchange.bindings:
            raise precondition_failed(f"{self.exchange_named(name)} in use")
        self._remove_exchange(exchange)

    # queues

    def declare_queue(self, spec: QueueSpec, session: Session, *, passive: bool = False, fresh: bool = False) -> Queue:
        """Find or make a queue; ``fresh`` when the broker chose the name."""
        queue = self.queues.get(spec.name)
        if passive:
            return self.usable_queue(spec.name, session)
        what = self.queue_named(spec.name)
        if queue is None:
            if not fresh:
                _refuse_reserved("queue", spec.name)
            policy = queue_policy(spec, what)
            queue = Queue(spec, policy, session if spec.exclusive else None, self.upkeep)
            self.queues[spec.name] = queue
            self._routes.clear()
        else:
            if queue.owner is not (session if spec.exclusive else None):
                raise resource_locked(what)
            for name in ("durable", "auto_delete"):
                _check_same(name, what, getattr(spec, name), getattr(queue.spec, name))
            check_equivalent(KNOWN_QUEUE_ARGUMENTS, what, spec.arguments, queue.spec.arguments)
        queue.use()
        return queue

    def delete_queue(
        self, name: str, session: Session | None, *, if_unused: bool = False, if_empty: bool = False
    ) -> int:
        """Delete a queue; return how many messages it had waiting.  A missing one had none.

        ``session`` None is the broker itself.
        """
        queue = self.queues.get(name)
        if queue is None:
            return 0
        if session is not None:
            self.usable_queue(name, session)
        if if_unused and len(queue.rotation):
            raise precondition_failed(f"{self.queue_named(name)} in use")
        if if_empty and queue.ready.count:
            raise precondition_failed(f"{self.queue_named(name)} not empty")
        queue.deleted = True
        del self.queues[name]
        self.upkeep.timers.forget(queue)
        count = queue.purge()
        self._unbind_all(self._arriving.pop((BindingKind.QUEUE.value, name), ()))
        self._routes.clear()
        for consumer in queue.rotation:
            consumer.channel.drop(consumer)
        return count

    def consumer_left(self, queue: Queue) -> None:
        """Delete an auto-delete queue after its last consumer, or start the clock of ``x-expires``."""
        if queue.deleted or len(queue.rotation):
            return
        if queue.spec.auto_delete:
            self.delete_queue(queue.spec.name, None)
        else:
            queue.use()

    # bindings

    def bind(self, binding: BindingSpec, session: Session) -> None:
        _refuse_default(binding.source)
        exchange = self.exchange(binding.source)
        self._check_destination(binding, session)
        if exchange.spec.type == "headers":
            check_headers_binding(binding.arguments)
        if binding not in exchange.bindings:
            exchange.bindings[binding] = None
            exchange.table.add(binding)
            self._arriving.setdefault(destination(binding), {})[binding] = None
            self._routes.clear()

    def unbind(self, binding: BindingSpec, session: Session) -> None:
        """Remove a binding; one that isn't there is as good as removed."""
        _refuse_default(binding.source)
        if binding.kind is BindingKind.EXCHANGE:
            _refuse_default(binding.destination)
        exchange = self.exchanges.get(binding.source)
        if exchange is not None and binding in exchange.bindings:
            if binding.kind is BindingKind.QUEUE:
                self.usable_queue(binding.destination, session)
            arriving = self._arriving[destination(binding)]
            del arriving[binding]
            if not arriving:
                del self._arriving[destination(binding)]
            self._unbind_all([binding])

    # lookups

    def exchange_named(self, name: str) -> Named:
        return Named("exchange", name, self.virtual_host)

    def queue_named(self, name: str) -> Named:
        return Named("queue", name, self.virtual_host)

    def exchange(self, name: str) -> Exchange:
        """The exchange of that name; raises 404."""
        found = self.exchanges.get(name)
        if found is None:
            raise not_found(self.exchange_named(name))
        return found

    def usable_queue(self, name: str, session: Session) -> Queue:
        """The queue of that name; raises 404, or 405 when it is another session's own."""
        found = self.queues.get(name)
        if found is None:
            raise not_found(self.queue_named(name))
        if found.owner is not None and found.owner is not session:
            raise resource_locked(self.queue_named(name))
        return found

    def last_declared(self, name: str) -> str:
        """What an empty queue name stands for; raises 404 when nothing was declared."""
        if not name:
            raise not_found("previously declared queue")
        return name

    # the way of a message

    def route(
        self, exchange: str, routing_key: str, extra_keys: tuple[str, ...], headers: Mapping[str, object]
    ) -> Iterable[Queue]:
        """The queues that get a message, each once; the caller knows that the exchange exists."""
        if extra_keys:
            keys = (routing_key, *extra_keys)
            return dict.fromkeys(queue for key in keys for queue in self._resolve(exchange, key, headers)[0])
        way = (exchange, routing_key)
        queues = self._routes.get(way)
        if queues is None:
            queues, constant = self._resolve(exchange, routing_key, headers)
            if constant:
                if len(self._routes) >= ROUTES_REMEMBERED:
                    self._routes.clear()
                self._routes[way] = queues
        return queues

    def _resolve(self, start: str, routing_key: str, headers: Mapping[str, object]) -> tuple[tuple[Queue, ...], bool]:
        """Follow bindings and alternate exchanges, each exchange once.

        Also says whether the same key will always take this way: not so once headers decided.
        """
        reached: dict[Queue, None] = {}
        seen = {start}
        waiting = [start]
        constant = True
        while waiting:
            name = waiting.pop()
            exchange = self.exchanges.get(name)
            targets: Iterable[Destination]
            following = []
            if exchange is None:
                targets = [(BindingKind.QUEUE.value, routing_key)] if name == "" else ()
            else:
                constant = constant and not exchange.table.uses_headers
                targets = exchange.table.match(routing_key, headers)
                alternate = exchange.spec.arguments.get("alternate-exchange")
                if not targets and alternate is not None:
                    following.append(alternate)
            for kind, target in targets:
                if kind == BindingKind.EXCHANGE.value:
                    following.append(target)
                elif target in self.queues:
                    reached[self.queues[target]] = None
            for target in following:
                if target not in seen:
                    seen.add(target)
                    waiting.append(target)
        return tuple(reached), constant

    # details

    def _add_exchange(self, spec: ExchangeSpec) -> None:
        self.exchanges[spec.name] = Exchange(spec, ROUTING_TABLES[spec.type]())
        self._routes.clear()

    def _remove_exchange(self, exchange: Exchange) -> None:
        self._unbind_all(self._uproot(exchange))

    def _uproot(self, exchange: Exchange) -> Iterable[BindingSpec]:
        """Take an exchange out with the bindings that start there; return those that lead there."""
        name = exchange.spec.name
        del self.exchanges[name]
        self._routes.clear()
        for binding in exchange.bindings:
            arriving = self._arriving.get(destination(binding), {})
            arriving.pop(binding, None)
            if not arriving:
                self._arriving.pop(destination(binding), None)
        return self._arriving.pop((BindingKind.EXCHANGE.value, name), ())

    def _unbind_all(self, bindings: Iterable[BindingSpec]) -> None:
        """Take bindings from their sources; auto-delete exchanges left without one go too, and so on."""
        waiting = deque(bindings)
        while waiting:
            binding = waiting.popleft()
            source = self.exchanges.get(binding.source)
            if source is None:
                continue
            del source.bindings[binding]
            source.table.discard(binding)
            self._routes.clear()
            if source.spec.auto_delete and not source.bindings:
                waiting.extend(self._uproot(source))

    def _check_destination(self, binding: BindingSpec, session: Session) -> None:
        if binding.kind is BindingKind.EXCHANGE:
            _refuse_default(binding.destination)
            self.exchange(binding.destination)
        else:
            self.usable_queue(binding.destination, session)


def _refuse_default(exchange: str) -> None:
    if not exchange:
        raise access_refused("operation not permitted on the default exchange")


def _refuse_reserved(kind: str, name: str) -> None:
    if name.startswith("amq."):
        raise access_refused(f"{kind} name '{name}' contains reserved prefix 'amq.*'")


def _check_same(argument: str, what: Named, received: object, current: object) -> None:
    if received != current:
        raise inequivalent(argument, what, received, current)
