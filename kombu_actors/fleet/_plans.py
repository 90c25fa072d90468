"""What registration makes of functions: frozen, checked whole, before anything connects.  Pure.

``_handlers`` makes the plans of functions, ``fleet`` the registrations; the runtime only reads them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Hashable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Literal, Protocol

import attrs

from ..broker import QueueSpec
from .policy import Batch, Retry

if TYPE_CHECKING:
    from .message import Message

ResourceFunction = Callable[..., AsyncIterator[object]]
"""``async def pool(): yield made``; its parameters are resources in their turn."""
CallNext = Callable[["Message"], Awaitable[object]]
Middleware = Callable[["Message", CallNext], Awaitable[object]]
"""``async def timed(message, call_next): return await call_next(message)``."""
Key = Callable[["Message"], Hashable]
"""From the message to the lane that it is handled in."""


class Decode(Protocol):
    """From the payload as it was deserialized to what the annotation says; raises ``PayloadError``."""

    def __call__(self, payload: object, /) -> object: ...


@attrs.frozen(kw_only=True)
class HandlerPlan:
    """How a handler is called."""

    name: str
    """``module.qualname``: for logs and ``ka-handler``."""
    is_async: bool
    """Else it is a plain function, for a thread."""
    replies: bool
    """Whether its return annotation is something else than None: then what it returns answers ``reply_to``."""
    decode: Decode | None
    """For ``Message.payload``; None: as it was deserialized."""
    resources: tuple[ResourceFunction, ...]
    """What it depends on, each once."""
    call: Callable[[Message, Sequence[object]], Any]
    """``call(message, values)`` calls the function with what its parameters ask for; ``values`` are what the resources
    above have yielded, in their order.  Of an async function it returns the coroutine.  For a batch consumer
    ``call_batch`` is used instead."""
    call_batch: Callable[[list[Message], Sequence[object]], Any] | None = None


@attrs.frozen(kw_only=True)
class ResourcePlan:
    """How a resource is opened."""

    name: str
    """The function's name: the actor's id, unique in the fleet."""
    function: ResourceFunction
    resources: tuple[ResourceFunction, ...]
    """What it depends on in its turn."""
    open: Callable[[Sequence[object]], AbstractAsyncContextManager[object]]
    """``open(values)``, with the values of ``resources`` in their order."""


@attrs.frozen(kw_only=True)
class ConsumerPlan:
    """One consumer, as registered."""

    queue: QueueSpec
    declare: bool
    """Whether the program gave a ``QueueSpec``: then it is declared like that.  A mere name is declared (durable,
    nothing else) only when there is no such queue: users' queues are left as they are."""
    dead_letter: str
    """The queue for its dead letters."""
    handler: HandlerPlan
    retry: Retry
    concurrency: int
    """Handlers at once."""
    prefetch: int
    timeout: float | None
    """Seconds for a handler; None: no limit."""
    key: Key | None
    on_error: Literal["pass", "block"]
    """What becomes of a lane whose message is tried again: it goes on, or waits for it."""
    batch: Batch | None
    fail_fast: int | None
    """After how many failures in a row one message at a time is tried."""
    deaf_after: float | None
    """Seconds without a delivery, with messages waiting, after which it counts as deaf; 0: never; None: the fleet's."""
    accept: Collection[str] | None
    """Serializers or content types that are decoded; None: JSON."""

    @property
    def name(self) -> str:
        """The queue's name, which is the consumer's."""
        return self.queue.name
