"""Every test runs against kombu and against kombu_actors; most in memory, on RabbitMQ and on Redis."""

from __future__ import annotations

import contextlib
import gc
import warnings
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from tests.support.brokers import RabbitMQNode, free_port

from .libraries import Library

_names = count(1)
POLLED = {"polling_interval": 0.01}
"""Seconds between two looks of kombu's memory transport at its queues; by default a whole one."""


@pytest.fixture(
    params=[
        # py-amqp forgets sockets whose connection died before it closed them.
        pytest.param("kombu", marks=pytest.mark.filterwarnings("ignore::ResourceWarning")),
        "kombu_actors",
    ]
)
def lib(request: pytest.FixtureRequest) -> Iterator[Library]:
    """The library under test."""
    yield Library(request.param)
    with warnings.catch_warnings():
        if request.param == "kombu":
            warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="package")
def shared_vhost(rabbitmq: RabbitMQNode) -> Iterator[str]:
    """One virtual host for the suite: its tests never use the same name twice."""
    rabbitmq.add_vhost("behaviour")
    yield "behaviour"
    rabbitmq.delete_vhost("behaviour")


@pytest.fixture
def broker_url(rabbitmq: RabbitMQNode, shared_vhost: str) -> str:
    """RabbitMQ."""
    return rabbitmq.url(vhost=shared_vhost)


@pytest.fixture(params=["memory", "amqp", "redis"])
def url(request: pytest.FixtureRequest) -> str:
    """A broker in memory, RabbitMQ, and an empty database of Redis."""
    if request.param == "memory":
        return f"memory://behaviour-{next(_names)}"
    found: str = request.getfixturevalue({"amqp": "broker_url", "redis": "redis_url"}[request.param])
    return found


@pytest.fixture
def dead_url() -> str:
    """Where nobody listens."""
    return f"amqp://guest:guest@127.0.0.1:{free_port()}//"


@pytest.fixture
def connect(lib: Library) -> Iterator[Callable[..., Any]]:
    """Make connections, released after the test.  Publishes wait for the broker, so that polling finds them."""
    with contextlib.ExitStack() as made:

        def connect(url: str, **options: Any) -> Any:
            wanted = {"confirm_publish": True, **(POLLED if url.startswith("memory") else {})}
            options.setdefault("transport_options", wanted)
            return made.enter_context(lib.Connection(url, **options))

        yield connect


@pytest.fixture
def connection(connect: Callable[..., Any], url: str) -> Any:
    """A connection to the broker at hand."""
    return connect(url)


@pytest.fixture
def name() -> str:
    """A name nobody else uses."""
    return f"behaviour-{next(_names)}"
