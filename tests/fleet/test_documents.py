"""What ``to_dict`` gives is what its type says: its names, and what they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import attrs
import msgspec
import pytest
import trio

from kombu_actors.fleet import Certificate, Fleet, Message, QueueCount, Retry, documents, totals, views
from kombu_actors.fleet.depths import DelayDepth, FleetDepths, QueueDepth
from kombu_actors.fleet.program import SingleProcess
from kombu_actors.fleet.status import ProcessStatus, Status
from kombu_actors.supervisors import ChildView

from .support import PATIENCE, eventually

OF_CLASSES: Mapping[type, type] = {
    documents.CertificateDocument: Certificate,
    documents.ConsumerDocument: views.ConsumerView,
    documents.DelayDocument: DelayDepth,
    documents.DepthsDocument: FleetDepths,
    documents.FleetDocument: views.FleetView,
    documents.JobDocument: views.JobView,
    documents.LaneDocument: views.HeldLane,
    documents.MeasureDocument: totals.MeasureView,
    documents.ProcessDocument: ProcessStatus,
    documents.PublishesDocument: views.PublishesView,
    documents.QueueCountDocument: QueueCount,
    documents.QueueDepthDocument: QueueDepth,
    documents.QueueTotalsDocument: totals.QueueTotals,
    documents.SlotDocument: views.SlotView,
    documents.StatusDocument: Status,
    documents.StuckDocument: views.StuckView,
    documents.TotalsDocument: totals.Totals,
}


@pytest.mark.parametrize("document", OF_CLASSES, ids=lambda one: one.__name__)
def test_a_document_has_the_names_of_its_class(document: type) -> None:
    """None is missing, and none too much: only a certificate says besides whether it is balanced."""
    fields = {field.name for field in attrs.fields(OF_CLASSES[document])}
    more = {"balanced"} if document is documents.CertificateDocument else set()
    assert set(document.__annotations__) == fields | more


def test_a_node_of_a_tree_has_all_that_its_view_has() -> None:
    """A field that is added is added to the JSON."""
    assert list(documents.ChildDocument.__annotations__) == list(ChildView.fields)


async def test_the_json_of_a_busy_fleet_is_as_its_types_say(tmp_path: Path) -> None:
    """Status, depths and certificate: each value is of the type that its document gives."""
    fleet = Fleet("memory://documents", name="shop", retry=Retry(delays=(60.0,)))
    begun = trio.Event()

    @fleet.consumer("jobs", concurrency=2, key=lambda message: message.payload)
    async def handle(payload: str, message: Message) -> None:
        if payload == "bad":
            raise ValueError(payload)
        if payload == "long":
            begun.set()
            await trio.sleep_forever()

    @fleet.every(3600.0)
    async def tick() -> None: ...

    program = SingleProcess(fleet)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(program.run, signals=False))
            async with fleet.open() as client:
                for payload in ("good", "bad", "long", "long"):
                    await client.publish("jobs", payload)
            await begun.wait()
            await eventually(lambda: fleet.snapshot().consumers[0].count.retried == 1)
            await eventually(lambda: bool(fleet.snapshot().consumers[0].lanes))
            status = program.status()
            async with fleet.depths() as depths:
                found = await depths.look()
            program.stop("the test is over", at_once=True)
    assert program.certificate is not None
    assert_is(status.to_dict(), documents.StatusDocument)
    assert_is(found.to_dict(), documents.DepthsDocument)
    assert_is(program.certificate.to_dict(), documents.CertificateDocument)
    [process] = status.to_dict()["processes"]
    assert process["fleet"] is not None
    [consumer] = process["fleet"]["consumers"]
    assert consumer["slots"]
    assert consumer["lanes"]
    assert consumer["calls"] is not None
    assert process["fleet"]["jobs"]


def assert_is(made: Mapping[str, object], document: type) -> None:
    """As it comes over a socket, and in the process itself."""
    read = json.loads(json.dumps(made))
    assert msgspec.convert(read, document) == read
