"""Short words for the native API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import trio

from kombu_actors.broker import BindingKind, BindingSpec, Broker, Delivered, QueueSpec, Subscription

PATIENCE = 10.0
"""Seconds for anything that a broker on this machine has to do, on a busy machine."""


def to_queue(queue: str, exchange: str, key: str = "", **arguments: Any) -> BindingSpec:
    """A binding from an exchange to a queue."""
    return BindingSpec(kind=BindingKind.QUEUE, source=exchange, destination=queue, routing_key=key, arguments=arguments)


def to_exchange(destination: str, source: str, key: str = "", **arguments: Any) -> BindingSpec:
    """A binding from one exchange to another."""
    return BindingSpec(
        kind=BindingKind.EXCHANGE, source=source, destination=destination, routing_key=key, arguments=arguments
    )


async def queue(broker: Broker, name: str, arguments: Mapping[str, Any] | None = None, **options: Any) -> None:
    """Declare a queue."""
    await broker.declare(QueueSpec(name=name, arguments=arguments, **options))


async def fill(broker: Broker, queue: str, *payloads: Any, **options: Any) -> None:
    """Publish to a queue, one after the other, each confirmed before the next."""
    for payload in payloads:
        await broker.publish(payload, routing_key=queue, **options)


async def ready(broker: Broker, queue: str) -> int:
    """How many messages of a queue wait for a consumer."""
    return (await broker.inspect_queue(queue)).messages


async def take(messages: Subscription, count: int) -> list[Delivered]:
    """The next messages of a subscription."""
    with trio.fail_after(PATIENCE):
        return [await anext(messages) for _ in range(count)]


async def payloads(messages: Subscription, count: int) -> list[Any]:
    """The next payloads of a subscription, acknowledged."""
    taken = await take(messages, count)
    for message in taken:
        message.ack()
    return [message.payload for message in taken]


async def drained(broker: Broker, queue: str) -> list[Any]:
    """Everything that is ready in a queue, taken out of it."""
    count = await ready(broker, queue)
    async with broker.subscribe(queue, no_ack=True) as messages:
        return [message.payload for message in await take(messages, count)]


def restarted(broker: Broker) -> list[str]:
    """The ids of all actors of a connection that were restarted."""
    found, waiting = [], [broker.snapshot()]
    while waiting:
        view = waiting.pop()
        waiting += view.children
        if view.restarts:
            found.append(view.id)
    return found
