"""What the facade's parts ask of the connection they belong to, and what they may be told by name.

``Connection`` is made of these parts, so they can't import it; here they say what they need.  It is for type checkers:
no module imports it at run time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, TypeVar, Unpack

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

    from .._bridge.portal import Portal
    from ..transport._contract import Transport
    from .channel import Channel
    from .channel_calls import ChannelCalls
    from .consumer import Callback
    from .message import Message
    from .producer import OnReturn

T = TypeVar("T")


class ChannelHost(Protocol):
    """The connection, to its channels."""

    transport_driver: Transport
    transport_options: dict[str, Any]
    tells_lost: bool
    """Whether ``drain_events`` tells of lost messages, where the transport options say nothing."""
    memory_exclusive: bool
    """Whether an exclusive queue in memory is one connection's."""

    @property
    def confirm_publish(self) -> bool:
        """Whether each publish waits for its own outcome."""

    @property
    def call_timeout(self) -> float:
        """Seconds for a call that names no deadline."""

    def as_uri(self) -> str:
        """The endpoint in use in URL form, for error messages."""

    def keeps(self, channel: object) -> bool:
        """Whether supervision still keeps that channel for this connection."""

    def hosts(self, portal: Portal) -> bool:
        """Whether this connection's tree runs in that runtime."""

    def reopen(self, channel: ChannelCalls) -> None:
        """In a forked child: open a channel of the child's own in place of the parent's."""

    def forget_channel(self, channel: ChannelCalls) -> None:
        """Drop a closed channel from the connection's books."""

    def call(self, fn: Callable[[], Awaitable[T]], *, timeout: float | None = None) -> T:
        """Await ``fn()`` in the runtime by a deadline (``call_timeout`` when none is given)."""

    def later(self, fn: Callable[..., Awaitable[object]], *args: object) -> None:
        """Have ``fn(*args)`` awaited in the runtime, by nobody, while this connection is open."""


class EventLoop(Protocol):
    """A program's event loop, to a connection that it drains: kombu's ``Hub``, or asyncio's."""

    def add_reader(self, fd: FileDescriptorLike, callback: Callable[..., object], /, *args: object) -> object:
        """Call ``callback(*args)`` whenever there is something to read."""

    def remove_reader(self, fd: FileDescriptorLike, /) -> object:
        """Watch that file no longer."""


class ConnectionParams(TypedDict, total=False):
    """What is used where a URL says nothing."""

    hostname: str
    port: int | None
    userid: str
    password: str
    login_method: str


class ConsumerSettings(TypedDict, total=False):
    """What a ``Consumer`` may be told beside channel, queues and callbacks."""

    no_ack: bool | None
    auto_declare: bool | None
    on_decode_error: Callable[[Message, Exception], object] | None
    on_message: Callable[[Message], object] | None
    accept: Collection[str] | None
    prefetch_count: int | None
    tag_prefix: str | None


class ConsumerOptions(ConsumerSettings, total=False):
    """That, and the callbacks."""

    callbacks: list[Callback] | None


class ProducerOptions(TypedDict, total=False):
    """What a ``Producer`` may be told beside channel, exchange and routing key."""

    serializer: str | None
    auto_declare: bool | None
    compression: str | None
    on_return: OnReturn | None


class RetryPolicy(TypedDict, total=False):
    """How connecting is tried again; what each means says ``Connection.ensure_connection``."""

    errback: Callable[[BaseException, float], object] | None
    max_retries: int | None
    interval_start: float
    interval_step: float
    interval_max: float
    callback: Callable[[], object] | None
    timeout: float | None


class Retries(TypedDict, total=False):
    """How a call is tried again; what each means says ``Connection.ensure``."""

    max_retries: int | None
    interval_start: float
    interval_step: float
    interval_max: float
    retry_errors: tuple[type[BaseException], ...] | None


class EnsureOptions(Retries, total=False):
    """That, and who hears of it."""

    errback: Callable[[BaseException, float], object] | None
    on_revive: Callable[[Channel], object] | None


class Revivable(Protocol):
    """What ``ensure`` tells of the channel to go on with: a producer, a consumer, an entity, or the caller's own."""

    def revive(self, channel: Channel, /) -> object:
        """Go on with another channel."""


class RetryHost(Protocol):
    """The connection, to the calls that are made again when it was lost."""

    connect_timeout: float

    @property
    def call_timeout(self) -> float:
        """Seconds for a call that names no deadline."""

    @property
    def recoverable_connection_errors(self) -> tuple[type[BaseException], ...]:
        """Errors after which a new session may succeed."""

    @property
    def recoverable_channel_errors(self) -> tuple[type[BaseException], ...]:
        """Errors after which a new channel may succeed."""

    @property
    def default_channel(self) -> Channel:
        """The channel used where a connection is given instead of one; opened at first access."""

    def completes_cycle(self, retries: int) -> bool:
        """Whether every endpoint has been tried once more after ``retries`` retries."""

    def keeps(self, channel: object) -> bool:
        """Whether supervision still keeps that channel for this connection."""

    def ensure_connection(self, **policy: Unpack[RetryPolicy]) -> object:
        """Connect, trying again as the policy says."""

    def reconnect(self, **policy: Unpack[RetryPolicy]) -> None:
        """``ensure_connection`` for those who have met a connection error."""
