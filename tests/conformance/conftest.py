"""The suite's fixtures: a broker of each kind, and a connection to it of each kind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from kombu_actors import Connection
from kombu_actors.broker import Broker

from .realms import REALMS, Realm


@pytest.fixture(params=sorted(REALMS))
def realm(request: pytest.FixtureRequest) -> Iterator[Realm]:
    """An empty broker of each kind."""
    yield from REALMS[request.param](request)


@pytest.fixture
async def broker(realm: Realm) -> AsyncIterator[Broker]:
    """A native connection to it."""
    async with realm.open_broker() as broker:
        yield broker


@pytest.fixture
def connection(realm: Realm) -> Iterator[Connection]:
    """A blocking connection to it, whose publishes return when the broker has the message."""
    with realm.connect(transport_options={"confirm_publish": True}) as connection:
        yield connection
