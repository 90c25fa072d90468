"""What an AMQP channel has before it carries messages: its life, requests with their answers, and the topology."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import trio
from amqp import exceptions as amqp_errors
from amqp import spec as amqp_spec

from ..._values.model import BindingSpec, ExchangeSpec, QueueInfo, QueueSpec
from ...errors import ConnectionClosed, ConnectionLost
from ...protocols.amqp import LocalProtocolError
from ...protocols.amqp.events import Replied
from ...protocols.amqp.methods import Request, request
from .._waiting import OneLife, PendingReply

if TYPE_CHECKING:
    from .link import AMQPLink

__all__ = ["DeclaringChannel", "waiter"]

T = TypeVar("T")

_BUILT_IN_TYPES = frozenset({"direct", "fanout", "topic", "headers"})


def waiter(token: object) -> PendingReply[object]:
    """A token of the engine's as what it was when a request was given to it."""
    assert isinstance(token, PendingReply)
    return token


class DeclaringChannel(OneLife):
    """A channel over which exchanges, queues and bindings are declared.

    Some requests that RabbitMQ answers by ending the whole
    connection (``540 NOT_IMPLEMENTED``, ``503 COMMAND_INVALID``) are refused here with the
    exception class the broker would have caused, so that the siblings live on.
    """

    __slots__ = ("_engine", "_gone", "_link", "_wake", "number")

    def __init__(self, link: AMQPLink, number: int) -> None:
        super().__init__()
        self.number = number
        self._link = link
        self._engine = link.engine
        self._wake = link.wake
        self._gone: trio.Event | None = None

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.number} of {self._link.name}, {'open' if self.closed is None else 'dead'}>"
        )

    # -- life ----------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Close politely; a no-op when already dead.

        Cancelled, the channel is closed all the same: the broker's close-ok is taken when it comes.
        """
        if self._ending.reason is not None:
            await trio.lowlevel.checkpoint()
            return
        closed = ConnectionClosed(f"you closed channel {self.number} of the connection to {self._link.name}")
        for pending in self._engine.close_channel(self.number):
            waiter(pending).fail(closed)
        self._wake()
        self.die(closed)
        self._gone = trio.Event()
        await self._gone.wait()

    def die(self, reason: BaseException) -> None:
        """Take note that the channel is dead."""
        with self._link.wire:  # so that nothing of it is written after what follows its end
            self._ending.happen(reason)
        self._ending.announce()

    def forget(self) -> None:
        """Take note that the broker has forgotten the channel too."""
        if self._gone is not None:
            self._gone.set()

    # -- requests ------------------------------------------------------------------------------

    async def _call(
        self,
        question: Request,
        *,
        applied: Callable[[T], None] | None = None,
        undo: Callable[[T], None] | None = None,
    ) -> T:
        self._ending.check()
        await trio.lowlevel.checkpoint_if_cancelled()
        pending = PendingReply(applied=applied, undo=undo)
        self._engine.request(self.number, question, pending)
        self._link.ask()
        return await pending.wait()

    def take_back(self, act: Callable[..., object], *args: object) -> None:
        """Have the engine undo what nobody waits for any more, unless the broker has ended the channel already.

        The engine may know that before the channel does: both came in one piece.
        """
        try:
            act(self.number, *args)
        except LocalProtocolError:
            return
        self._wake()

    @property
    def _is_rabbitmq(self) -> bool:
        """Whether the broker says so."""
        return bool(self._link.server_properties.get("product") == "RabbitMQ")

    def _has_just_ended(self) -> ConnectionLost:
        return ConnectionLost(
            f"the broker has just closed channel {self.number} of the connection to {self._link.name}"
        )

    def _refuse(self, code: int, text: str, method: tuple[int, int]) -> None:
        """Raise what the broker's connection.close would have raised; nothing was sent."""
        raise amqp_errors.error_for_code(code, f"{text} (refused locally: it would end the connection)", method, None)

    # -- topology ------------------------------------------------------------------------------

    async def exchange_declare(self, spec: ExchangeSpec, *, passive: bool = False) -> None:
        """Declare an exchange, or with ``passive`` check that it exists."""
        flags = (passive, spec.durable, spec.auto_delete, spec.internal, False)
        question = request("exchange.declare", 0, spec.name, spec.type, *flags, spec.arguments)
        if not passive and spec.type not in _BUILT_IN_TYPES and not spec.type.startswith("x-"):
            self._refuse(503, f"unknown exchange type {spec.type!r}", amqp_spec.Exchange.Declare)
        await self._call(question)

    async def exchange_delete(self, name: str, *, if_unused: bool = False) -> None:
        """Delete an exchange."""
        await self._call(request("exchange.delete", 0, name, if_unused, False))

    async def exchange_bind(self, binding: BindingSpec) -> None:
        """Bind an exchange to an exchange."""
        await self._call(request("exchange.bind", *_ends(binding), False, binding.arguments))

    async def exchange_unbind(self, binding: BindingSpec) -> None:
        """Undo ``exchange_bind``."""
        await self._call(request("exchange.unbind", *_ends(binding), False, binding.arguments))

    async def queue_declare(self, spec: QueueSpec, *, passive: bool = False) -> QueueInfo:
        """Declare a queue, or with ``passive`` look at it; an empty name lets the broker choose."""
        flags = (passive, spec.durable, spec.exclusive, spec.auto_delete, False)
        reply: Replied = await self._call(request("queue.declare", 0, spec.name, *flags, spec.arguments))
        return QueueInfo(*reply.arguments)

    async def queue_delete(self, name: str, *, if_unused: bool = False, if_empty: bool = False) -> int:
        """Delete a queue; return how many messages went with it."""
        return _count(await self._call(request("queue.delete", 0, name, if_unused, if_empty, False)))

    async def queue_bind(self, binding: BindingSpec) -> None:
        """Bind a queue to an exchange."""
        await self._call(request("queue.bind", *_ends(binding), False, binding.arguments))

    async def queue_unbind(self, binding: BindingSpec) -> None:
        """Undo ``queue_bind``."""
        await self._call(request("queue.unbind", *_ends(binding), binding.arguments))

    async def queue_purge(self, name: str) -> int:
        """Drop a queue's ready messages; return how many."""
        return _count(await self._call(request("queue.purge", 0, name, False)))


def _ends(binding: BindingSpec) -> tuple[int, str, str, str]:
    return 0, binding.destination, binding.source, binding.routing_key


def _count(reply: Replied) -> int:
    count: int = reply.arguments[0]
    return count
