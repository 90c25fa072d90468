"""Traces and metrics, as OpenTelemetry's own SDK collects them in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import trio
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from kombu_actors.fleet import Batch, Fleet, Message, Reject, Retry, Snooze
from kombu_actors.fleet.telemetry import instrument
from tests.conformance.realms import Realm

from .support import PATIENCE, eventually, make_fleet, running


class Collected:
    """What an application's exporters would send."""

    def __init__(self) -> None:
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.traces, self.meters = TracerProvider(shutdown_on_exit=False), MeterProvider([self.reader])
        self.traces.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.traces.get_tracer("test")

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span

    def points(self, name: str) -> list[tuple[dict[str, Any], int]]:
        """Labels and counts of a metric."""
        data = self.reader.get_metrics_data()
        assert data is not None
        return [
            (dict(point.attributes or {}), point.count if isinstance(point, HistogramDataPoint) else int(point.value))
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
            if not hasattr(point, "positive")
        ]


@pytest.fixture
def collected() -> Iterator[Collected]:
    made = Collected()
    yield made
    made.meters.shutdown()
    made.traces.shutdown()


def instrumented(fleet: Fleet, collected: Collected) -> Fleet:
    instrument(fleet, tracer_provider=collected.traces, meter_provider=collected.meters)
    return fleet


def linked(span: ReadableSpan) -> list[int]:
    return [link.context.span_id for link in span.links]


def within(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def trace_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.trace_id)


async def test_a_request_and_its_reply_are_one_trace(realm: Realm, collected: Collected) -> None:
    """On each broker: publish, the call of the handler and what it publishes, the reply, the ack; links say what made
    what, and names and attributes are those of the conventions."""
    fleet = instrumented(make_fleet(realm, name="shop"), collected)

    @fleet.consumer("prices")
    async def price(sku: str, message: Message) -> int:
        await message.publish("audit", sku)
        return 42

    @fleet.consumer("audit")
    def audit(sku: str) -> None:
        trace.get_current_span().set_attribute("seen", sku)  # in its thread, too

    async with running(fleet), fleet.open() as client:
        with collected.tracer.start_as_current_span("page") as page:
            assert await client.request("prices", "tea", reply=int, timeout=PATIENCE) == 42
        await eventually(lambda: len(collected.named("settle audit")) == 1)
    publish, process, settle = (collected.one(f"{name} prices") for name in ("publish", "process", "settle"))
    reply, more = collected.one("publish ka.reply.{id}"), collected.one("publish audit")
    assert within(publish) == page.get_span_context().span_id
    assert (within(process), linked(process)) == (id_of(publish), [id_of(publish)])
    assert [within(one) for one in (more, reply, settle)] == [id_of(process)] * 3
    assert {trace_of(one) for one in (publish, process, more, reply, settle)} == {page.get_span_context().trace_id}
    assert [one.kind for one in (publish, process, settle)] == [SpanKind.PRODUCER, SpanKind.CONSUMER, SpanKind.CLIENT]
    # What nobody waits for begins a trace of its own, which is linked.
    later = collected.one("process audit")
    assert (within(later), linked(later)) == (None, [id_of(more)])
    assert trace_of(later) != trace_of(more)
    assert dict(later.attributes or {})["seen"] == "tea"
    said = dict(process.attributes or {})
    assert said["messaging.operation.type"] == "process"
    assert said["messaging.destination.name"] == "prices"
    assert said["messaging.message.id"] == dict(publish.attributes or {})["messaging.message.id"]
    assert said["kombu_actors.attempt"] == 1
    assert said["messaging.system"] in ("rabbitmq", "redis", "memory")
    assert dict(reply.attributes or {})["messaging.destination.temporary"] is True


