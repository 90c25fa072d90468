"""The suite's fixtures: a broker of each kind, and a connection to it of each kind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kombu_actors import Connection
from kombu_actors.broker import Broker
from tests.support.brokers import SentinelGroup, start_sentinel_group
from tests.support.proxy import FaultProxy

from .realms import REALMS, Realm


@pytest.fixture(scope="session")
def sentinel_group(node_directory: Path) -> Iterator[tuple[SentinelGroup, FaultProxy]]:
    """One group for the run, whose sentinels name a proxy as the primary; harm to clients is no reason to fail over."""
    with ExitStack() as stack:
        proxies: list[FaultProxy] = []

        def in_front(port: int) -> int:
            proxies.append(stack.enter_context(FaultProxy(port)))
            return proxies[0].port

        group = start_sentinel_group(node_directory / "sentinel", down_after=60, in_front=in_front)
        stack.callback(group.close)
        group.wait_ready()
        yield group, proxies[0]


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
