"""The program's own operations, carried out over the connection under test as programs write them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Any

import attrs

from kombu_actors import Connection, Consumer, Exchange, Queue, binding
from kombu_actors.common import Broadcast
from kombu_actors.errors import ConnectionClosed, StaleDelivery

from .model import World
from .peer import arguments_of
from .plan import CHANNELS
from .realms import Realm
from .steps import (
    AddQueue,
    Bind,
    Binding,
    Cancel,
    Consume,
    DeclareExchange,
    DeclareQueue,
    DeleteExchange,
    DeleteQueue,
    Kind,
    RemoveQueue,
    Side,
    Step,
    Unbind,
)

__all__ = ["Heard", "Operations"]


@attrs.define(eq=False)
class Heard:
    """What consumers heard: (queue, text), and when there is more."""

    texts: set[tuple[str, str]] = attrs.Factory(set)
    more: threading.Condition = attrs.Factory(threading.Condition)

    def add(self, queue: str, text: str) -> None:
        with self.more:
            self.texts.add((queue, text))
            self.more.notify_all()

    def wait_one(self, wanted: list[set[tuple[str, str]]], timeout: float) -> int | None:
        """Wait until one of these was heard whole; says which, None when none was in time."""

        def heard() -> int | None:
            return next((index for index, texts in enumerate(wanted) if texts <= self.texts), None)

        with self.more:
            self.more.wait_for(lambda: heard() is not None, max(0.0, timeout))
            return heard()


class Operations:
    """A connection with some channels, a thread that drains its events, and what was declared over it."""

    def __init__(self, realm: Realm) -> None:
        self.realm = realm
        self.world = World(realm.traits)
        self.unhandled: str | None = None
        self._heard = Heard()
        self._queues: dict[str, Any] = {}
        self._consumers: dict[str, Consumer] = {}
        self._labels: dict[str, str] = {}
        """The model's name of a queue by the tag of its consumer."""
        self._stopping = False
        self._ours: Connection = realm.connect()
        self._ours.ensure_connection(max_retries=3)
        self._channels = [self._ours.channel() for _ in range(CHANNELS)]
        self._drainer = threading.Thread(target=self._drain, name="drainer", daemon=True)
        self._drainer.start()

    def _drain(self) -> None:
        while not self._stopping:
            try:
                self._ours.drain_events(timeout=1)
            except TimeoutError:
                continue
            except self._ours.channel_errors:
                continue  # a refused publish, told once, as kombu does
            except ConnectionClosed:
                if not self._stopping:
                    raise
            except Exception as error:
                self.unhandled = f"drain_events: {type(error).__name__}: {error}"
                return

    def _operate(self, step: Step) -> None:
        channel = self._channels[0]
        match step:
            case DeclareExchange(name=name):
                self._exchange(name, step)(channel).declare()
            case DeclareQueue(name=name):
                made = self._make_queue(step)(channel)
                made.declare()
                self._queues[name] = made
            case Bind(binding=wanted):
                tie = self._binding(wanted)
                tie.bind(self._queue(wanted.queue)(channel))
                self._note(wanted, tie)
            case Unbind(binding=wanted):
                tie = self._binding(wanted)
                tie.unbind(self._queue(wanted.queue)(channel))
                self._unnote(wanted)
            case DeleteQueue(name=name):
                self._queue(name)(channel).delete()
            case DeleteExchange(name=name):
                self._exchange(name)(channel).delete()
                for wanted in [tied for tied in self.world.ties if tied.exchange == name]:
                    self._unnote(wanted)
            case Consume(name=name, channel=number, queues=queues, no_ack=no_ack):
                if name in self._consumers:
                    self._consumers[name].cancel()  # an attempt that subscribed to some of them before it failed
                consumer = Consumer(
                    self._channels[number],
                    [self._to_consume(queue) for queue in queues],
                    no_ack=no_ack,
                    on_message=self._hear,
                    tag_prefix=f"{name}.",
                )
                self._consumers[name] = consumer
                for queue, bound in zip(queues, consumer.queues, strict=True):
                    self._queues[queue] = bound
                self._consume(consumer, queues)
            case AddQueue(consumer=name, queue=queue):
                consumer = self._consumers[name]
                self._queues[queue] = consumer.add_queue(self._to_consume(queue))
                self._consume(consumer, (queue,))
            case RemoveQueue(consumer=name, queue=queue):
                self._consumers[name].cancel_by_queue(self._queues[queue])
            case Cancel(consumer=name):
                self._consumers[name].cancel()
            case _:
                raise ValueError(f"the program has no way to: {step}")

    def _exchange(self, name: str, made: DeclareExchange | None = None) -> Exchange:
        known = made or self.world.exchanges[name]
        side = made.side if made else self.world.exchanges[name].side
        return Exchange(name, type=known.type, durable=known.durable, no_declare=side is Side.PEER)

    def _binding(self, made: Binding) -> binding:
        kind = self.world.exchanges[made.exchange].type
        arguments = arguments_of(kind, made.key)
        return binding(self._exchange(made.exchange), "" if kind == "headers" else made.key, arguments, arguments)

    def _make_queue(self, step: DeclareQueue) -> Queue:
        kind = step.kind
        if kind is Kind.BROADCAST:
            return Broadcast(step.bindings[0].exchange)
        return Queue(
            "" if kind is Kind.SERVER_NAMED else step.name,
            durable=kind is Kind.DURABLE,
            exclusive=kind.is_exclusive,
            auto_delete=kind is Kind.AUTO_DELETE,
            bindings=[self._binding(made) for made in step.bindings],
        )

    def _queue(self, name: str) -> Queue:
        """The program's object; for a queue of the peer's it only names it."""
        queue: Queue = self._queues.setdefault(name, Queue(name, no_declare=True))
        return queue

    def _to_consume(self, name: str) -> Queue:
        state = self.world.queues[name]
        queue = self._queue(name)
        if state.kind is Kind.SERVER_NAMED:
            if not state.wished:
                return Queue("", durable=False, exclusive=True, bindings=list(queue.bindings))
            queue.no_declare = True  # RabbitMQ lets nobody declare a name of its own choice
        return queue

    def _note(self, made: Binding, tie: binding) -> None:
        """The program's own object knows what was bound later: declared again, it is bound again."""
        if not self.world.queues[made.queue].takes_note:
            return
        if not any(self._is(made, known) for known in self._queues[made.queue].bindings):
            self._queues[made.queue].bindings.add(tie)

    def _unnote(self, made: Binding) -> None:
        queue = self._queues.get(made.queue)
        if queue is None:
            return
        for known in [known for known in queue.bindings if self._is(made, known)]:
            queue.bindings.discard(known)
        if queue.exchange is not None and queue.exchange.name == made.exchange:
            queue.exchange = None  # a broadcast's own exchange has gone

    def _is(self, made: Binding, known: binding) -> bool:
        return known.declaration == self._binding(made).declaration

    def _consume(self, consumer: Consumer, queues: Iterable[str]) -> None:
        consumer.consume()
        for queue in queues:
            tag, _ = consumer._active[consumer._key(self._queues[queue])]
            self._labels[tag] = queue

    def _hear(self, message: Any) -> None:
        label = self._labels.get(message.delivery_info["consumer_tag"])
        while label is None:  # it came before consume() returned
            time.sleep(0.001)
            label = self._labels.get(message.delivery_info["consumer_tag"])
        text = message.payload
        if not message.acknowledged:
            try:
                message.ack()
            except StaleDelivery:
                return  # it comes again
        self._heard.add(label, text)
