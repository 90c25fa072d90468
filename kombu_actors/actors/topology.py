"""The topology as wished for: what was declared over one connection.

``Topology`` belongs to the connection, above every session.  ``TopologyActor`` (``declaring.py``) changes
it at its callers' word, and a ``Restorer`` (``restoring.py``) makes it so in each new session.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Literal

from .._frozen import Record
from .._values.model import BindingKind, BindingSpec, ExchangeSpec, QueueSpec
from .together import Wish
from .waitlist import Waitlist

if TYPE_CHECKING:
    from ..protocols.ledger import Entry

FORMER_NAMES = 64
"""Names of former sessions under which a queue that the broker names is still known, for programs that have read
``queue.name`` and go on using it; the first name is known for ever.  A minute of a link that is reset each second."""
DORMANT_LIMIT = 256
"""Auto-delete queues without a consumer that are remembered: programs that make a queue for each request
leave them behind by the thousand, programs that pause a consumer and go on have a few."""


class Named(Record):
    """An exchange or a queue, by its name."""

    kind: Literal["exchange", "queue"]
    name: str


Entity = Named | BindingSpec


def describe(entity: Entity) -> str:
    """An entity, for people."""
    if isinstance(entity, Named):
        return f"{entity.kind} {entity.name!r}"
    key = f" ({entity.routing_key!r})" if entity.routing_key else ""
    return f"binding {entity.source!r} -> {entity.destination!r}{key}"


class QueueNames:
    """The names of the queues that the broker names: a new one each time they are made.

    A queue goes by the name that its first declaration had, its *known* name.  Names may be asked
    for in any thread.
    """

    def __init__(self) -> None:
        self.by_known: dict[str, str] = {}
        """The current name of each; empty while there is no such queue."""
        self._known: dict[str, str] = {}
        self._former: dict[str, deque[str]] = {}
        self._watchers: dict[str, list[Callable[[str], object]]] = {}

    def known(self, name: str) -> str:
        """The known name of a queue, by any name it has or had."""
        return self._known.get(name, name)

    def current(self, name: str) -> str:
        """The name by which the broker knows a queue now, by any name it has or had."""
        known = self._known.get(name, name)
        return self.by_known.get(known, known)

    def named(self, known: str) -> None:
        """The broker has chosen the name of a queue, and may choose another one when it is made again."""
        self.by_known.setdefault(known, known)

    def concern(self, exchange: str, routing_key: str, properties: Mapping[str, object]) -> bool:
        """Whether a message goes to such a queue, or has its answer go there."""
        reply_to = properties.get("reply_to")
        return (not exchange and self.known(routing_key) in self.by_known) or (
            isinstance(reply_to, str) and self.known(reply_to) in self.by_known
        )

    def present(
        self, exchange: str, routing_key: str, properties: Mapping[str, object]
    ) -> tuple[str, dict[str, object]]:
        """The routing key and the properties of a message that these names concern, with those of this moment."""
        present, reply_to = dict(properties), properties.get("reply_to")
        if isinstance(reply_to, str):
            present["reply_to"] = self.current(reply_to)
        return (routing_key if exchange else self.current(routing_key)), present

    def following(
        self, prepare: Callable[..., object], body: bytes, properties: Mapping[str, object]
    ) -> Callable[[Entry], None]:
        """What has a publish of such a message leave with the names of its moment; ``prepare`` is the transport's."""
        # Its maker may change body and headers once it is prepared.
        kept = {**properties, "headers": deepcopy(properties.get("headers") or {})}
        return Following(self, prepare, bytes(body), kept)

    def renamed(self, known: str, current: str) -> None:
        """The broker calls it ``current`` from now on."""
        former = self._former.setdefault(known, deque())
        former.append(current)
        self._known[current] = known
        self.by_known[known] = current
        if len(former) > FORMER_NAMES:
            del self._known[former.popleft()]
        for watcher in self._watchers.get(known, ()):
            watcher(current)

    def watch(self, name: str, watcher: Callable[[str], object]) -> None:
        """Have ``watcher(new name)`` called in the runtime, which it must not block, whenever the queue is renamed."""
        self._watchers.setdefault(self.known(name), []).append(watcher)

    def forget(self, known: str) -> None:
        """The queue is wished for no more."""
        self.by_known.pop(known, None)
        self._watchers.pop(known, None)
        for name in self._former.pop(known, ()):
            del self._known[name]


