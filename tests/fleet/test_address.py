"""How a fleet reaches its broker: what each of its connections is opened with."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from kombu_actors.actors.connection import CONNECTION_BACKOFF
from kombu_actors.broker import open_broker
from kombu_actors.fleet._address import FAILOVER, Address
from kombu_actors.supervisors import Backoff
from kombu_actors.supervisors.events import ChildBackingOff, ChildReady, Event
from kombu_actors.transport.memory import forget_memory_broker, memory_broker

ELECTION = 0.5
"""Seconds that a cluster takes at most to elect another leader of a quorum queue."""
ASKED = Backoff(first=0.25)


def waits(url: str | list[str], **options: object) -> Backoff:
    """The waits between sessions of a fleet's connection to it."""
    backoff = Address(url, "shop", options).arguments("consuming").get("backoff", CONNECTION_BACKOFF)
    assert isinstance(backoff, Backoff)
    return backoff


@pytest.mark.parametrize(
    "url",
    [
        "amqp://one;amqp://two",
        ["amqps://one", "amqps://two", "amqps://three"],
        "amqp://one;two",
        "pyamqp://one;pyamqp://two",
        "AMQP://one;AMQP://two",
    ],
)
def test_a_cluster_is_not_dialled_again_before_it_has_elected_a_leader(url: str | list[str]) -> None:
    """The first wait is an election at least, whatever is drawn, and however long the session had served."""
    backoff = waits(url)
    for draw in (0.0, 0.5, 1.0):
        for served in (None, 1.0, 3600.0):
            assert backoff.after_failure(0, served, draw)[0] > ELECTION


@pytest.mark.parametrize("url", ["amqp://one", ["amqp://one"], "redis://one;redis://two", "sentinel://one;two"])
def test_what_is_no_cluster_of_rabbitmq_is_dialled_again_at_once(url: str | list[str]) -> None:
    """One node has nobody to elect; Sentinel has an election of its own, and tells of its end."""
    assert waits(url).delay(0, 0.0) == 0.0


def test_waits_that_were_asked_for_are_kept() -> None:
    """``options={"backoff": ...}``, with one URL or several."""
    assert waits("amqp://one;amqp://two", backoff=ASKED) == waits("amqp://one", backoff=ASKED) == ASKED


async def test_the_wait_of_a_cluster_is_kept_after_the_first_loss(autojump_clock: MockClock) -> None:
    """A session that is lost is missed for a second, a fifth less at most: nothing of it is taken for earned."""
    lost, told = list[ChildBackingOff](), trio.Event()
    waited = list[float]()

    def listen(event: Event) -> None:
        if event.path == "session" and isinstance(event, ChildBackingOff):
            lost.append(event)
        elif event.path == "session" and isinstance(event, ChildReady) and lost:
            waited.append(event.at - lost[-1].at)
            told.set()

    memory = memory_broker("address")
    try:
        async with open_broker("memory://address", backoff=FAILOVER, listener=listen):
            await trio.sleep(3)
            memory.cut()
            with trio.fail_after(10):
                await told.wait()
        assert 0.8 <= waited[0] <= 1.05
    finally:
        forget_memory_broker("address")
