"""One broker of each transport, and both loops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
import uvloop

from tests.conformance.realms import REALMS, Realm

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


@pytest.fixture(params=["amqp", "memory", "redis"])
def realm(request: pytest.FixtureRequest) -> Iterator[Realm]:
    """One broker of each transport, empty."""
    yield from REALMS[request.param](request)


@pytest.fixture(params=LOOPS)
def new_loop(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the loop that the test runs in."""
    return LOOPS[request.param]