class Following:
    """Has a publish that names a queue of the broker's naming leave with the name that this has by then.

    What is under way when a session is lost is sent again over the next one, where an exclusive queue has another name:
    to the former one it would be dropped, and confirmed.
    """

    __slots__ = ("_body", "_names", "_prepare", "_properties")

    def __init__(
        self, names: QueueNames, prepare: Callable[..., object], body: bytes, properties: Mapping[str, object]
    ) -> None:
        self._names = names
        self._prepare = prepare
        self._body = body
        self._properties = properties

    def __call__(self, entry: Entry) -> None:
        """Prepare it anew if a name has changed."""
        routing_key, properties = self._names.present(entry.exchange, entry.routing_key, self._properties)
        if routing_key == entry.routing_key and properties.get("reply_to") == self._properties.get("reply_to"):
            return
        route = {"exchange": entry.exchange, "routing_key": routing_key, "mandatory": entry.mandatory}
        entry.prepared = self._prepare(self._body, properties=properties, **route)
        entry.routing_key, self._properties = routing_key, properties


class Topology:
    """Desired exchanges, queues and bindings of one connection; queues under their known names.

    ``is_consumed(known name)`` tells whether a consumer of this connection wishes for a queue.
    """

    def __init__(self, is_consumed: Callable[[str], bool]) -> None:
        self.exchanges: dict[str, ExchangeSpec] = {}
        self.queues: dict[str, QueueSpec] = {}
        self.bindings: dict[BindingSpec, None] = {}
        self.names = QueueNames()
        self._is_consumed = is_consumed
        self._dormant: dict[str, None] = {}
        self.unended: set[str] = set()
        """Names of queues that went dormant while they were restored: the broker may have them all the same."""
        self._lent: set[BindingSpec] = set()
        """Bindings that another connection made; they end with what it deletes."""

    def wishes_for(self, entity: Entity) -> bool:
        """Whether it is to be restored."""
        if isinstance(entity, BindingSpec):
            return entity in self.bindings and not self._leads_to_dormant(entity)
        if entity.kind == "exchange":
            return entity.name in self.exchanges
        return entity.name in self.queues and entity.name not in self._dormant

    def outlives_consumers(self, queue: str) -> bool:
        """Whether a queue surely doesn't go with its last consumer; of one that isn't known nobody can tell."""
        spec = self.queues.get(self.names.known(queue))
        return spec is not None and not spec.auto_delete

    def exchange_declared(self, spec: ExchangeSpec) -> None:
        """Wish for it from now on."""
        self.exchanges[spec.name] = spec

    def exchange_deleted(self, name: str) -> None:
        """Forget it, and the bindings from and to it."""
        self.exchanges.pop(name, None)
        self._drop_bindings(lambda b: b.source == name or (b.kind is BindingKind.EXCHANGE and b.destination == name))

    def queue_declared(self, spec: QueueSpec, known: str) -> None:
        """Wish for it from now on.  The name in the specification is empty when the broker chose it."""
        self.queues[known] = spec
        if not spec.name:
            self.names.named(known)
        if known in self._dormant:  # it is another one, without the bindings of before
            del self._dormant[known]
            self._drop_bindings(lambda b: b.kind is BindingKind.QUEUE and b.destination == known)

    def queue_deleted(self, name: str) -> None:
        """Forget it, and the bindings to it."""
        known = self.names.known(name)
        self.queues.pop(known, None)
        self._dormant.pop(known, None)
        self.names.forget(known)
        self._drop_bindings(lambda b: b.kind is BindingKind.QUEUE and b.destination == known)

    def consumer_left(self, name: str) -> None:
        """The program ended a subscription.  With the last one an auto-delete queue goes: that is not undone.

        It stays known for a while, in case that somebody subscribes to it again: then it is restored
        with its bindings, as every consumer's queue is.
        """
        known = self.names.known(name)
        spec = self.queues.get(known)
        if spec is None or not spec.auto_delete or self._is_consumed(known):
            return
        self._dormant[known] = None
        while len(self._dormant) > DORMANT_LIMIT:
            self.queue_deleted(next(iter(self._dormant)))

    def is_dormant(self, name: str) -> bool:
        """Whether it went with its last consumer, or should have."""
        return self.names.known(name) in self._dormant

    def consumer_came(self, name: str) -> None:
        """Somebody subscribes to a queue."""
        self._dormant.pop(self.names.known(name), None)

    def bound(self, binding: BindingSpec) -> None:
        """Wish for it from now on."""
        filed = self._filed(binding)
        self.bindings[filed] = None
        self._lent.discard(filed)

    def bound_elsewhere(self, binding: BindingSpec) -> None:
        """Another connection has made it: it is wished for if what it leads to is."""
        known = self.queues if binding.kind is BindingKind.QUEUE else self.exchanges
        if binding.destination in known and binding not in self.bindings:
            self.bindings[binding] = None
            self._lent.add(binding)

    def deleted_elsewhere(self, entity: Named) -> None:
        """Another connection has deleted it: the bindings that others made are undone with it.

        What was declared and bound here is restored, in the next session or with its consumer.
        """
        kind = BindingKind.QUEUE if entity.kind == "queue" else BindingKind.EXCHANGE
        self._drop_bindings(
            lambda b: (
                b in self._lent
                and (
                    (b.kind is kind and b.destination == entity.name)
                    or (entity.kind, b.source) == ("exchange", entity.name)
                )
            )
        )

    def unbound(self, binding: BindingSpec) -> None:
        """Forget it."""
        self.bindings.pop(self._filed(binding), None)
        self._lent.discard(self._filed(binding))

    def bindings_to(self, kind: BindingKind, destination: str) -> list[BindingSpec]:
        """Bindings that lead to a queue (by its known name) or an exchange."""
        return [b for b in self.bindings if b.kind is kind and b.destination == destination]

    def in_session(self, binding: BindingSpec) -> BindingSpec:
        """The binding with the name that its queue has now."""
        return self._with_destination(binding, self.names.current)

    def entities(self) -> Iterable[Entity]:
        """What is to be restored, in an order in which it can be; bindings to known queues go with those."""
        yield from [Named("exchange", name) for name in self.exchanges]
        yield from [b for b in self.bindings if b.kind is BindingKind.EXCHANGE]
        yield from [Named("queue", name) for name in self.queues if name not in self._dormant]
        yield from [b for b in self.bindings if b.kind is BindingKind.QUEUE and b.destination not in self.queues]

    def plain_queues(self, waiting: Waitlist[Entity]) -> dict[str, Wish]:
        """The queues to be restored that we name, with their bindings; not those of which something is waiting."""
        bindings: dict[str, list[BindingSpec]] = {}
        for binding in self.bindings:
            if binding.kind is BindingKind.QUEUE:
                bindings.setdefault(binding.destination, []).append(binding)
        wishes = {name: Wish(spec, tuple(bindings.get(name, ()))) for name, spec in self.queues.items() if spec.name}
        return {
            name: wish
            for name, wish in wishes.items()
            if name not in self._dormant
            and Named("queue", name) not in waiting
            and not any(binding in waiting for binding in wish.bindings)
        }

    def _filed(self, binding: BindingSpec) -> BindingSpec:
        return self._with_destination(binding, self.names.known)

    @staticmethod
    def _with_destination(binding: BindingSpec, name: Callable[[str], str]) -> BindingSpec:
        if binding.kind is BindingKind.EXCHANGE or name(binding.destination) == binding.destination:
            return binding
        return binding.but(destination=name(binding.destination))

    def _leads_to_dormant(self, binding: BindingSpec) -> bool:
        return binding.kind is BindingKind.QUEUE and binding.destination in self._dormant

    def _drop_bindings(self, condition: Callable[[BindingSpec], bool]) -> None:
        for binding in [b for b in self.bindings if condition(b)]:
            del self.bindings[binding]
            self._lent.discard(binding)
