"""What is wished for, what the broker has, and who must hear: pure, a step at a time.

The broker is known in three degrees.  MAYBE stands for what nobody on our side can know, each with its reason in
docs/soak.md: another library bound or unbound behind our back, and the queue went and came back since; what it deleted
is nobody's news until our next session.
"""

from __future__ import annotations

from collections.abc import Iterator
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

__all__ = ["Traits", "Truth", "World", "matches"]


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
class World:
    """Program, broker and peer at one moment; ``apply`` moves it on."""

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

    # -- steps -----------------------------------------------------------------------------------

    def apply(self, step: Step) -> None:
        """Move on by one step that ``applies``."""
        match step:
            case DeclareExchange(side=side, name=name, type=type, durable=durable):
                wished = side is Side.OURS
                self.exchanges[name] = Exchange(type, durable, side, Truth.YES, wished)
            case DeclareQueue(side=side, name=name, kind=kind, bindings=bindings):
                self.queues[name] = Queue(kind, side, noted=set(bindings))
                self._declare_queue(name)
            case Bind(side=Side.OURS, binding=binding):
                self._tie_for_us(binding)
                if self.queues[binding.queue].takes_note:
                    self.queues[binding.queue].noted.add(binding)
            case Bind(binding=binding):
                tie = self.ties.setdefault(binding, Tie())
                tie.there, tie.of_peer, tie.contested = self._as_the_peer_binds(binding), True, False
                self._tell(binding)
            case Unbind(side=Side.OURS, binding=binding):
                self.ties[binding] = Tie()
                self.queues[binding.queue].noted.discard(binding)
            case Unbind(binding=binding):
                tie = self.ties[binding]
                tie.wished = tie.wished and not self._is_told(binding)
                tie.there, tie.of_peer, tie.contested = Truth.NO, False, tie.wished
            case DeleteQueue(side=Side.OURS, name=name):
                self._end_queue(name)
                owner = self.consumer_of(name)
                if owner is not None:
                    self.consumers[owner].orphaned.add(name)
            case DeleteQueue(name=name):
                self._lose_queue_behind_our_back(name)
            case DeleteExchange(side=side, name=name):
                self._delete_exchange(side, name)
            case Consume(name=name, channel=channel, queues=queues, no_ack=no_ack):
                for queue in queues:
                    self._declare_queue(queue)
                self.consumers[name] = Consumer(channel, list(queues), no_ack)
            case AddQueue(consumer=name, queue=queue):
                self._declare_queue(queue)
                self.consumers[name].queues.append(queue)
            case RemoveQueue(consumer=name, queue=queue):
                self._stop_consuming(name, queue)
            case Cancel(consumer=name):
                for queue in list(self.consumers[name].queues):
                    self._stop_consuming(name, queue)
                del self.consumers[name]
            case Fault(harm=harm, channel=channel):
                self._suffer(harm, channel)
            case PeerReturns():
                self._return_peer()
            case Check():
                for state in self.queues.values():
                    state.steady = state.steady or state.there is Truth.YES
            case Publish():
                pass

    def _as_the_peer_binds(self, binding: Binding) -> Truth:
        by_key = self.traits.peer_fanout_by_key and self.exchanges[binding.exchange].type == "fanout"
        return Truth.MAYBE if by_key else Truth.YES

    def _tell(self, binding: Binding) -> None:
        tie = self.ties[binding]
        if self._is_told(binding) and not tie.wished:
            tie.wished = tie.lent = True

    def _is_told(self, binding: Binding) -> bool:
        return self.traits.peer_tells and self.queues[binding.queue].side is Side.OURS

    def _suffer(self, harm: Harm, channel: int) -> None:
        if harm in (Harm.BAD_ACK, Harm.NO_EXCHANGE):
            self._lose_channel(channel)
        elif harm is Harm.RESTART:
            self._restart()
        elif harm is Harm.BLACKHOLE:
            self._perhaps_lose_session()
        elif harm is not Harm.NO_QUEUE:
            self._lose_session()

    def _declare_queue(self, name: str) -> None:
        queue = self.queues[name]
        queue.there, queue.steady = Truth.YES, True
        if queue.side is Side.PEER:
            return
        queue.wished = True
        for binding in queue.noted:
            exchange = self.exchanges[binding.exchange]
            if exchange.side is Side.OURS:
                exchange.there, exchange.wished = Truth.YES, True
            self._tie_for_us(binding)
        self._tie_what_waits()

    def _tie_for_us(self, binding: Binding) -> None:
        tie = self.ties.setdefault(binding, Tie())
        tie.there, tie.wished, tie.lent, tie.contested, tie.pending = Truth.YES, True, False, False, False

    def _end_queue(self, name: str) -> None:
        """We undid it: neither it nor its bindings come back."""
        queue = self.queues[name]
        queue.there, queue.wished = Truth.NO, False
        for binding in self._ties_to(name):
            of_peer = self.ties[binding].of_peer
            may_be = of_peer or (self.ties[binding].there is Truth.MAYBE and not self.ties[binding].wished)
            stays = may_be and self.traits.peer_bindings_outlive_queues
            self.ties[binding] = Tie(Truth.MAYBE if stays else Truth.NO, of_peer=of_peer and queue.side is Side.PEER)
            if stays:
                queue.there = Truth.MAYBE  # for a stock kombu it is as long as it has messages

    def _lose_queue_behind_our_back(self, name: str) -> None:
        queue = self.queues[name]
        if not self.traits.peer_deletes_queues:
            for binding in self._ties_to(name):
                if self.ties[binding].there is Truth.YES:
                    self.ties[binding].there = Truth.MAYBE
                    self.ties[binding].contested = True
            return
        queue.steady = False
        heard = self.consumer_of(name) is not None
        queue.there = Truth.NO if not queue.wished else Truth.YES if heard else Truth.MAYBE
        for binding in self._ties_to(name):
            tie = self.ties[binding]
            if not tie.wished or tie.lent:
                tie.there, tie.wished, tie.lent = Truth.NO, False, False
            elif heard:
                self._restore_tie(binding)
            else:
                tie.there = Truth.MAYBE

    def _delete_exchange(self, side: Side, name: str) -> None:
        exchange = self.exchanges[name]
        exchange.there = Truth.NO
        if side is Side.OURS:
            exchange.wished = False
        elif exchange.wished:
            exchange.there = Truth.MAYBE
        for binding, tie in self.ties.items():
            if binding.exchange != name:
                continue
            if tie.lent:
                tie.wished = tie.lent = False
            if side is Side.OURS:
                self.ties[binding] = Tie()
                self.queues[binding.queue].noted.discard(binding)
            else:
                tie.there, tie.pending = (exchange.there if tie.wished else Truth.NO), False

    def _stop_consuming(self, name: str, queue: str) -> None:
        consumer = self.consumers[name]
        consumer.queues.remove(queue)
        if queue in consumer.orphaned:
            consumer.orphaned.discard(queue)
        elif self.queues[queue].kind.ends_unused:
            ties = [binding for binding in self._ties_to(queue) if self.ties[binding].wished]
            self._end_queue(queue)
            for binding in ties:
                # As soon as the queue is there again: the library may remember it, and the queue's bindings.
                self.ties[binding] = Tie(Truth.MAYBE, wished=True, contested=True)
            if self.queues[queue].side is Side.PEER and not self.queues[queue].steady:
                self.queues[queue].there = Truth.MAYBE  # it goes with the last consumer, and may have had none yet

    # -- faults ------------------------------------------------------------------------------------

    def _lose_session(self) -> None:
        for name, queue in self.queues.items():
            consumed = self.consumer_of(name) is not None
            if (queue.side is Side.OURS and queue.kind.is_exclusive) or (queue.kind.ends_unused and consumed):
                self._lose_queue(name)
        self._restore_all()

    def _perhaps_lose_session(self) -> None:
        """A short black hole is over before anybody gives up: what waits for our next session may go on waiting."""
        parts: list[Exchange | Queue | Tie] = [*self.exchanges.values(), *self.queues.values(), *self.ties.values()]
        before = [part.there for part in parts]
        self._lose_session()
        for part, there in zip(parts, before, strict=True):
            if there is not Truth.YES:
                part.there = min(part.there, Truth.MAYBE)

    def _lose_channel(self, channel: int) -> None:
        for consumer in self.consumers.values():
            if consumer.channel == channel:
                for name in consumer.queues:
                    if self.queues[name].kind.ends_unused:
                        self._lose_queue(name)
                        self._restore_queue(name)

    def _restart(self) -> None:
        if self.traits.restart_keeps_all:
            self._lose_session()
            return
        for exchange in self.exchanges.values():
            if not exchange.durable:
                exchange.there = Truth.NO
        for queue in self.queues.values():
            if queue.kind is not Kind.DURABLE:
                queue.there, queue.steady = Truth.NO, False
        for binding, tie in self.ties.items():
            if min(self.exchanges[binding.exchange].there, self.queues[binding.queue].there) is Truth.NO:
                tie.there = Truth.NO
        self._restore_all()

    def _lose_queue(self, name: str) -> None:
        """It goes with its last consumer, unless the broker hears of that after the next one came."""
        queue = self.queues[name]
        queue.there, queue.steady = min(queue.there, Truth.MAYBE), False
        for binding in self._ties_to(name):
            self.ties[binding].there = min(self.ties[binding].there, Truth.MAYBE)

    def _restore_all(self) -> None:
        for exchange in self.exchanges.values():
            if exchange.wished:
                exchange.there = Truth.YES
        for name in self.queues:
            self._restore_queue(name)
        for binding, tie in self.ties.items():
            if tie.wished:
                self._restore_tie(binding)

    def _restore_queue(self, name: str) -> None:
        queue = self.queues[name]
        if queue.wished:
            queue.there = Truth.YES
        for binding in self._ties_to(name):
            if self.ties[binding].wished:
                self._restore_tie(binding)

    def _restore_tie(self, binding: Binding) -> None:
        tie = self.ties[binding]
        there = min(self.exchanges[binding.exchange].there, self.queues[binding.queue].there)
        tie.pending = there is not Truth.YES
        tie.there = min(there, Truth.MAYBE) if tie.contested else there

    def _tie_what_waits(self) -> None:
        for binding, tie in self.ties.items():
            if tie.wished and tie.pending:
                self._restore_tie(binding)

    def _return_peer(self) -> None:
        for name, exchange in self.exchanges.items():
            if exchange.side is Side.PEER and exchange.there is not Truth.YES:
                exchange.there = Truth.YES
                for binding, tie in self.ties.items():
                    if binding.exchange == name and tie.wished and not tie.pending:
                        tie.there = Truth.MAYBE  # nobody told us that it had gone with its exchange
        for queue in self.queues.values():
            if queue.side is Side.PEER and queue.there is not Truth.YES:
                queue.there, queue.steady = Truth.YES, False
        for binding in self.bindings_after_return():
            self.ties[binding].there = self._as_the_peer_binds(binding)
            self._tell(binding)
        self._tie_what_waits()

    def bindings_after_return(self) -> list[Binding]:
        """What the peer binds again when it returns: what both ends of are surely there then."""

        def there(part: Exchange | Queue) -> bool:
            return part.side is Side.PEER or part.there is Truth.YES

        return [
            binding
            for binding, tie in self.ties.items()
            if tie.of_peer and there(self.exchanges[binding.exchange]) and there(self.queues[binding.queue])
        ]

    def _ties_to(self, queue: str) -> Iterator[Binding]:
        return (binding for binding in list(self.ties) if binding.queue == queue)


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
