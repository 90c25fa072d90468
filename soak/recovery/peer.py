"""The other connection: raw channel calls, which stock kombu and kombu_actors share."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

from .model import World
from .steps import (
    Bind,
    Binding,
    DeclareExchange,
    DeclareQueue,
    DeleteExchange,
    DeleteQueue,
    Kind,
    PeerReturns,
    Publish,
    Step,
    Unbind,
)

__all__ = ["Peer", "arguments_of", "headers_of"]

PATIENCE = 5.0
"""Seconds for one call: it dials again when the broker or an operator has dropped it."""


class Peer:
    """Carries out the steps of the other side, over connections of ``library``."""

    def __init__(
        self, library: ModuleType, connect: Callable[[], Any], *, shows_exchanges: bool = True, recovers: bool = False
    ) -> None:
        self.library = library
        self._connect = connect
        self._shows_exchanges = shows_exchanges
        """Whether an exchange is there without bindings; for stock kombu on Redis it isn't."""
        self._recovers = recovers
        """Whether the library restores what is lost.  The peer has no part in that: it leaves after each step."""
        self._connection: Any = None
        self._channel: Any = None

    def close(self) -> None:
        """Leave, whatever state the connection is in."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            try:
                connection.release()
            except (*connection.connection_errors, *connection.channel_errors):
                connection.collect()

    def carry_out(self, step: Step, world: World) -> None:
        """One step; ``world`` is as it was before."""
        match step:
            case DeclareExchange(name=name, type=type, durable=durable):
                self._call(lambda channel: self._declare_exchange(channel, name, type, durable))
            case DeclareQueue(name=name, kind=kind):
                self._call(lambda channel: _declare_queue(channel, name, kind))
            case Bind(binding=binding):
                self._call(partial(self._bind, world=world, binding=binding))
            case Unbind(binding=binding):
                self._call(lambda channel: _unbind(channel, world, binding))
            case DeleteQueue(name=name):
                self._call(lambda channel: channel.queue_delete(queue=name))
            case DeleteExchange(name=name):
                self._call(lambda channel: channel.exchange_delete(exchange=name))
            case PeerReturns():
                self._return(world)
            case _:
                raise ValueError(f"the peer has no way to: {step}")

    def publish(self, step: Publish, world: World, body: str) -> None:
        """One message; confirmed where the library can."""
        kind = world.exchanges[step.exchange].type if step.exchange else "direct"

        def publish(channel: Any) -> None:
            self._know(channel, step.exchange, world)
            message = channel.prepare_message(
                json.dumps(body),
                content_type="application/json",
                content_encoding="utf-8",
                headers=headers_of(kind, step.key),
                properties={"delivery_mode": 2},
            )
            channel.basic_publish(message, exchange=step.exchange, routing_key=step.key)

        self._call(publish)

    def _return(self, world: World) -> None:
        for name, exchange in world.exchanges.items():
            if exchange.side.name == "PEER":
                self.carry_out(DeclareExchange(exchange.side, name, exchange.type, exchange.durable), world)
        for name, queue in world.queues.items():
            if queue.side.name == "PEER":
                self.carry_out(DeclareQueue(queue.side, name, queue.kind), world)
        for binding in world.bindings_after_return():
            self._call(partial(self._bind, world=world, binding=binding))

    def _declare_exchange(self, channel: Any, name: str, type: str, durable: bool) -> None:
        channel.exchange_declare(exchange=name, type=type, durable=durable, auto_delete=False)
        if not self._shows_exchanges:
            channel.queue_declare(queue=f"peer.{name}")
            channel.queue_bind(queue=f"peer.{name}", exchange=name, routing_key="peer")

    def _know(self, channel: Any, name: str, world: World) -> None:
        """Stock kombu on Redis asks its own memory for an exchange's type."""
        if name and not self._shows_exchanges:
            exchange = world.exchanges[name]
            channel.exchange_declare(exchange=name, type=exchange.type, durable=exchange.durable, auto_delete=False)

    def _bind(self, channel: Any, world: World, binding: Binding) -> None:
        self._know(channel, binding.exchange, world)
        kind = world.exchanges[binding.exchange].type
        channel.queue_bind(
            queue=binding.queue,
            exchange=binding.exchange,
            routing_key=_key_of(kind, binding.key),
            arguments=arguments_of(kind, binding.key),
        )

    def _call(self, fn: Callable[[Any], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                if self._connection is None:
                    self._connection = self._connect()
                    self._connection.connect()
                if self._channel is None:
                    self._channel = self._connection.channel()
                fn(self._channel)
            except self._errors():  # an exchange of ours may be about to be restored
                self._drop()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)  # nobody tells the peer when the broker takes it again
            else:
                if self._recovers:
                    self.close()
                return

    def _errors(self) -> tuple[type[BaseException], ...]:
        errors: tuple[type[BaseException], ...] = self._connection.connection_errors + self._connection.channel_errors
        return errors

    def _drop(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        connection.collect()


def arguments_of(exchange_type: str, key: str) -> dict[str, Any]:
    """The arguments of a binding by a key; a headers exchange looks at nothing else."""
    return {"k": key, "x-match": "all"} if exchange_type == "headers" else {}


def headers_of(exchange_type: str, key: str) -> dict[str, str]:
    """The headers of a message published by a key."""
    return {"k": key} if exchange_type == "headers" else {}


def _declare_queue(channel: Any, name: str, kind: Kind) -> None:
    channel.queue_declare(
        queue=name, durable=kind is Kind.DURABLE, exclusive=kind.is_exclusive, auto_delete=kind is Kind.AUTO_DELETE
    )


def _unbind(channel: Any, world: World, binding: Binding) -> None:
    kind = world.exchanges[binding.exchange].type
    channel.queue_unbind(
        queue=binding.queue, exchange=binding.exchange, routing_key=_key_of(kind, binding.key),
        arguments=arguments_of(kind, binding.key),
    )  # fmt: skip


def _key_of(exchange_type: str, key: str) -> str:
    return "" if exchange_type == "headers" else key
