"""Programs that consume, as a class: a worker subclasses one of these."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cached_property, partial
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from ._bridge.bells import Sleepers
from ._facade.consumer import Consumer
from ._facade.message import Message
from ._facade.producer import Producer
from .common import ignore_errors
from .connection import Connection
from .errors import OperationalError
from .utils.limits import TokenBucket

if TYPE_CHECKING:
    from ._bridge.sessions import SessionWatch
    from ._facade.channel import Channel

T = TypeVar("T")
_Consumer = Consumer  # the mixin has a method of that name
Consumers = Sequence[Any]
"""What ``get_consumers`` returns; each consumes while its block runs."""

__all__ = ["ConsumerMixin", "ConsumerProducerMixin"]

logger = logging.getLogger(__name__)


class _StoppedConnecting(Exception):
    """``should_stop`` was set while the first connection was still being tried for."""


class ConsumerMixin:
    """A program that consumes: give it a ``connection`` and ``get_consumers``, call ``run``.

    ``get_consumers(Consumer, channel)`` returns a list of consumers, made with the ``Consumer`` it is
    given.  ``run`` returns when ``should_stop`` is set, in any thread or signal handler, at once.

    A lost session needs no work: the connection reconnects and restores the consumers.  These hooks
    hear of it, in the thread that runs: ``on_connection_error(exc, interval)`` when a session is lost
    and when a dial fails, with the seconds until the next dial, and ``on_connection_revived()`` when a session
    is up (the first one included).  When ``connect_max_retries`` dials in a row have failed, ``run``
    raises ``OperationalError``; ``None`` is no bound.  What supervision can't mend (a password
    that is refused by now) ends the connection; ``run`` then makes another, at the pace of ``restart_limit``.

    Further hooks: ``on_consume_ready(connection, channel, consumers, **kwargs)`` when consuming has begun, and
    when all consumers are subscribed again after a fault; ``on_consume_end(connection, channel)`` when it has
    ended; ``on_iteration()`` before each event, ``on_decode_error(message, exc)``,
    ``extra_context(connection, channel)``.
    """

    connection: Connection

    connect_max_retries: int | None = None

    _should_stop = False
    _watch: SessionWatch | None = None
    _announce: Callable[[], None] | None = None
    _failed_dials = 0

    @property
    def should_stop(self) -> bool:
        """Set it to have ``run`` and ``consume`` return."""
        return self._should_stop

    @should_stop.setter
    def should_stop(self, value: bool) -> None:
        self._should_stop = value
        if value:
            self._stopping.wake()
            if self._watch is not None:
                self._watch.wake()

    @cached_property
    def _stopping(self) -> Sleepers:
        return Sleepers()

    @cached_property
    def restart_limit(self) -> TokenBucket:
        """How often ``run`` may start afresh: once per second."""
        return TokenBucket(1)

    @cached_property
    def connection_errors(self) -> tuple[type[BaseException], ...]:
        """The connection's."""
        return self.connection.connection_errors

    @cached_property
    def channel_errors(self) -> tuple[type[BaseException], ...]:
        """The connection's."""
        return self.connection.channel_errors

    # Hooks

    def get_consumers(self, Consumer: Callable[..., _Consumer], channel: Channel) -> Consumers:
        """The consumers; must be given by the subclass."""
        raise NotImplementedError(f"{type(self).__name__} must define get_consumers(Consumer, channel)")

    def on_connection_error(self, exc: BaseException, interval: float) -> None:
        """A session was lost, or a dial failed; the next dial is in ``interval`` seconds.  Logs."""
        logger.warning("Broker connection error, trying again in %.3g seconds: %r", interval, exc)

    def on_connection_revived(self) -> None:
        """A session is up: the first one, or one after a failure."""

    def on_consume_ready(
        self, connection: Connection, channel: Channel, consumers: Consumers, **kwargs: object
    ) -> None:
        """Consuming has begun, or begun again after a fault.  Keywords are those given to ``consume``."""

    def on_consume_end(self, connection: Connection, channel: Channel) -> None:
        """Consuming has ended, for whatever reason; the consumers are cancelled."""

    def on_iteration(self) -> None:
        """Called before each event, and at least every ``safety_interval`` seconds."""

    def on_decode_error(self, message: Message, exc: Exception) -> None:
        """A message can't be decoded.  Logs, and acknowledges it: the broker forgets it."""
        logger.error(
            "Can't decode message body: %r (type:%r encoding:%r, %d bytes)",
            exc,
            message.content_type,
            message.content_encoding,
            len(message.body or b""),
        )
        message.ack()

    @contextmanager
    def extra_context(self, connection: Connection, channel: Channel) -> Iterator[object]:
        """Entered when connection and consumers have been set up, left before they end."""
        yield None

    # Running

    def run(self, _tokens: float = 1, **kwargs: Any) -> None:
        """Consume until ``should_stop`` is set.  Keywords are ``consume``'s.

        Raises:
            OperationalError: ``connect_max_retries`` dials failed.
            whatever a callback or a hook raises, but for errors of connection and channel.
        """
        while not self.should_stop:
            try:
                if self.restart_limit.can_consume(_tokens):
                    for _ in self.consume(limit=None, **kwargs):
                        pass
                else:
                    self._pause(self.restart_limit.expected_time(_tokens))
            except (*self.connection_errors, *self.channel_errors):
                logger.warning("Connection to broker lost, trying to re-establish connection...", exc_info=True)

    def _pause(self, seconds: float) -> None:
        bell = self._stopping.hang_up()
        try:
            if not self.should_stop:
                bell.wait(seconds)
        finally:
            self._stopping.take_down(bell)

    def consume(
        self, limit: int | None = None, timeout: float | None = None, safety_interval: float = 1, **kwargs: object
    ) -> Iterator[None]:
        """Consume, yielding after each event; ends after ``limit`` iterations, or when ``should_stop`` is set.

        Raises ``socket.timeout`` when nothing came for ``timeout`` seconds.
        """
        idle = 0.0
        try:
            with self.consumer_context(**kwargs) as (connection, _, _):
                for _ in range(limit) if limit else count():
                    if self.should_stop:
                        break
                    self.on_iteration()
                    try:
                        connection.drain_events(timeout=safety_interval)
                    except TimeoutError:
                        connection.heartbeat_check()
                        idle += safety_interval
                        if timeout and idle >= timeout:
                            raise
                    except OSError:
                        if not self.should_stop:
                            raise
                    else:
                        yield
                        idle = 0.0
        except _StoppedConnecting:
            logger.debug("stopped before there was a connection")

    @contextmanager
    def consumer_context(self, **kwargs: object) -> Iterator[tuple[Connection, Channel, Consumers]]:
        """Connection, channel and consumers for a block, with all hooks called."""
        with self.Consumer() as (connection, channel, consumers), self.extra_context(connection, channel):
            self._announce = partial(self.on_consume_ready, connection, channel, consumers, **kwargs)
            try:
                self._announce()
                yield connection, channel, consumers
            finally:
                self._announce = None

    @contextmanager
    def Consumer(self) -> Iterator[tuple[Connection, Channel, Consumers]]:
        """Connection, channel and consumers for a block."""
        with self.establish_connection() as connection:
            self.on_connection_revived()
            logger.info("Connected to %s", connection.as_uri())
            channel: Channel = connection.default_channel
            make = partial(Consumer, channel, on_decode_error=self.on_decode_error)
            try:
                with (
                    connection.watch_sessions(
                        self._session_failed, self._session_revived, self._consuming_again
                    ) as self._watch,
                    self._consume_from(*self.get_consumers(make, channel)) as consumers,
                ):
                    yield connection, channel, consumers
            finally:
                self._watch = None
                self.on_consume_end(connection, channel)

    @contextmanager
    def _consume_from(self, *consumers: AbstractContextManager[object]) -> Iterator[Consumers]:
        with ExitStack() as stack:
            yield [stack.enter_context(consumer) for consumer in consumers]

    def create_connection(self) -> Connection:
        """The connection to consume over: a clone of ``connection``."""
        return self.connection.clone()

    @contextmanager
    def establish_connection(self) -> Iterator[Connection]:
        """A connection for a block, connected, released at its end."""
        with self.create_connection() as connection:
            self._connect(connection)
            yield connection

    def _connect(self, connection: Connection) -> None:
        connection.ensure_connection(
            self.on_connection_error, self.connect_max_retries, callback=self._check_whether_to_stop
        )

    def _check_whether_to_stop(self) -> None:
        if self.should_stop:
            raise _StoppedConnecting

    def _session_failed(self, error: BaseException, interval: float) -> None:
        if self.connect_max_retries is not None and self._failed_dials > self.connect_max_retries:
            raise OperationalError(f"gave up after {self._failed_dials} dials: {error}") from error
        self._failed_dials += 1  # the first failure is the session's, not a dial's
        self.on_connection_error(error, interval)

    def _session_revived(self) -> None:
        self._failed_dials = 0
        self.on_connection_revived()

    def _consuming_again(self) -> None:
        if self._announce is not None:
            self._announce()

    def maybe_conn_error(self, fun: Callable[..., T]) -> T | None:
        """Call ``fun()``; errors of connection and channel pass.  See ``common.ignore_errors``."""
        return ignore_errors(self, fun)


class ConsumerProducerMixin(ConsumerMixin):
    """A program that consumes and publishes, over a connection for each.

    An alarm of the broker, which stops publishers, does not stop the consumers then.
    """

    _producer_connection: Connection | None = None

    @property
    def producer(self) -> Producer:
        """A producer on the publishing connection."""
        return Producer(self.producer_connection)

    @property
    def producer_connection(self) -> Connection:
        """The connection for publishing; made and connected at first access, closed when consuming ends."""
        if self._producer_connection is None:
            connection = self.connection.clone()
            self._connect(connection)
            self._producer_connection = connection
        return self._producer_connection

    def on_consume_end(self, connection: Connection, channel: Channel) -> None:
        """Close the publishing connection."""
        if self._producer_connection is not None:
            producing, self._producer_connection = self._producer_connection, None
            producing.close()
