"""What is wished for, what the broker has, and who must hear, at one moment.

The broker is known in three degrees.  MAYBE stands for what nobody on our side can know, each with its reason in
docs/soak.md: another library bound or unbound behind our back, and the queue went and came back since; what it deleted
is nobody's news until our next session.
"""

from __future__ import annotations

from enum import IntEnum

import attrs

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

__all__ = ["Consumer", "Exchange", "Knowledge", "Queue", "Tie", "Traits", "Truth", "matches"]


class Truth(IntEnum):
    """Whether the broker has something."""

    NO = 0
    MAYBE = 1
    YES = 2


@attrs.frozen(kw_only=True)
class Traits:
    """In what brokers (and the peer's library on them) differ, as far as a program can see."""

    name: str
    harms: dict[Harm, int]
    """What can be done to it, and how often."""
    peer_types: tuple[str, ...] = ("direct", "topic", "fanout", "headers")
    peer_owns_queues: bool = True
    """A queue that the peer has declared is there (on Redis stock kombu's are, while they hold messages)."""
    peer_unbinds: bool = True
    peer_deletes_exchanges: bool = True
    peer_deletes_queues: bool = True
    """False where its deletion only empties the queue (stock kombu on Redis)."""
    restart_keeps_all: bool = False
    """A restart loses neither transient queues nor exchanges."""
    keeps_broadcasts: bool = True
    """What is published to a fanout exchange waits for a consumer that is away for a moment."""
    peer_tells: bool = False
    """Bindings to a queue of ours that the peer makes and undoes are ours: both connections are this library's."""
    peer_bindings_outlive_queues: bool = False
    """A binding of the peer's stays when we delete its queue (stock kombu's on Redis are filed by exchange only)."""
    peer_fanout_by_key: bool = False
    """The key is a part of where the peer's fanout exchanges send, and a fanout binding that the peer makes is its
    process' own matter (stock kombu on Redis)."""


@attrs.define
class Exchange:
    type: str
    durable: bool
    side: Side
    there: Truth = Truth.NO
    wished: bool = False
    """We declared it and did not delete it since."""


@attrs.define
class Queue:
    kind: Kind
    side: Side
    there: Truth = Truth.NO
    wished: bool = False
    steady: bool = True
    """Whether its consumer surely consumes: not while that is being restored."""
    noted: set[Binding] = attrs.Factory(set)
    """The bindings of our ``Queue`` object: declared whenever it is."""

    @property
    def takes_note(self) -> bool:
        """Whether our object has what we bind later, too; one with an exchange has only that, as in kombu."""
        return self.side is Side.OURS and self.kind is not Kind.BROADCAST


@attrs.define
class Tie:
    """The state of one binding."""

    there: Truth = Truth.NO
    wished: bool = False
    of_peer: bool = False
    """The peer makes it again when it returns."""
    pending: bool = False
    """Its restoration waits for one of its ends."""
    lent: bool = False
    """The peer made it and told us: with what the peer deletes it is undone."""
    contested: bool = False
    """Another library undid it behind our back: restored or not, either is right."""


@attrs.define
class Consumer:
    channel: int
    queues: list[str]
    no_ack: bool
    orphaned: set[str] = attrs.Factory(set)
    """Queues that the program deleted under it."""


