"""``/metrics``: what Prometheus' own parser makes of it."""

from __future__ import annotations

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from kombu_actors.fleet import Fleet, Message, Reject
from kombu_actors.fleet.program import SingleProcess
from kombu_actors.fleet.totals import MeasureView
from kombu_actors.transport.memory import memory_broker
from kombu_actors.web.exposition import Family, exposition
from tests.fleet.support import eventually

from .support import Answer, Site, run, serving


class Scrape:
    """Samples by name and labels, as Prometheus reads them."""

    def __init__(self, answer: Answer) -> None:
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        families = [*text_string_to_metric_families(answer.body)]
        self.types = {family.name: family.type for family in families}
        self.samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }
        assert all(family.documentation and family.type != "unknown" for family in families)

    def value(self, name: str, **labels: str) -> float | None:
        return self.samples.get((f"kombu_actors_{name}", frozenset(labels.items())))


async def scrape(site: Site) -> Scrape:
    return Scrape(await site.get("/metrics"))


def shop(name: str) -> SingleProcess:
    fleet = Fleet(f"memory://{name}", name="shop")

    @fleet.consumer('odd "queue"\\', concurrency=2)
    async def odd(job: str, message: Message) -> None:
        if job == "reject":
            raise Reject("no")
        await message.publish("plain", job)

    @fleet.consumer("plain")
    async def plain(job: str) -> None:
        if job == "stay":
            await trio.sleep_forever()

    return SingleProcess(fleet)


async def test_prometheus_reads_what_a_fleet_has_done() -> None:
    """Counters by queue and outcome, histograms whose last bucket is their count, gauges, states of actors, depths."""
    program, odd = shop("metrics"), 'odd "queue"\\'
    async with serving(program) as site:
        early = await scrape(site)
        assert early.value("ready") == 0
        assert early.value("processes", state="starting") == 1
    async with run(program), serving(program) as site:
        async with program.fleet.open() as client:
            for job in ("a", "b", "reject", "stay"):
                await client.publish(odd, job)
        await eventually(lambda: program.status().totals.queues[odd].count.acked == 3)
        await eventually(lambda: program.status().totals.queues["plain"].count.acked == 2)
        seen = await scrape(site)
        program.stop("the handler stays", at_once=True)
    assert seen.value("ready") == 1
    assert seen.value("messages_received_total", queue=odd) == 4
    assert seen.value("messages_processed_total", queue=odd, outcome="acked") == 3
    assert seen.value("messages_processed_total", queue=odd, outcome="dead_lettered") == 1
    assert seen.value("dead_letters_total", queue=odd, reason="rejected") == 1
    assert seen.value("dead_letters_total", queue=odd, reason="failed") == 0
    assert seen.value("messages_in_flight", queue="plain") == 1
    assert seen.value("process_duration_seconds_bucket", queue=odd, le="+Inf") == 4
    assert seen.value("process_duration_seconds_count", queue=odd) == 4
    assert seen.value("queue_wait_seconds_count", queue=odd) == 4
    assert seen.value("publish_confirm_seconds_count") == 4
    assert seen.value("dead_letter_messages", queue=odd) == 1
    assert seen.value("queue_messages", queue="plain") == 0
    assert seen.value("delayed_messages", delay="600") == 0
    assert seen.value("actors", state="ready") is not None
    assert seen.value("restart_budget_left", process="1", supervisor="work/consumers") is not None
    assert seen.value("consumer_paused", queue=odd) == 0
    assert (seen.value("last_progress_timestamp_seconds", queue=odd) or 0.0) > 1_700_000_000
    kinds = {"kombu_actors_messages_received": "counter", "kombu_actors_process_duration_seconds": "histogram"}
    assert kinds.items() <= seen.types.items()


async def test_what_the_broker_does_not_say_is_left_out() -> None:
    """While it is away there are no depths, and the scrape is answered all the same."""
    program = shop("away")
    async with run(program), serving(program) as site:
        assert (await scrape(site)).value("queue_messages", queue="plain") == 0
        memory_broker("away").refuse(True)
        memory_broker("away").cut()
        await eventually(lambda: not program.status().ready)
        seen = await scrape(site)
        assert seen.value("ready") == 0
        assert seen.value("actor_restarts_total", part="connections") is not None
        memory_broker("away").refuse(False)
        await eventually(lambda: program.status().ready)


def test_labels_and_numbers_are_escaped() -> None:
    """Names are their owners'; a value that nobody knows has no sample; a family without one isn't there."""
    one = Family("one", "gauge", "back\\slash\nline")
    one.add(1.5, name='a"b\\c\nd')
    one.add(None, name="nobody")
    times = Family("times", "histogram", "Times.")
    times.observe(MeasureView((1, 0, 2), 9.5), (0.1, 1.0))
    times.observe(None, (0.1, 1.0), queue="x")
    text = exposition([one, Family("none", "counter", "Nothing."), times])
    found = {family.name: family for family in text_string_to_metric_families(text)}
    assert set(found) == {"kombu_actors_one", "kombu_actors_times"}
    assert [sample.labels for sample in found["kombu_actors_one"].samples] == [{"name": 'a"b\\c\nd'}]
    samples = [(sample.name, sample.labels.get("le"), sample.value) for sample in found["kombu_actors_times"].samples]
    assert samples == [
        ("kombu_actors_times_bucket", "0.1", 1),
        ("kombu_actors_times_bucket", "1.0", 1),
        ("kombu_actors_times_bucket", "+Inf", 3),
        ("kombu_actors_times_sum", None, 9.5),
        ("kombu_actors_times_count", None, 3),
    ]
    with pytest.raises(ValueError, match="shorter"):
        times.observe(MeasureView((1,), 1.0), (0.1, 1.0))
