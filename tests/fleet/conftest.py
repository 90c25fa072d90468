"""The fleet's tests run over one broker of each kind: in memory, RabbitMQ, Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from kombu_actors.broker import Broker
from tests.conformance.realms import REALMS, Realm


@pytest.fixture(params=["memory", "amqp", "redis"])
def realm(request: pytest.FixtureRequest) -> Iterator[Realm]:
    """An empty broker of each kind."""
    yield from REALMS[request.param](request)


@pytest.fixture
async def broker(realm: Realm) -> AsyncIterator[Broker]:
    """A native connection to it."""
    async with realm.open_broker() as broker:
        yield broker
