"""Processes meet at a broker outside of them all: Redis, for it is quick; RabbitMQ, too, where brokers differ."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.realms import REALMS, Realm


@pytest.fixture(params=["amqp", "redis"])
def each_realm(request: pytest.FixtureRequest) -> Iterator[Realm]:
    """An empty broker of each kind."""
    yield from REALMS[request.param](request)


@pytest.fixture(params=["redis"])
def realm(request: pytest.FixtureRequest) -> Iterator[Realm]:
    """An empty broker."""
    yield from REALMS[request.param](request)
