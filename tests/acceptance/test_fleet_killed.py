"""Kill -9 of broker and worker at random instants while a fleet retries: the short form of ``soak/fleet_retries``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import trio

from kombu_actors.broker import Delivered, QueueSpec, open_broker
from kombu_actors.fleet import Fleet
from soak.fleet_retries import Node, play


def started(transport: str, request: pytest.FixtureRequest) -> Node:
    """A broker that may be killed, and keeps what it has confirmed."""
    if transport == "amqp":
        own_rabbitmq: Callable[..., Node] = request.getfixturevalue("own_rabbitmq")
        return own_rabbitmq()
    own_redis: Callable[..., Node] = request.getfixturevalue("own_redis")
    return own_redis(durable=True)


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["amqp", "redis"])
def test_retries_lose_and_repeat_nothing_that_no_kill_explains(
    transport: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Each of 120 messages is handled or dead-lettered exactly as it is to be, over two kills of workers and one of the
    broker, with as many attempts as that takes."""
    trio.run(partial(play, started(transport, request), 7, tmp_path))


@pytest.fixture
def quiet() -> Iterator[None]:
    """Warnings and errors in the log are what is provoked here."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["amqp", "redis"])
async def test_a_request_outlives_a_restart_of_the_broker(
    transport: str, quiet: None, request: pytest.FixtureRequest
) -> None:
    """Killed while the request is worked on: it comes again, and its reply finds who has been waiting all the time."""
    node = started(transport, request)
    begun = trio.Event()
    answers: list[object] = []

    async def answer(message: Delivered) -> None:
        begun.set()
        await trio.sleep(0.5)
        assert message.reply_to is not None
        await server.publish(42, routing_key=message.reply_to, correlation_id=message.correlation_id)

    async def ask() -> None:
        answers.append(await client.request("price", "sku", timeout=60))
        nursery.cancel_scope.cancel()

    fleet = Fleet(node.url(), name="shop")
    async with open_broker(node.url()) as server, fleet.open() as client, trio.open_nursery() as nursery:
        await server.declare(QueueSpec(name="price"))
        await nursery.start(partial(server.consume, "price", answer))
        nursery.start_soon(ask)
        await begun.wait()
        await trio.to_thread.run_sync(node.kill9)
        await node.start_async()
    assert answers == [42]
