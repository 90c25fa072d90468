"""A fleet under load that is told to end: what had begun is done, all else is in its queue, and the sums are right."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from kombu_actors import Connection
from tests.cli.program import Program, running
from tests.support.processes import wait_until

MESSAGES, CONCURRENCY, HANDLER = 200, 20, 2.0
"""The last two as in ``loaded_fleet``."""
ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["amqp_url", "redis_url"])
def url(request: pytest.FixtureRequest) -> str:
    """A broker whose clients are processes."""
    found: str = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def loaded(url: str, tmp_path: Path) -> Iterator[Program]:
    """The fleet with all its slots at work, and ten times as many messages waiting."""
    arguments = ("run", "tests.acceptance.loaded_fleet:fleet", "--certificate", str(tmp_path / "certificate.json"))
    with running(*arguments, environment={"FLEET_URL": url, "PYTHONPATH": str(ROOT)}) as program:
        program.wait_for("is READY")
        with Connection(url, transport_options={"confirm_publish": True}) as connection:
            producer = connection.Producer()
            for number in range(MESSAGES):
                producer.publish(number, routing_key="loaded", serializer="json")
        wait_until(lambda: len(begun(program.out)) >= CONCURRENCY, timeout=20, waiting_for="the slots to be busy")
        yield program


def begun(lines: Sequence[str]) -> list[int]:
    """The messages whose handlers began."""
    return [int(line.split()[1]) for line in lines if line.startswith("began")]


def ended(lines: Sequence[str]) -> list[int]:
    """The messages whose handlers ended."""
    return [int(line.split()[1]) for line in lines if line.startswith("ended")]


def left_in_queue(url: str) -> list[int]:
    """What is in the queue, taken out of it."""
    numbers = []
    with Connection(url) as connection, connection.SimpleQueue("loaded") as queue:
        while queue.qsize():
            message = queue.get(timeout=10)
            message.ack()
            numbers.append(int(message.payload))
    return sorted(numbers)


def test_a_drain_under_load_finishes_what_has_begun_and_returns_the_rest(
    loaded: Program, url: str, tmp_path: Path
) -> None:
    """Exit 0 within the handlers' time, every message either handled once or in the queue, the certificate balanced."""
    loaded.send(signal.SIGTERM)
    began = time.monotonic()
    result = loaded.wait()
    took = time.monotonic() - began
    lines = result.out.splitlines()
    certificate = json.loads((tmp_path / "certificate.json").read_text())
    count = certificate["queues"]["loaded"]
    assert result.code == 0, result.err
    assert took < HANDLER + 3.0
    assert sorted(begun(lines)) == sorted(ended(lines))
    assert sorted(ended(lines) + left_in_queue(url)) == list(range(MESSAGES))
    assert certificate["balanced"]
    assert not certificate["cold"]
    assert count["acked"] == len(ended(lines))
    assert count["received"] == count["acked"] + count["returned"]


def test_a_second_term_ends_it_within_two_seconds_and_everything_is_back(
    loaded: Program, url: str, tmp_path: Path
) -> None:
    """Exit 1; what was cancelled is in the queue, beside what nobody had begun."""
    loaded.send(signal.SIGTERM)
    loaded.wait_for("drains")
    loaded.send(signal.SIGTERM)
    began = time.monotonic()
    result = loaded.wait()
    took = time.monotonic() - began
    done = ended(result.out.splitlines())
    certificate = json.loads((tmp_path / "certificate.json").read_text())
    assert result.code == 1, result.err
    assert took <= 2.0
    assert sorted(done + left_in_queue(url)) == list(range(MESSAGES))
    assert certificate["balanced"]
    assert certificate["cold"]
    assert certificate["queues"]["loaded"]["acked"] == len(done)
