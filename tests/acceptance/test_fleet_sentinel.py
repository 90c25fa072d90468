"""A fleet on a Redis primary under three Sentinels: it goes, and the fleet goes on where the sentinels say."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from soak.fleet_cluster import kill_primary, stop_primary, strike_primary
from tests.support.brokers import SentinelGroup, start_sentinel_group


@pytest.fixture
def group(node_directory: Path, request: pytest.FixtureRequest) -> Iterator[SentinelGroup]:
    """Two replicas, so that the new primary has one again."""
    group = start_sentinel_group(node_directory / "fleet" / request.node.callspec.id, replicas=2)
    try:
        group.wait_ready()
        yield group
    finally:
        group.close()


@pytest.fixture
def quiet() -> Iterator[None]:
    """What is logged is what is provoked here."""
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.slow
@pytest.mark.parametrize("harm", [kill_primary, stop_primary])
async def test_the_fleet_goes_on_with_the_new_primary(
    group: SentinelGroup, harm: Callable[[SentinelGroup], None], quiet: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """The primary is killed, or stands still, under load: with one replica's word for each confirm nothing that was
    confirmed is lost, retries included, and messages are handled again within 5 s of the sentinels' choice."""
    outcome = await strike_primary(group, harm)
    with capsys.disabled():
        print(f"\n  {outcome}")
    outcome.check()