async def test_attempts_are_linked_to_the_same_publication(collected: Collected) -> None:
    """A failed one is an error with its class; a snooze is none; a settlement says what it was."""
    fleet = instrumented(Fleet("memory://otel-attempts", retry=Retry(delays=(0.1,))), collected)
    snoozed = set[str]()

    @fleet.consumer("jobs")
    async def work(job: str, message: Message) -> None:
        if message.id not in snoozed:
            snoozed.add(message.id)
            raise Snooze(0.1)
        if message.attempt == 1:
            raise OSError("the disk is full")
        raise Reject("never")

    async with running(fleet), fleet.open() as client:
        await client.publish("jobs", "x")
        await eventually(lambda: len(collected.named("settle jobs")) == 3)
    publish, calls = collected.one("publish jobs"), collected.named("process jobs")
    assert [linked(call) for call in calls] == [[id_of(publish)]] * 3
    assert [dict(call.attributes or {}).get("kombu_actors.attempt") for call in calls] == [1, 1, 2]
    assert [dict(call.attributes or {}).get("error.type") for call in calls] == [None, "OSError", "Reject"]
    assert [call.status.status_code for call in calls] == [StatusCode.UNSET, StatusCode.ERROR, StatusCode.ERROR]
    settled = [dict(span.attributes or {})["kombu_actors.settlement"] for span in collected.named("settle jobs")]
    assert settled == ["snooze", "retry", "dead-letter"]
    assert [within(span) for span in collected.named("settle jobs")] == [id_of(call) for call in calls]


async def test_a_batch_is_one_call_that_is_linked_to_each_publication(collected: Collected) -> None:
    """Each message is settled by itself."""
    fleet = instrumented(Fleet("memory://otel-batch"), collected)

    @fleet.consumer("lots", batch=Batch(size=3, within=5.0))
    async def load(lots: list[str]) -> None: ...

    async with running(fleet), fleet.open() as client:
        for number in range(3):
            await client.publish("lots", str(number))
        await eventually(lambda: len(collected.named("settle lots")) == 3)
    call = collected.one("process lots")
    assert dict(call.attributes or {})["messaging.batch.message_count"] == 3
    assert sorted(linked(call)) == sorted(id_of(span) for span in collected.named("publish lots"))


async def test_the_metrics_of_the_conventions_are_counted(collected: Collected) -> None:
    """By queue and operation, failures by their class; queues for replies are one label."""
    fleet = instrumented(Fleet("memory://otel-metrics", retry=Retry(delays=())), collected)

    @fleet.consumer("prices")
    async def price(sku: str) -> int:
        return {"tea": 350}[sku]

    async with running(fleet):
        with_threads = fleet.open_sync()
        async with fleet.open() as client:
            for _ in range(2):
                await client.request("prices", "tea", timeout=PATIENCE)
            await client.publish("prices", "cake")
        await trio.to_thread.run_sync(lambda: with_threads.request("prices", "tea", timeout=PATIENCE))
        await trio.to_thread.run_sync(with_threads.close)
    assert sum(count for _, count in collected.points("messaging.client.consumed.messages")) == 4
    sent = {
        (one.get("messaging.destination.name"), count)
        for one, count in collected.points("messaging.client.sent.messages")
    }
    assert sent == {("prices", 4), (None, 3)}
    calls = {one.get("error.type"): count for one, count in collected.points("messaging.process.duration")}
    assert calls == {None: 3, "KeyError": 1}
    operations = collected.points("messaging.client.operation.duration")
    assert {(one["messaging.operation.name"], one["messaging.operation.type"]) for one, _ in operations} == {
        ("publish", "send"),
        ("settle", "settle"),
    }
    assert not any("messaging.message.id" in one for one, _ in operations)


async def test_threads_pass_on_their_own_context(collected: Collected) -> None:
    """A client for threads publishes in the trace of its caller, not of the runtime's thread."""
    fleet = instrumented(Fleet("memory://otel-threads"), collected)

    @fleet.consumer("jobs")
    async def work(job: str) -> None: ...

    def view() -> int:
        with fleet.open_sync() as client, collected.tracer.start_as_current_span("view") as span:
            client.publish("jobs", "x")
            return span.get_span_context().trace_id

    async with running(fleet):
        traced = await trio.to_thread.run_sync(view)
        await eventually(lambda: len(collected.named("settle jobs")) == 1)
    publish = collected.one("publish jobs")
    assert trace_of(publish) == traced
    assert linked(collected.one("process jobs")) == [id_of(publish)]
