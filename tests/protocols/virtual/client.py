"""A client of the pure broker for tests: it reads what its session is told, and remembers it."""

from __future__ import annotations

from typing import Any

import attrs

from kombu_actors._values.model import (
    BindingKind,
    BindingSpec,
    ConsumerSpec,
    Delivery,
    ExchangeSpec,
    QueueInfo,
    QueueSpec,
)
from kombu_actors.protocols._content import validate_content
from kombu_actors.protocols.virtual import (
    Channel,
    ChannelClosed,
    Confirmed,
    ConsumerCancelled,
    MessageDelivered,
    MessageReturned,
    Session,
    SessionBlocked,
    SessionClosed,
    VirtualBroker,
    new_message,
)


@attrs.define(eq=False)
class Client:
    """One session with one channel."""

    broker: VirtualBroker
    session: Session
    channel: Channel
    deliveries: list[Delivery] = attrs.field(factory=list)
    news: list[Any] = attrs.field(factory=list)
    """Everything but deliveries, in order."""

    def queue(self, name: str, arguments: dict[str, Any] | None = None, **options: Any) -> QueueInfo:
        spec = QueueSpec(name=name, arguments=arguments, **options)
        return self.channel.queue_declare(spec, fresh_name="amq.gen-fresh")

    def look(self, name: str) -> tuple[int, int]:
        """Messages waiting and consumers."""
        return self.channel.queue_declare(QueueSpec(name=name), passive=True)[1:]

    def exchange(self, name: str, kind: str = "direct", **options: Any) -> None:
        self.channel.exchange_declare(ExchangeSpec(name=name, type=kind, **options))

    def bind(self, source: str, queue: str, key: str = "", **arguments: Any) -> BindingSpec:
        binding = BindingSpec(
            kind=BindingKind.QUEUE, source=source, destination=queue, routing_key=key, arguments=arguments
        )
        self.channel.queue_bind(binding)
        return binding

    def consume(self, queue: str, tag: str = "t", *, prefetch: int = 0, **options: Any) -> None:
        self.channel.qos(prefetch_count=prefetch)
        self.channel.consume(ConsumerSpec(tag=tag, queue=queue, **options), self)

    def publish(
        self, key: str, body: bytes = b"", exchange: str = "", mandatory: bool = False, **properties: Any
    ) -> None:
        sent = validate_content(exchange, key, properties)
        self.channel.publish(new_message(exchange, key, sent, body, mandatory=mandatory))

    def get(self, queue: str, *, no_ack: bool = False) -> Delivery | None:
        found = self.channel.get(queue, no_ack=no_ack)
        return None if found is None else found[0]

    def drain(self, queue: str) -> list[bytes]:
        """Poll the queue empty."""
        bodies = []
        while (found := self.get(queue, no_ack=True)) is not None:
            bodies.append(found.body)
        return bodies

    def read(self) -> list[Delivery]:
        """Take what the session was told; return the deliveries among it."""
        fresh: list[Delivery] = []
        for effect in self.session.take_effects():
            match effect:
                case MessageDelivered(batch=batch):
                    fresh += batch
                case Confirmed(tag=tag, multiple=multiple, accepted=accepted):
                    self.news.append(("confirm", tag, multiple, accepted))
                case MessageReturned(returned=returned):
                    self.news.append(("return", returned.code, returned.body))
                case ConsumerCancelled(consumer=consumer):
                    self.news.append(("cancelled", consumer.tag))
                case ChannelClosed(error=error) | SessionClosed(error=error):
                    self.news.append((type(effect).__name__, error.reply_code))
                case SessionBlocked(reason=reason):
                    self.news.append(("blocked", reason))
        self.deliveries += fresh
        return fresh

    def heard(self) -> list[Any]:
        """All news until now, once."""
        self.read()
        news, self.news = self.news, []
        return news

    def bodies(self) -> list[bytes]:
        """Bodies of the deliveries that came since the last read."""
        return [delivery.body for delivery in self.read()]


def connect(broker: VirtualBroker) -> Client:
    session = broker.open_session()
    return Client(broker, session, session.open_channel(1))