@attrs.define
class Knowledge:
    """Program, broker and peer at one moment; pure."""

    traits: Traits
    exchanges: dict[str, Exchange] = attrs.Factory(dict)
    queues: dict[str, Queue] = attrs.Factory(dict)
    ties: dict[Binding, Tie] = attrs.Factory(dict)
    consumers: dict[str, Consumer] = attrs.Factory(dict)

    # -- questions -----------------------------------------------------------------------------

    def consumer_of(self, queue: str) -> str | None:
        """Who consumes from a queue: at most one."""
        return next((name for name, consumer in self.consumers.items() if queue in consumer.queues), None)

    def hears(self, queue: str) -> Truth:
        """Whether a message put into this queue reaches its consumer."""
        name = self.consumer_of(queue)
        if name is None:
            return Truth.NO
        state = self.queues[queue].there
        return min(state, Truth.MAYBE) if queue in self.consumers[name].orphaned else state

    def routed(self, exchange: str, key: str) -> dict[str, Truth]:
        """To which queues a message goes that is published to an exchange."""
        answer: dict[str, Truth] = {}
        for binding, tie in self.ties.items():
            if binding.exchange == exchange and matches(self.exchanges[exchange].type, binding.key, key):
                there = min(tie.there, self.queues[binding.queue].there)
                if self.traits.peer_fanout_by_key and self._is_peers_fanout(exchange) and key != binding.key:
                    there = min(there, Truth.MAYBE)
                answer[binding.queue] = max(there, answer.get(binding.queue, Truth.NO))
        return answer

    def _is_peers_fanout(self, exchange: str) -> bool:
        state = self.exchanges[exchange]
        return state.type == "fanout" and state.side is Side.PEER

    def keeps(self, exchange: str, key: str) -> set[str]:
        """The queues that must not lose what is published there, once it is accepted."""
        if not exchange:
            reached = {key: self.queues[key].there} if key in self.queues else {}
        elif not self.exchanges[exchange].durable or self._is_transient(exchange):
            reached = {}
        else:
            reached = self.routed(exchange, key)
        return {name for name, there in reached.items() if there is Truth.YES and self._keeps_messages(name)}

    def _is_transient(self, exchange: str) -> bool:
        return self.exchanges[exchange].type == "fanout" and not self.traits.keeps_broadcasts

    def _keeps_messages(self, queue: str) -> bool:
        name = self.consumer_of(queue)
        return self.queues[queue].kind is Kind.DURABLE and not (name and self.consumers[name].no_ack)

    def peer_has_gone(self) -> bool:
        """Whether anything of the peer's is missing."""
        parts: list[Exchange | Queue] = [*self.exchanges.values(), *self.queues.values()]
        return any(part.side is Side.PEER and part.there is not Truth.YES for part in parts)

    # -- whether a step makes sense now ------------------------------------------------------------

    def applies(self, step: Step) -> bool:
        """Whether a program could do this now; shrinking drops steps that others rest on."""
        match step:
            case DeclareExchange(name=name):
                return name not in self.exchanges
            case DeclareQueue(side=side, name=name, bindings=bindings):
                if side is Side.PEER and not self.traits.peer_owns_queues:
                    return False
                return name not in self.queues and all(self._has(binding.exchange) for binding in bindings)
            case Bind(side=Side.PEER, binding=binding) if not self._known_to_peer(binding.exchange):
                return False
            case Bind(side=side, binding=binding):
                return self._has(binding.exchange) and self._reaches(side, binding.queue) and not self._tied(binding)
            case Unbind(side=Side.PEER, binding=binding):
                return self.traits.peer_unbinds and self._tied(binding) and self._reaches(Side.PEER, binding.queue)
            case Unbind(binding=binding):
                return self._tied(binding) and self._reaches(Side.OURS, binding.queue)
            case DeleteQueue(side=side, name=name):
                return self._reaches(side, name)
            case DeleteExchange(side=Side.PEER, name=name):
                return self._has(name) and self.traits.peer_deletes_exchanges
            case DeleteExchange(name=name):
                return self._has(name) and self.exchanges[name].side is Side.OURS
            case Consume(name=name, queues=queues):
                return name not in self.consumers and all(map(self._consumable, queues))
            case AddQueue(consumer=name, queue=queue):
                return name in self.consumers and self._consumable(queue)
            case RemoveQueue(consumer=name, queue=queue):
                return name in self.consumers and queue in self.consumers[name].queues
            case Cancel(consumer=name):
                return name in self.consumers
            case Publish(exchange="", key=key):
                return key in self.queues and self._reaches(Side.PEER, key)
            case Publish(side=side, exchange=exchange):
                return self._has(exchange) and (side is Side.OURS or self._known_to_peer(exchange))
            case Fault(harm=harm):
                return harm in self.traits.harms
            case PeerReturns() | Check():
                return True

    def _known_to_peer(self, exchange: str) -> bool:
        return exchange in self.exchanges and self.exchanges[exchange].type in self.traits.peer_types

    def _has(self, exchange: str) -> bool:
        return exchange in self.exchanges and self.exchanges[exchange].there is Truth.YES

    def _tied(self, binding: Binding) -> bool:
        return binding in self.ties and self.ties[binding].there is Truth.YES

    def _reaches(self, side: Side, queue: str) -> bool:
        state = self.queues.get(queue)
        if state is None or state.there is not Truth.YES:
            return False
        name = self.consumer_of(queue)
        if name is not None and queue in self.consumers[name].orphaned:
            return False
        return side is Side.OURS or not (state.kind.is_exclusive or state.kind is Kind.BROADCAST)

    def _consumable(self, queue: str) -> bool:
        state = self.queues.get(queue)
        if state is None or self.consumer_of(queue) is not None:
            return False
        if state.side is Side.PEER:
            return state.there is Truth.YES
        return all(self._has(b.exchange) or self._is_ours(b.exchange) for b in state.noted)

    def _is_ours(self, exchange: str) -> bool:
        return exchange in self.exchanges and self.exchanges[exchange].side is Side.OURS


def matches(exchange_type: str, pattern: str, key: str) -> bool:
    """Whether an exchange of this type passes a message with the key on by the binding's key."""
    if exchange_type == "fanout":
        return True
    if exchange_type == "topic":
        return _matches_words(pattern.split("."), key.split("."))
    return pattern == key


def _matches_words(pattern: list[str], words: list[str]) -> bool:
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(_matches_words(pattern[1:], words[start:]) for start in range(len(words) + 1))
    return bool(words) and pattern[0] in ("*", words[0]) and _matches_words(pattern[1:], words[1:])
