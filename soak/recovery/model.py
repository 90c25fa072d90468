"""What each step makes of what is wished for and of what the broker has: pure."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from .knowledge import Consumer, Exchange, Knowledge, Queue, Tie, Traits, Truth, matches
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


@attrs.define
class World(Knowledge):
    """Program, broker and peer; ``apply`` moves them on by a step."""

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
        if queue.side is Side.PEER or (queue.kind is Kind.SERVER_NAMED and queue.wished):
            return  # whoever consumes from it declares nothing: RabbitMQ takes no such name in a declaration
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
        before = [(part.there, getattr(part, "pending", False)) for part in parts]
        self._lose_session()
        for part, (there, pending) in zip(parts, before, strict=True):
            if there is not Truth.YES:
                part.there = min(part.there, Truth.MAYBE)
                if isinstance(part, Tie):
                    part.pending = pending

    def _lose_channel(self, channel: int) -> None:
        for consumer in self.consumers.values():
            if consumer.channel == channel:
                for name in consumer.queues:
                    if self.queues[name].kind.ends_unused:
                        self._lose_queue(name)
                        self._restore_queue(name)
                    for tie in map(self.ties.__getitem__, self._ties_to(name)):
                        if tie.wished:  # the peer may have undone it, which nobody told us
                            tie.there = max(tie.there, Truth.MAYBE)

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
