"""Traces and metrics of a fleet for OpenTelemetry, by its semantic conventions for messaging (v1.44).

    from kombu_actors.fleet.telemetry import instrument

    instrument(fleet)

It takes the extra ``kombu-actors[otel]``, which is the API alone: the program chooses the SDK and its exporters.

* ``publish {destination}`` (PRODUCER) is the time until the confirm.  Its context travels in the message's headers.
* ``process {destination}`` (CONSUMER) is a call of the handler.  It begins a trace of its own that *links* to where its
  messages were published, because hours may lie between; that of a request is in the trace of who asks.
* ``settle {destination}`` (CLIENT) is the ack, with the publication of a retry or dead letter before.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version

from opentelemetry import context, propagate, trace
from opentelemetry.context import Context
from opentelemetry.metrics import Histogram, MeterProvider, get_meter
from opentelemetry.trace import Link, Span, SpanKind, StatusCode, TracerProvider

from .._native.opening import endpoints_and_transport
from ..supervisors._interrupts import protected
from ._tracing import Settlement
from .fleet import Fleet
from .message import Message
from .policy import Snooze

__all__ = ["instrument"]

SCHEMA = "https://opentelemetry.io/schemas/1.44.0"
TEMPORARY = "ka.reply."
"""How queues for replies begin: each client has its own, and a metric must not have one label for each."""
SYSTEMS = {"amqp": "rabbitmq", "amqps": "rabbitmq", "pyamqp": "rabbitmq", "pyamqps": "rabbitmq", "memory": "memory"}

Attributes = dict[str, str | int | bool]


def instrument(
    fleet: Fleet, *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
) -> None:
    """Have what a fleet does told to OpenTelemetry: its handlers, and the clients that are opened from now on.

    Call it where the fleet is made, so that worker processes do, too; providers that are None are the global ones.
    """
    fleet.tracing = Telemetry(fleet, tracer_provider, meter_provider)


@protected
class Telemetry:
    """Makes the spans of one fleet."""

    def __init__(self, fleet: Fleet, traces: TracerProvider | None, meters: MeterProvider | None) -> None:
        self._tracer = trace.get_tracer("kombu_actors", version("kombu-actors"), traces, SCHEMA)
        meter = get_meter("kombu_actors", version("kombu-actors"), meters, SCHEMA)
        self._operations = meter.create_histogram("messaging.client.operation.duration", "s")
        self._processes = meter.create_histogram("messaging.process.duration", "s")
        self._sent = meter.create_counter("messaging.client.sent.messages", "{message}")
        self._consumed = meter.create_counter("messaging.client.consumed.messages", "{message}")
        self._broker = broker_attributes(fleet)

    @contextmanager
    def publishing(
        self, destination: str, *, message_id: str | None, conversation_id: str | None, because: Message | None
    ) -> Iterator[Mapping[str, str]]:
        """See ``Tracing``."""
        more: Attributes = {} if conversation_id is None else {"messaging.message.conversation_id": conversation_id}
        if message_id is not None:
            more["messaging.message.id"] = message_id
        labels = self._labels("publish", "send", destination)
        try:
            parent = None if because is None else traced(because)
            with self._span(SpanKind.PRODUCER, destination, labels, more, self._operations, parent):
                carrier: dict[str, str] = {}
                propagate.inject(carrier)
                yield carrier
        finally:
            self._sent.add(1, labels)

    @contextmanager
    def processing(self, messages: Sequence[Message]) -> Iterator[None]:
        """See ``Tracing``."""
        first = messages[0]
        labels = self._labels("process", "process", first.queue)
        more: Attributes = {"messaging.batch.message_count": len(messages)} if len(messages) > 1 else about(first)
        origins = [origin(message) for message in messages]
        links = [Link(made) for each in origins if (made := trace.get_current_span(each).get_span_context()).is_valid]
        # Baggage goes on; the span that the slot happened to be started in is nobody's cause.
        parent = origins[0] if first.asked else trace.set_span_in_context(trace.INVALID_SPAN, origins[0])
        self._consumed.add(len(messages), labels)
        with self._span(SpanKind.CONSUMER, first.queue, labels, more, self._processes, parent, links):
            for message in messages:
                message._trace = context.get_current()
            yield

    @contextmanager
    def settling(self, message: Message, how: Settlement) -> Iterator[None]:
        """See ``Tracing``."""
        labels = self._labels("settle", "settle", message.queue)
        more: Attributes = {**about(message), "kombu_actors.settlement": how}
        with self._span(SpanKind.CLIENT, message.queue, labels, more, self._operations, traced(message)):
            yield

    def _labels(self, name: str, kind: str, destination: str) -> Attributes:
        """What is of few values, and so may be of metrics, too."""
        labels = {**self._broker, "messaging.operation.name": name, "messaging.operation.type": kind}
        if destination.startswith(TEMPORARY):
            return {**labels, "messaging.destination.template": TEMPORARY + "{id}"}
        return {**labels, "messaging.destination.name": destination}

    @contextmanager
    def _span(
        self,
        kind: SpanKind,
        destination: str,
        labels: Attributes,
        more: Attributes,
        durations: Histogram,
        parent: Context | None = None,
        links: Sequence[Link] = (),
    ) -> Iterator[Span]:
        template = labels.get("messaging.destination.template")
        if template is not None:
            more = {**more, "messaging.destination.name": destination, "messaging.destination.temporary": True}
        name = f"{labels['messaging.operation.name']} {template or destination}"
        span = self._tracer.start_span(name, parent, kind, {**labels, **more}, links)
        token = context.attach(trace.set_span_in_context(span, parent))
        began = time.perf_counter()
        try:
            yield span
        except BaseException as error:
            if not isinstance(error, Snooze):  # later is no failure
                labels = {**labels, "error.type": type(error).__qualname__}
                span.set_attribute("error.type", type(error).__qualname__)
                span.set_status(StatusCode.ERROR, str(error))
                span.record_exception(error)
            raise
        finally:
            context.detach(token)
            span.end()
            durations.record(time.perf_counter() - began, labels)


def broker_attributes(fleet: Fleet) -> Attributes:
    """What is the same for all that a fleet does."""
    address = fleet._address
    options = address.options
    endpoints, _ = endpoints_and_transport(address.url, options.get("tls"), options.get("transport_options"))
    only = endpoints[0]
    found: Attributes = {"messaging.system": SYSTEMS.get(only.scheme, "redis")}
    if len(endpoints) == 1 and only.port is not None:
        found.update({"server.address": only.host, "server.port": only.port})
    return found


def about(message: Message) -> Attributes:
    """What tells a message from others."""
    found: Attributes = {"messaging.message.id": message.id, "kombu_actors.attempt": message.attempt}
    if message.correlation_id is not None:
        found["messaging.message.conversation_id"] = message.correlation_id
    return found


def traced(message: Message) -> Context:
    """The context of the call of its handler, or of its publication when none could be called."""
    return message._trace if isinstance(message._trace, Context) else origin(message)


def origin(message: Message) -> Context:
    """The context in which a message was published, as its headers have it."""
    carrier = {name: value for name, value in message.headers.items() if isinstance(value, str)}
    return propagate.extract(carrier, Context())
