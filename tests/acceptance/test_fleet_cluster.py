"""A fleet on a RabbitMQ cluster of three: the node that it talks to goes, and it goes on over another one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from kombu_actors.broker import QueueSpec, open_broker
from kombu_actors.errors import NotFound
from kombu_actors.fleet import Fleet, Reject
from soak.fleet_cluster import HARMS, PATIENCE, Harm, Site, cut_off, kill, mend, running_cluster, stop, strike


@pytest.fixture(scope="module")
def site(node_directory: Path) -> Iterator[Site]:
    """All running."""
    with running_cluster(node_directory / "cluster") as site:
        yield site


@pytest.fixture
def quiet() -> Iterator[None]:
    """What is logged is what is provoked here."""
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.slow
@pytest.mark.parametrize(("harm", "delay"), [(cut_off, 0.3), (stop, 0.31), (kill, 0.32)])
async def test_the_fleet_goes_on_over_another_node(
    site: Site, harm: Harm, delay: float, quiet: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """The node that it and its publishers talk to, which leads the queue and has that of the retries, is cut off,
    stands still, is killed, under load: nothing that was confirmed is lost, retries included, and messages are handled
    again within 5 s of the cluster serving the queue; of a node that is silent, within 5 s of two missed heartbeats.
    Retries wait on another node meanwhile."""
    outcome = await strike(site, harm, HARMS[harm], delay)
    with capsys.disabled():
        print(f"\n  {outcome}")
    outcome.check()


@pytest.mark.slow
async def test_a_fleet_begins_while_the_node_of_its_dead_letters_is_down(site: Site, quiet: None) -> None:
    """They are in a classic queue, unless the virtual host says otherwise: it is away with its node.  Messages are
    handled all the same, and what dies meanwhile is a dead letter when the node is back."""
    first, second, third = site.cluster.nodes
    async with open_broker(second.url()) as broker:
        await broker.declare(QueueSpec(name="late", type="quorum"))
    async with open_broker(first.url()) as broker:
        await broker.declare(QueueSpec(name="late.dead", type="classic"))
    first.kill9()
    fleet = Fleet([second.url(), third.url()], name="late")
    done, good = trio.open_memory_channel[str](10)

    @fleet.consumer(QueueSpec(name="late", type="quorum"))
    async def handle(text: str) -> None:
        if text == "bad":
            raise Reject("it is bad")
        await done.send(text)

    with trio.fail_after(2 * PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(fleet.run)
            async with fleet.open() as client, fleet.dead_letters("late") as dead:
                for text in ("bad", "good"):
                    await client.publish("late", text)
                assert await good.receive() == "good"
                with pytest.raises(NotFound):
                    await dead.count()
                await mend(site, 0)
                while await dead.count() == 0:  # noqa: ASYNC110  # its return is waited for, a second and more
                    await trio.sleep(0.1)
                (letter,) = await dead.list()
                assert (letter.payload, letter.reason) == ("bad", "it is bad")
            fleet.drain("the test is over")
