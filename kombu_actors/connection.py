"""The facade's connection: kombu's ``Connection`` on a supervised tree.

A ``Connection`` is a handle.  What it stands for (desired topology, channels, consumers,
unconfirmed publishes) lives in a ``ConnectionActor`` in the runtime thread, which reconnects,
fails over and replays on its own; this file has kombu's names for that, and hands calls over.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast

from ._bridge import exiting as exiting  # registered with atexit before anything that the program registers later
from ._bridge.ensuring import in_ensure
from ._bridge.loading import load
from ._facade import dialling, retrying
from ._facade.connection_view import ConnectionView
from ._facade.consumer import Consumer
from ._facade.dialling import DIAL_MARGIN
from ._facade.parameters import CONNECT_TIMEOUT, Parameters
from ._facade.producer import Producer
from ._facade.runs import Runs
from ._facade.surface import is_connection, maybe_channel
from ._values.endpoint import FAILOVER_STRATEGIES
from .errors import ChannelLimitExceeded, ConnectionLimitExceeded, OperationalError, PublishUnknown
from .transport import module_for

if TYPE_CHECKING:
    from ._bridge.sessions import SessionWatch
    from ._facade.channel import Channel
    from ._facade.channel_calls import ChannelCalls
    from ._facade.contracts import ConsumerOptions, EnsureOptions, EventLoop, ProducerOptions, RetryPolicy, Revivable
    from ._facade.exchange import Exchange
    from ._facade.management import ManagerOptions, RabbitMQManagement
    from ._facade.queue import Queue
    from ._facade.running import ConnectionTree
    from ._facade.surface import Bindable
    from ._values.model import Arguments
    from .pools import ChannelPool, ConnectionPool
    from .resource import PoolOptions
    from .simple import SimpleBuffer, SimpleOptions, SimpleQueue

__all__ = [
    "BrokerConnection",
    "ChannelLimitExceeded",
    "ChannelPool",
    "Connection",
    "ConnectionLimitExceeded",
    "ConnectionPool",
    "is_connection",
    "maybe_channel",
]

T = TypeVar("T")
logger = logging.getLogger("kombu_actors.connection")
failover_strategies = FAILOVER_STRATEGIES
"""What ``failover_strategy`` may be by name (userguide/failover)."""

DRAIN_TIMEOUT = 5.0
"""Seconds that ``release()`` gives accepted publishes to be confirmed."""
LAST_SESSION = 1.0
"""Seconds that ``collect()`` gives a connection to come back once more: dialling again takes 20 to 100 ms."""
RUNTIME = ("kombu_actors._facade.running", "kombu_actors._bridge.sessions")
"""What a connection needs beside its transport.  The first one loads it: a program that imports our names only does not
pay for it, and once there is a connection no thread, signal handler or exit of the process imports anything."""


class Connection(ConnectionView):
    """A connection to the broker, made when first needed and supervised from then on.

    Arguments:
        hostname: Broker URL, several separated by ``;``, or a list of them; or a host name.
        ssl: ``True``, the documented dict (``ca_certs``, ``certfile``, ``keyfile``, ``cert_reqs``; see
            ``docs/tls.md``) or an ``ssl.SSLContext``.  Chain and host name are verified.
        connect_timeout: Seconds for TCP, TLS and handshake with one host; also for connecting where
            a connection is needed, retries included (``connect_retries_timeout`` changes that).  None and 0, with
            kombu no limit and none to speak of (Celery's workers of greenlets, and its tests, ask for them), are the
            default of 5.
        transport_options: ``confirm_publish=True`` makes every publish wait for its own outcome;
            ``call_timeout`` is the deadline of calls that name none; ``drain_timeout`` what
            ``release()`` grants publishes under way; ``body_max`` the bytes of the largest body sent or received;
            ``client_properties`` what the broker shows of us; ``tell_lost=True`` has ``drain_events`` raise
            ``ConnectionLost`` when unsettled messages were lost with their session;
            ``on_refused(refused_publish)`` is called, in a thread of its own, for each publish refused while nobody
            waited (``docs/reliability.md``); others are kept and ignored, as in kombu.
        heartbeat: Seconds; 0 means the default of 15.  Beating needs no work from the caller.
        failover_strategy: ``round-robin``, ``shuffle``, or an iterator of URLs (or a callable making
            one of the list of URLs).

    May be used from any number of threads.  See kombu's "Connections and transports" for the
    documented interface; ``docs/differences.md`` lists what is different on purpose.
    """

    failover_strategies = failover_strategies

    ssl: object = None
    heartbeat: float | None = None
    declared_entities: Any = None
    cycle: Iterator[str] | None = None

    def __init__(
        self,
        hostname: str | Sequence[str] | None = "localhost",
        userid: str | None = None,
        password: str | None = None,
        virtual_host: str | None = None,
        port: int | None = None,
        insist: bool = False,
        ssl: object = False,
        transport: str | None = None,
        connect_timeout: float | None = CONNECT_TIMEOUT,
        transport_options: Mapping[str, object] | None = None,
        login_method: str | None = None,
        uri_prefix: str | None = None,
        heartbeat: float = 0,
        failover_strategy: object = "round-robin",
        alternates: Sequence[str] | None = None,
        **kwargs: object,
    ) -> None:
        if kwargs:
            raise TypeError(f"Connection() got unexpected keyword arguments: {', '.join(sorted(kwargs))}")
        self._runs = Runs()
        self._configure(
            Parameters(
                hostname=hostname,
                userid=userid,
                password=password,
                virtual_host=virtual_host,
                port=port,
                insist=insist,
                ssl=ssl,
                transport=transport,
                connect_timeout=connect_timeout or CONNECT_TIMEOUT,
                transport_options=dict(transport_options or {}),
                login_method=login_method,
                uri_prefix=uri_prefix,
                heartbeat=heartbeat,
                failover_strategy=failover_strategy,
                alternates=list(alternates or []),
            )
        )
        self.declared_entities = self._runs.declared
        self._released = False

    def _configure(self, given: Parameters) -> None:
        self._parameters = parameters = given.with_query_applied()
        self._endpoints = parameters.endpoints
        parameters.check_tls()
        parameters.strategy()
        load(*RUNTIME, module_for(self._endpoints[0].scheme))
        from ._facade.running import ConnectionTree

        self.transport_driver = parameters.driver()
        # Kept, for a finalizer at the interpreter's end can't import it, and must be told why.
        self._runs.new_run = partial(ConnectionTree, self.transport_driver, parameters)
        self.ssl = parameters.ssl
        self.insist = parameters.insist
        self.connect_timeout = parameters.connect_timeout
        self.transport_options = dict(parameters.transport_options)
        self.login_method = parameters.login_method
        self.uri_prefix = parameters.prefix(self._endpoints[0])
        self.heartbeat = parameters.heartbeat
        self.failover_strategy = parameters.failover_strategy
        urls = parameters.urls()
        self.alt = urls if len(urls) > 1 else []
        self.cycle = parameters.upcoming_urls() if self.alt else None

    def __repr__(self) -> str:
        return f"<Connection: {self.as_uri()} at {id(self):#x}>"

    def __copy__(self) -> Connection:
        return self.clone()

    def __reduce__(self) -> tuple[object, ...]:
        self._parameters.require_picklable()
        return _rebuild, (type(self), self._arguments())

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        try:
            self.release()
        except PublishUnknown:
            if exc_type is None:
                raise
            logger.exception("while leaving the connection's block because of another error")

    # Copies of it, and changes to it

    def clone(self, **kwargs: object) -> Connection:
        """A new connection with the same parameters, but for those given."""
        return type(self)(**{**self._arguments(), **kwargs})

    def _arguments(self) -> dict[str, Any]:
        p = self._parameters
        return {field: getattr(p, field) for field in p.fields}

    def switch(self, conn_str: str) -> None:
        """Use another URL or host name from now on; closes, does not reconnect."""
        self.close()
        self._configure(self._parameters.but(hostname=conn_str, alternates=[]))

    def maybe_switch_next(self) -> None:
        """Give up on the endpoint in use.  Supervision does so by itself when it can't be reached."""
        upcoming, urls = self.cycle, self.alt
        if upcoming is None:
            return
        self.close()
        chosen = next(upcoming)
        others = [url for url in urls if url != chosen]
        self._configure(self._parameters.but(hostname=[chosen, *others], alternates=[]))
        self.cycle, self.alt = upcoming, urls

    # Life

    @property
    def client(self) -> Connection:
        """Itself: kombu's code finds the connection of a channel under this name."""
        return self

    def connect(self) -> ConnectionTree:
        """Connect now: one pass over all endpoints.

        Raises:
            BrokerUnreachable: none accepted; its text has the reason for each.
            AccessRefused, NotAllowed: wrong credentials, wrong virtual host.
        """
        tree = self._runs.running()  # which refuses options without sense, before they are reckoned with
        whole_pass = max(float(self.connect_timeout) * len(self._endpoints), self.call_timeout)
        tree.wait_ready(whole_pass + DIAL_MARGIN)
        return tree

    @property
    def connection(self) -> ConnectionTree | None:
        """What runs for it in the background; connects when there is nothing.  After ``close()`` it is ``None`` until
        the next use.

        It has py-amqp's ``server_properties`` and ``sock``, and more to look at.
        """
        tree = self._runs.present
        if tree is None and self._released:
            return None
        return tree if tree is not None and tree.connected else self.connect()

    def channel(self) -> Channel:
        """Open a channel; connects first when there is no session, all within one deadline."""
        started = time.monotonic()
        if not self.connected:
            self.connect()
        return self._new_channel(timeout=max(self.call_timeout - (time.monotonic() - started), DIAL_MARGIN))

    @property
    def default_channel(self) -> Channel:
        """The channel used where a connection is given instead of one; opened at first access."""
        tree = self._runs.present
        if tree is not None and tree.default_channel is not None and self.keeps(tree.default_channel):
            return tree.default_channel
        with self._runs.lock.held:
            self.ensure_connection(**self._first_connect())
            tree = self._runs.running()
            if tree.default_channel is None or not self.keeps(tree.default_channel):
                tree.default_channel = self._new_channel()
            return tree.default_channel

    def _new_channel(self, timeout: float | None = None) -> Channel:
        return self._runs.running().new_channel(self, timeout or self.call_timeout)

    def reopen(self, channel: ChannelCalls) -> None:
        """In a forked child: open a channel of the child's own in place of the parent's."""
        with self._runs.lock.held:
            if self.keeps(channel):
                return
            self.ensure_connection(**self._first_connect())
            self._runs.running().reopen_channel(channel, self.call_timeout)

    def forget_channel(self, channel: ChannelCalls) -> None:
        """Drop a closed channel from the connection's books."""
        tree = self._runs.present
        if tree is not None:
            tree.forget(channel)

    def release(self) -> None:
        """Close the connection: publishes under way get ``drain_timeout`` seconds to be confirmed.

        Raises:
            PublishUnknown: some were not; its text says how many.
        """
        self._released = True
        unconfirmed = self._runs.stop(float(self.transport_options.get("drain_timeout", DRAIN_TIMEOUT)))
        if unconfirmed:
            raise PublishUnknown(
                f"{self.as_uri()} was closed with {unconfirmed} publishes that the broker had not confirmed; "
                "they may be lost"
            )

    close = release

    def collect(self, socket_timeout: float | None = None) -> None:
        """Drop the connection at once, without waiting for anything; the next use makes a new one.

        Where ``tells_lost`` is in force, it has one more session first, if that is there at the first dial, a second at
        most: programs collect a connection when they hear of a loss and make another, and what they acknowledged and
        published before that is carried out by it.  The queues that the lost session had to itself are free then, too.
        """
        tree, drain = self._runs.present, 0.0
        if tree is not None and tree.usable and self.transport_options.get("tell_lost", self.tells_lost):
            deadline = time.monotonic() + LAST_SESSION
            try:
                dialling.dial_once(self._runs, LAST_SESSION)
                drain = max(deadline - time.monotonic(), 0.0)
            except self.connection_errors as error:
                logger.debug("%s is dropped without a last session: %r", self.as_uri(), error)
        self._runs.stop(drain)

    def revive(self, new_channel: Channel) -> None:
        """Make another channel the default one; supervision keeps the old one open for whoever uses it."""
        tree = self._runs.present
        if tree is not None and self.keeps(new_channel):
            tree.default_channel = new_channel

    @property
    def events_handled(self) -> int:
        """Changes whenever a thread has handled an event; see ``drain_events``."""
        return self._runs.running().inbox.handled_so_far

    def drain_events(self, timeout: float | None = None, since: int | None = None, **kwargs: object) -> None:
        """Wait for one event and run its callback in this thread.

        Also returns when another thread has handled one meanwhile: it may be what this thread waits for.
        Who looks for something before waiting reads ``events_handled`` before looking, and hands it over
        as ``since``: then nothing is missed in between.
        Recovery is not the caller's work: faults are ridden out by supervision.

        Raises:
            socket.timeout: nothing came within ``timeout`` seconds.
            ConnectionLost: with ``tell_lost``, see ``tells_lost``; draining may go on.
            the root cause, once, when supervision has given up.
        """
        tree = self._runs.present
        if tree is None or not tree.usable:
            failure = tree.inbox.pending_failure() if tree is not None else None
            if failure is not None:
                raise failure
            self.connect()
            tree = self._runs.running()
        try:
            tree.handle_next(timeout, since)
        except TimeoutError as error:
            from ._bridge.inbox import NothingCame

            if isinstance(error, NothingCame):
                raise TimeoutError(str(error)) from None  # kombu's own class, and not ours for telling it apart
            raise

    def register_with_event_loop(self, loop: EventLoop) -> None:
        """Have an event loop, kombu's ``Hub`` or asyncio's, drain events from now on: callbacks run in its thread.

        The loop watches a file that becomes readable when there is news, and on AMQP without TLS the socket of the
        session: deliveries it reads itself; all else, and what comes while it is busy, the runtime does.  What
        callbacks raise, and the root cause once supervision has given up, is raised in the loop.  Connects first when
        there is no session.  It ends with ``release()``; the loop's own ``reset()`` forgets it.
        """
        tree = self._runs.present
        if tree is None or not tree.connected:
            tree = self.connect()
        tree.watch(loop)

    def maybe_close_channel(self, channel: Channel) -> None:
        """Close a channel; errors of connection and channel don't matter then."""
        try:
            channel.close()
        except self.connection_errors + self.channel_errors as error:
            logger.debug("closing %r: %r", channel, error)

    # Retrying

    def ensure_connection(
        self,
        errback: Callable[[BaseException, float], object] | None = None,
        max_retries: int | None = None,
        interval_start: float = 2,
        interval_step: float = 2,
        interval_max: float = 30,
        callback: Callable[[], object] | None = None,
        reraise_as_library_errors: bool = True,
        timeout: float | None = None,
    ) -> Connection:
        """Connect, trying again as told; with none of it told, for ever.

        Each attempt dials one endpoint; between attempts this thread sleeps, but only when every
        endpoint has failed once more.  ``errback(exc, interval)`` hears of each failure and how long
        the sleep is; ``callback()`` is called every second of it.

        Raises:
            OperationalError: the attempts were used up.
        """
        if self.connected:
            return self
        try:
            dialling.connect(
                self,
                self._runs,
                errback=errback,
                max_retries=max_retries,
                interval_start=interval_start,
                interval_step=interval_step,
                interval_max=interval_max,
                callback=callback,
                timeout=timeout,
            )
        except self.recoverable_connection_errors as error:
            if not reraise_as_library_errors:
                raise
            raise OperationalError(str(error)) from error  # none that another ensure would retry once more
        return self

    def reconnect(self, **policy: Unpack[RetryPolicy]) -> None:
        """``ensure_connection`` for those who have met a connection error; asks the broker first whether it lives."""
        dialling.reconnect(self, self._runs, **policy)

    def ensure(
        self,
        obj: Revivable,
        fun: Callable[..., T],
        errback: Callable[[BaseException, float], object] | None = None,
        max_retries: int | None = None,
        interval_start: float = 1,
        interval_step: float = 1,
        interval_max: float = 1,
        on_revive: Callable[[Channel], object] | None = None,
        retry_errors: tuple[type[BaseException], ...] | None = None,
    ) -> Callable[..., T]:
        """Wrap ``fun`` so that connection and channel errors are ridden out and it is called again.

        ``obj.revive(channel)`` and ``on_revive(channel)`` are called after each new session; ``errback(exc,
        interval)`` hears of each failure, of the function (interval 0) and of each dial.

        Raises (from the wrapped function):
            OperationalError: ``max_retries`` were used up (for ``retry_errors`` the error itself).
        """
        return retrying.ensure(
            self,
            obj,
            fun,
            errback=errback,
            max_retries=max_retries,
            interval_start=interval_start,
            interval_step=interval_step,
            interval_max=interval_max,
            on_revive=on_revive,
            retry_errors=retry_errors or (),
        )

    def autoretry(
        self, fun: Callable[..., T], channel: Channel | None = None, **ensure_options: Unpack[EnsureOptions]
    ) -> Callable[..., tuple[T, Channel]]:
        """``ensure`` for a function with a ``channel`` keyword; calls return ``(result, channel used last)``.

        Without a channel the default one is used; the options hold for connecting, too.
        """
        names = ("errback", "max_retries", "interval_start", "interval_step", "interval_max")
        policy = {**self._first_connect(), **{name: value for name, value in ensure_options.items() if name in names}}
        revival = retrying.Revival(self, fun, channel, cast("RetryPolicy", policy))
        return self.ensure(revival, revival, **ensure_options)

    # Makers

    def Producer(
        self,
        channel: Bindable | None = None,
        exchange: Exchange | str | None = None,
        routing_key: str | None = None,
        *args: Any,
        **kwargs: Unpack[ProducerOptions],
    ) -> Producer:
        """A new :class:`~kombu_actors.Producer` on this connection."""
        return Producer(channel or self, exchange, routing_key, *args, **kwargs)

    def Consumer(
        self,
        queues: Queue | Iterable[Queue] | None = None,
        channel: Bindable | None = None,
        *args: Any,
        **kwargs: Unpack[ConsumerOptions],
    ) -> Consumer:
        """A new :class:`~kombu_actors.Consumer` on this connection."""
        return Consumer(channel or self, queues, *args, **kwargs)

    def Pool(self, limit: int | None = None, **kwargs: Unpack[PoolOptions]) -> ConnectionPool:
        """A new pool of up to ``limit`` connections like this one; ``None`` or 0 is no limit."""
        from .pools import ConnectionPool

        return ConnectionPool(self, limit, **kwargs)

    def ChannelPool(self, limit: int | None = None, **kwargs: Unpack[PoolOptions]) -> ChannelPool:
        """A new pool of up to ``limit`` channels of this connection."""
        from .pools import ChannelPool

        return ChannelPool(self, limit, **kwargs)

    def SimpleQueue(
        self,
        name: str | Queue,
        no_ack: bool | None = None,
        queue_opts: Arguments | None = None,
        queue_args: Arguments | None = None,
        exchange_opts: Arguments | None = None,
        channel: Channel | None = None,
        **kwargs: Unpack[SimpleOptions],
    ) -> SimpleQueue:
        """A new :class:`~kombu_actors.simple.SimpleQueue` (persistent) on this connection, or on a channel."""
        from .simple import SimpleQueue

        return SimpleQueue(channel or self, name, no_ack, queue_opts, queue_args, exchange_opts, **kwargs)

    def SimpleBuffer(
        self,
        name: str | Queue,
        no_ack: bool | None = None,
        queue_opts: Arguments | None = None,
        queue_args: Arguments | None = None,
        exchange_opts: Arguments | None = None,
        channel: Channel | None = None,
        **kwargs: Unpack[SimpleOptions],
    ) -> SimpleBuffer:
        """A new :class:`~kombu_actors.simple.SimpleBuffer` (for the moment) on this connection, or on a channel."""
        from .simple import SimpleBuffer

        return SimpleBuffer(channel or self, name, no_ack, queue_opts, queue_args, exchange_opts, **kwargs)

    def get_manager(self, **kwargs: Unpack[ManagerOptions]) -> RabbitMQManagement:
        """RabbitMQ's management API; see ``RabbitMQManagement.of`` for the keywords and options."""
        from ._facade.management import RabbitMQManagement

        return RabbitMQManagement.of(self, **kwargs)

    @property
    def manager(self) -> RabbitMQManagement:
        """RabbitMQ's management API, as ``get_manager()`` gives it."""
        return self.get_manager()

    # The tree

    def watch_sessions(
        self,
        on_lost: Callable[[BaseException, float], object],
        on_regained: Callable[[], object],
        on_consuming: Callable[[], object],
    ) -> SessionWatch:
        """Have the callables called where events are drained; see ``SessionWatch``."""
        from ._bridge.sessions import SessionWatch

        return SessionWatch(self._runs.running(), on_lost, on_regained, on_consuming, timeout=self.call_timeout)

    def call(self, fn: Callable[..., Awaitable[T]], *args: object, timeout: float | None = None, **kwargs: object) -> T:
        """Await ``fn(...)`` in the runtime by a deadline (``call_timeout`` when none is given)."""
        tree = self._runs.running()
        timeout = timeout or self.call_timeout
        call = partial(fn, *args, **kwargs) if args or kwargs else fn
        if in_ensure():  # whose caller says how to wait for the next session
            return tree.call_now(call, timeout=timeout)
        return tree.call(call, timeout=timeout)

    def later(self, fn: Callable[..., Awaitable[object]], *args: object) -> None:
        """Have ``fn(*args)`` awaited in the runtime, by nobody, while this connection is open."""
        tree = self._runs.present
        if tree is not None and tree.usable:
            tree.later(fn, *args)


BrokerConnection = Connection
"""``Connection`` under kombu's old name."""


if not TYPE_CHECKING:  # the pools are made of connections

    def __getattr__(name: str) -> object:
        if name in ("ChannelPool", "ConnectionPool"):
            from . import pools

            return getattr(pools, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _rebuild(cls: type[Connection], arguments: Mapping[str, Any]) -> Connection:
    return cls(**arguments)
