"""The fixtures of the tests over Redis."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.brokers import RedisNode

from .redis_crews import Ground, ground_of


@pytest.fixture
def ground(redis_server: RedisNode) -> Iterator[Ground]:
    """An empty database on the run's server."""
    with ground_of(redis_server) as ground:
        yield ground
