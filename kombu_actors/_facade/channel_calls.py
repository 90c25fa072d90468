"""A channel's life, and how its calls reach the runtime."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

from .._bridge.channel import ChannelHandle, TopologyCalls
from .._bridge.forking import start_afresh_after_fork
from .._bridge.portal import CannotWait
from .._bridge.refusals import Refusals
from ..errors import ConnectionClosed
from .accepted import Returns
from .held import Held
from .standard import StdChannel

if TYPE_CHECKING:
    from .._bridge.feeds import ChannelNotice
    from .._bridge.inbox import Inbox
    from ..connection import Connection
    from .contracts import ChannelHost
    from .message import Message

T = TypeVar("T")


class ChannelCalls(StdChannel):
    """What all of a channel's methods stand on.

    A call is refused when the channel is closed or given up, and made by its deadline otherwise: it waits while
    supervision opens the channel again.
    """

    connection: Connection

    def __init__(self, host: ChannelHost, handle: ChannelHandle, inbox: Inbox) -> None:
        self.connection = cast("Connection", host)
        self.callbacks: dict[str, Callable[[Message], object]] = {}
        self.no_ack_consumers: set[str] = set()
        self.hearers: dict[ChannelNotice, Callable[..., object]] = {}
        self.events: dict[str, set[Callable[..., object]]] = {"basic_return": set()}
        self._host = host
        self._prepare = host.transport_driver.prepare
        self._text_body = host.transport_driver.name == "amqp"
        self._closed = False
        self.attach(handle, inbox)
        start_afresh_after_fork(self)

    def attach(self, handle: ChannelHandle, inbox: Inbox) -> None:
        """Stand for this channel of the runtime from now on."""
        self.handle = handle
        """The channel in the runtime; it outlives its connection and its own death on the wire."""
        self._inbox = inbox
        self._inherited = False
        driver, options = self._host.transport_driver, self._host.transport_options
        self._refusals = Refusals(handle.portal, driver.content_of, options.get("on_refused"))
        handle.report(Returns(handle.number), self._refusals)
        self._held: Held | None = None
        if options.get("tell_lost", self._host.tells_lost):
            self._held = Held(handle.number, self._host.as_uri())
            handle.report_losses(self._held)

    def start_afresh(self) -> None:
        """In a forked child: what was delivered and consumed is the parent's; reopened at the next use."""
        self._inherited = True
        self.callbacks.clear()
        self.hearers.clear()
        self.no_ack_consumers.clear()

    def __repr__(self) -> str:
        return f"<Channel {self.channel_id} of {self.connection!r}: {'open' if self.is_open else 'not open'}>"

    @property
    def channel_id(self) -> int:
        """The channel's number; stays over reconnects."""
        return self.handle.number

    @property
    def failure(self) -> BaseException | None:
        """Why supervision gave this channel up; None while it keeps it."""
        return self.handle.failure

    @property
    def is_open(self) -> bool:
        """Whether the channel is usable at this moment."""
        return not self._closed and self.handle.is_open

    @property
    def closed(self) -> bool:
        """Whether the program has closed it, or released its connection."""
        return self._closed or not self._host.keeps(self)

    def close(self) -> None:
        """Cancel the consumers, hand out what was published, close the channel."""
        if self._closed:
            return
        try:
            self._closed = True
            self.callbacks.clear()
            self.hearers.clear()
            self._host.forget_channel(self)
            if self._host.hosts(self.handle.portal):
                self._host.call(self.handle.close)
        except BaseException as error:
            # Interrupted, or too late: what was accepted still goes out, and supervision must not keep the channel.
            self._host.forget_channel(self)
            self._host.later(self.handle.close)
            if not isinstance(error, CannotWait):
                raise

    # Calls

    @property
    def _present(self) -> ChannelHandle:
        """The handle of this process; in a forked child, and in a process that is exiting, made at first use."""
        if (self._inherited or self.handle.portal.drained) and not self._closed:
            self._host.reopen(self)
        return self.handle

    @property
    def _topology_calls(self) -> TopologyCalls:
        return self._present.topology_calls

    def wait_open(self, timeout: float) -> None:
        """Wait until the channel is usable again after a fault."""
        self._perform(self._present.wait_open, timeout)

    def _call_after_publishes(self, fn: Callable[..., Awaitable[T]], *args: object, **kwargs: object) -> T:
        """``_call`` for what must find the messages published before it, on whichever channel."""
        answer: T = self._call(self._present.after_publishes, partial(fn, *args, **kwargs))
        return answer

    def _call(self, fn: Callable[..., Awaitable[T]], *args: object, **kwargs: object) -> T:
        self._refusals.heed()
        return self._perform(partial(fn, *args, **kwargs))

    def _perform(self, call: Callable[[], Awaitable[T]], timeout: float | None = None) -> T:
        """``_call`` for what must be done whatever became of earlier publishes."""
        if not self._host.keeps(self):
            self._check_reopening()
        return self._host.call(call, timeout=timeout)

    def _check_reopening(self) -> None:
        """Raise why the channel is not open, unless it is being opened again in a session that is up."""
        if self._closed:
            raise ConnectionClosed(f"channel {self.channel_id} was closed; open another with connection.channel()")
        if self.failure is not None:
            raise self.failure
        if not self._host.keeps(self):
            raise ConnectionClosed(f"the connection of channel {self.channel_id} was released; open another channel")
        self.handle.check_reopening(self._host.as_uri())
