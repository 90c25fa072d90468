"""Retry as kombu has it: calls, errbacks, sleeps and the final error of kombu 5.7, one driver for all.

The synchronous counterpart of the supervisor's restarts: the operation is a transient child
whose restarts are bounded by ``max_retries`` and spaced by a linear backoff, run in the caller's
thread because the operation is the caller's code.  Policies are arguments; nothing is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Generic, NoReturn, TypeVar

from .._bridge.ensuring import ensuring
from ..errors import DeadlineExceeded, OperationalError

if TYPE_CHECKING:
    from .channel import Channel
    from .contracts import RetryHost, RetryPolicy, Revivable

T = TypeVar("T")
Errback = Callable[[BaseException, float], object]
logger = logging.getLogger("kombu_actors.retry")


def ensure(
    connection: RetryHost,
    obj: Revivable,
    fun: Callable[..., T],
    *,
    errback: Errback | None,
    max_retries: int | None,
    interval_start: float,
    interval_step: float,
    interval_max: float,
    on_revive: Callable[[Channel], object] | None,
    retry_errors: tuple[type[BaseException], ...],
) -> Callable[..., T]:
    """Wrap ``fun`` so that recoverable errors are ridden out and it is called again.

    A connection error waits for a session, then ``obj.revive(channel)`` and ``on_revive(channel)``; a
    channel error calls again at once; ``retry_errors`` are retried silently.  When ``max_retries``
    are used up: ``OperationalError``, for ``retry_errors`` the error itself.
    """

    def attempt(args: tuple[object, ...], kwargs: dict[str, object]) -> T:
        token = ensuring.set(True)
        try:
            return fun(*args, **kwargs)
        finally:
            ensuring.reset(token)

    def ensured(*args: object, **kwargs: object) -> T:
        for retries in count():
            left = None if max_retries is None else max_retries - retries
            try:
                return attempt(args, kwargs)
            except retry_errors as error:
                if left is not None and left <= 0:
                    raise
                logger.debug("trying again after %r", error)
            except connection.recoverable_connection_errors as error:
                if left is not None and left <= 0:
                    _give_up(error)
                if errback is not None:
                    errback(error, 0)
                remaining = None if left is None else max(left, 1)
                connection.reconnect(
                    errback=errback,
                    max_retries=remaining,
                    interval_start=interval_start,
                    interval_step=interval_step,
                    interval_max=interval_max,
                )
                channel = revived_channel(connection, obj)
                if on_revive is not None:
                    on_revive(channel)
            except connection.recoverable_channel_errors as error:
                if left is not None and left <= 0:
                    _give_up(error)
                if errback is not None:
                    errback(error, 0)
        raise AssertionError("count() does not end")

    ensured.__name__ = f"{getattr(fun, '__name__', 'fun')}(ensured)"
    ensured.__doc__ = fun.__doc__
    ensured.__module__ = getattr(fun, "__module__", __name__)
    return ensured


def revived_channel(connection: RetryHost, obj: Revivable) -> Channel:
    """The channel to go on with: the one ``obj`` has when supervision keeps it, else the default channel.

    Waits for it to be open again; a channel that takes longer leaves that to the next attempt.
    """
    own = getattr(obj, "__dict__", {}).get("_channel")
    channel: Channel = own if own is not None and connection.keeps(own) else connection.default_channel
    try:
        channel.wait_open(connection.connect_timeout)
    except DeadlineExceeded:
        logger.debug("%r is still being reopened", channel)
    obj.revive(channel)
    return channel


class Revival(Generic[T]):
    """What ``autoretry`` ensures: a call with the channel that is current then."""

    def __init__(
        self, connection: RetryHost, fun: Callable[..., T], channel: Channel | None, policy: RetryPolicy
    ) -> None:
        self._connection = connection
        self._fun = fun
        self._policy = policy
        self.channel = channel
        self.__name__ = getattr(fun, "__name__", type(fun).__name__)
        self.__module__ = getattr(fun, "__module__", __name__)
        self.__doc__ = getattr(fun, "__doc__", None)

    def revive(self, channel: Channel) -> None:
        """Go on with another channel."""
        self.channel = channel

    def __call__(self, *args: object, **kwargs: object) -> tuple[T, Channel]:
        """Call; returns the result and the channel it was made with."""
        if self.channel is None:
            self._connection.ensure_connection(**self._policy)
            self.channel = self._connection.default_channel
        return self._fun(*args, channel=self.channel, **kwargs), self.channel


def _give_up(error: BaseException) -> NoReturn:
    raise OperationalError(str(error)) from error
