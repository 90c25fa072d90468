"""Programs without a fleet serve the tree of their connection."""

from __future__ import annotations

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from kombu_actors.broker import QueueSpec, open_broker
from kombu_actors.transport.memory import memory_broker
from kombu_actors.web import Binding, serve_status
from tests.fleet.support import PATIENCE
from tests.support.processes import free_port

from .support import Site


async def wait_status(site: Site, status: int) -> str:
    """Ask until it is ready, or isn't: what a probe does."""
    with trio.fail_after(PATIENCE):
        while (answer := await site.get("/readyz")).status != status:  # noqa: ASYNC110  # nobody tells a probe
            await trio.sleep(0.01)
    return answer.body


async def test_a_connection_is_served_with_one_call() -> None:
    """Health with the reason, the tree as JSON, metrics, the page; and nothing is left of it afterwards."""
    bind = Binding(port=free_port())
    site = Site(bind.port)
    async with open_broker("memory://trees") as broker:
        await broker.declare(QueueSpec(name="jobs"))
        async with serve_status(broker, bind, name="loader"), broker.subscribe("jobs"):
            await wait_status(site, 200)
            status = (await site.get("/status.json")).json
            assert (status["fleet"], status["state"]) == ("loader", "ready")
            tree = status["processes"][0]["fleet"]["tree"]
            assert "session" in [child["id"] for child in tree["children"]]
            metrics = {one.name for one in text_string_to_metric_families((await site.get("/metrics")).body)}
            assert {"kombu_actors_ready", "kombu_actors_actors"} <= metrics
            assert "loader" in (await site.get("/")).body
            memory_broker("trees").refuse(True)
            memory_broker("trees").cut()
            assert "session is" in await wait_status(site, 503)
            assert (await site.get("/livez")).status == 200
            memory_broker("trees").refuse(False)
            await wait_status(site, 200)
        with pytest.raises(OSError, match="all attempts to connect"):
            await site.get("/livez")


async def test_what_is_no_place_is_refused() -> None:
    """Before anything listens."""
    async with open_broker("memory://nowhere") as broker:
        with pytest.raises(ValueError, match="say HOST:PORT"):
            async with serve_status(broker, "nowhere"):
                pass


async def test_an_error_of_the_block_comes_out_bare_and_so_does_that_of_the_place() -> None:
    """No groups for who can't know that there is a nursery."""
    async with open_broker("memory://errors") as broker:
        bind = Binding(port=free_port())
        with pytest.raises(KeyError):
            async with serve_status(broker, bind):
                raise KeyError
        with bind.listen(), pytest.raises(OSError, match="listens there already"):
            async with serve_status(broker, bind):
                pass
