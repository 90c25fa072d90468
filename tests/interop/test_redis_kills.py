"""A consumer of either library is killed with messages in its hands; the other library's consumers get them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.brokers import RedisNode

from .redis_crews import PEERS, Crew, Ground, ground_of, producers
from .test_redis_fleets import by_default_exchange

ROOT = Path(__file__).parent.parent.parent
HELD = 20
VISIBILITY = 2
"""Seconds after which stock kombu's messages count as abandoned, in tests that wait for it."""


@pytest.fixture
def patient(redis_server: RedisNode) -> Iterator[Ground]:
    """A ground where nothing comes back by its age: the timeout is kombu's default, an hour."""
    with ground_of(redis_server) as ground:
        yield ground


@pytest.fixture
def impatient(redis_server: RedisNode) -> Iterator[Ground]:
    """A ground where what a stock consumer took comes back soon; stock ones look for it at every chance."""
    with ground_of(redis_server, visibility_timeout=VISIBILITY, unacked_restore_throttle=1) as ground:
        yield ground


@contextmanager
def holder(ground: Ground, library: str) -> Iterator[subprocess.Popen[str]]:
    """A process of the library that has taken all messages of ``shared``; killed at the end at the latest."""
    arguments = [library, ground.url, json.dumps(ground.options), "shared", str(HELD)]
    with subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "tests.interop.redis_holder", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert [json.loads(process.stdout.readline()) for _ in range(HELD)] == list(range(HELD))
            yield process
        finally:
            process.kill()


def fill(ground: Ground) -> None:
    """Put the messages there, from both libraries."""
    with producers(ground, *PEERS) as sending:
        for number in range(HELD):
            sending[number % 2].publish(number, routing_key="shared")


@pytest.mark.parametrize("heir", PEERS)
def test_what_a_killed_process_of_ours_held_is_back_within_seconds(patient: Ground, heir: str) -> None:
    """In order, at the head of its queue, an hour before the visibility timeout: any process of ours sees to it."""
    fill(patient)
    with patient.connect("kombu_actors") as bystander, holder(patient, "kombu_actors") as process:
        bystander.connect()
        assert patient.left() == {"unacked": HELD}
        process.kill()
        killed = time.monotonic()
        with Crew(patient) as crew:
            crew.hire(heir, by_default_exchange)
            crew.wait(HELD)
        assert time.monotonic() - killed < 10
    assert crew.everything() == list(range(HELD))
    assert patient.left() == {}


@pytest.mark.parametrize(("killed", "heir"), [PEERS, PEERS[::-1]], ids=lambda name: name)
def test_what_a_killed_process_held_comes_back_after_the_visibility_timeout(
    impatient: Ground, killed: str, heir: str
) -> None:
    """Each library takes the other's unacknowledged messages for abandoned, as stock kombu does with its own."""
    fill(impatient)
    with holder(impatient, killed) as process:
        process.kill()
        with Crew(impatient) as crew:
            crew.hire(heir, by_default_exchange)
            crew.wait(HELD)
    assert sorted(crew.everything()) == list(range(HELD))
    assert impatient.left() == {}


def test_what_a_live_process_of_ours_holds_is_not_taken_by_stock(impatient: Ground) -> None:
    """Its claims are renewed: two visibility timeouts later a stock consumer that looks for abandoned ones has none."""
    fill(impatient)
    with holder(impatient, "kombu_actors"), Crew(impatient) as crew:
        crew.hire("kombu", by_default_exchange)
        deadline = time.monotonic() + 2 * VISIBILITY
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))
            assert impatient.left() == {"unacked": HELD}
            assert crew.everything() == []
