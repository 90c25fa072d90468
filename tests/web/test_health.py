"""Whether a program lives, and is ready, over HTTP."""

from __future__ import annotations

import time

from kombu_actors.fleet import Fleet
from kombu_actors.fleet.program import SingleProcess
from kombu_actors.transport.memory import memory_broker
from tests.fleet.support import eventually

from .support import run, served


def shop(name: str) -> Fleet:
    fleet = Fleet(f"memory://{name}", name="shop")

    @fleet.consumer("jobs")
    async def handle(payload: str) -> None: ...

    return fleet


async def test_ready_is_that_every_consumer_consumes() -> None:
    """503 with the reason while the broker is away, 200 before and after it; and it lives all the time."""
    program = SingleProcess(shop("health"))
    async with served(program) as site:
        early = await site.get("/readyz")
        assert (early.status, early.body) == (503, "starting\nprocess 1: it is being started\n")
    async with run(program) as site:
        assert (await site.get("/readyz")).body == "ready\n"
        memory_broker("health").refuse(True)
        memory_broker("health").cut()
        await eventually(lambda: "refuses connections" in " ".join(program.status().reasons))
        down = await site.get("/readyz")
        assert down.status == 503
        assert "refuses connections" in down.body
        assert (await site.get("/livez")).status == 200
        memory_broker("health").refuse(False)
        await eventually(lambda: program.status().ready)
        assert (await site.get("/readyz")).status == 200


async def test_the_whole_status_is_json() -> None:
    """What ``Program.status`` says, and not to be kept by caches."""
    program = SingleProcess(shop("json"))
    async with run(program) as site:
        answer = await site.get("/status.json")
        assert answer.json["state"] == "ready"
        assert answer.json["processes"][0]["fleet"]["consumers"][0]["queue"] == "jobs"
        assert answer.headers["cache-control"] == "no-store"


async def test_a_probe_costs_next_to_nothing() -> None:
    """Less than 30 ms of CPU each, of this process: asked every second it is no load."""
    program = SingleProcess(shop("cheap"))
    async with run(program) as site:
        await site.get("/readyz")
        for path in ("/livez", "/readyz", "/metrics"):
            began = time.process_time()
            for _ in range(20):
                assert (await site.get(path)).status == 200
            assert (time.process_time() - began) / 20 < 0.03


async def test_what_tells_of_messages_is_not_told_to_strangers_names() -> None:
    """A site can have its own name lead to this machine's browser; probes and scrapers may ask under any."""
    async with run(SingleProcess(shop("names"))) as site:
        for path in ("/status.json", "/events"):
            answer = await site.get(path, host="evil.example")
            assert answer.status == 421
            assert "--allow-host" in answer.body
        for path in ("/livez", "/readyz", "/metrics"):
            assert (await site.get(path, host="shop.internal")).status in (200, 503)
        assert (await site.get("/status.json")).status == 200
