"""A driver on an empty database of the run's Redis server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from .driver import Client, Driver


@pytest.fixture
def client(redis_url: str) -> Iterator[Client]:
    with redis.Redis.from_url(redis_url, protocol=3) as client:
        yield client


@pytest.fixture
def driver(client: Client) -> Driver:
    return Driver(client)
