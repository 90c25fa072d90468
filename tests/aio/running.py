"""Tests that are coroutines of asyncio, and short words for them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import wraps
from typing import Any

from kombu_actors.aio import Broker, QueueSpec, Subscription, open_broker
from tests.conformance.realms import Realm

PATIENCE = 20.0
"""Seconds for a whole test, on a busy machine."""


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test in a loop of the kind that the fixture ``new_loop`` says, with what goes wrong unseen as an error."""

    @wraps(test)
    def run(*args: Any, new_loop: Callable[[], asyncio.AbstractEventLoop], **kwargs: Any) -> None:
        unseen: list[dict[str, Any]] = []

        async def limited() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
            async with asyncio.timeout(PATIENCE):
                await test(*args, **kwargs)

        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(limited())
        assert unseen == []

    own = inspect.signature(test)
    loop = inspect.Parameter("new_loop", inspect.Parameter.KEYWORD_ONLY)
    vars(run)["__signature__"] = own.replace(parameters=[*own.parameters.values(), loop])
    return run


def connect(realm: Realm, **arguments: Any) -> AbstractAsyncContextManager[Broker]:
    """A connection to a realm."""
    return open_broker(realm.url, transport_options=realm.options, tls=realm.tls, **arguments)


async def queue(broker: Broker, name: str, **options: Any) -> None:
    """Declare a queue."""
    await broker.declare(QueueSpec(name=name, **options))


async def ready(broker: Broker, name: str) -> int:
    """How many messages of a queue wait for a consumer."""
    return (await broker.inspect_queue(name)).messages


async def payloads(messages: Subscription, count: int) -> list[object]:
    """The next payloads of a subscription, acknowledged."""
    taken = []
    for _ in range(count):
        message = await anext(messages)
        assert message.ack()
        taken.append(message.payload)
    return taken
