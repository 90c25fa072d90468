"""The facade's connection: kombu's ``Connection`` on a supervised tree.

A ``Connection`` is a handle.  What it stands for (desired topology, channels, consumers,
unconfirmed publishes) lives in a ``ConnectionActor`` in the runtime thread, which reconnects,
fails over and replays on its own; this file only starts and stops that tree, hands calls over
and runs callbacks in the thread that drains events.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote

from amqp import exceptions as amqp_errors

from . import _portal
from ._channel import Channel
from ._endpoint import FAILOVER_STRATEGIES, Endpoint, LinkOptions, parse_url, tls_context
from ._inbox import Inbox
from .actors.connection import ConnectionActor
from .errors import DeadlineExceeded, InvalidURL, OperationalError, PublishUnknown
from .messaging import Consumer, Producer
from .transport import transport_for
from .transport._link import Transport
from .utils.functional import fxrange
from .utils.url import as_url

__all__ = ["Connection"]

T = TypeVar("T")
logger = logging.getLogger("kombu_actors.connection")

CALL_TIMEOUT = 30.0
"""Seconds for a call that names no deadline: longer than a failover, shorter than anyone's patience."""
DRAIN_TIMEOUT = 5.0
"""Seconds that ``release()`` gives accepted publishes to be confirmed."""
DEFAULT_HEARTBEAT = 15.0
"""RabbitMQ recommends 5-20 s.  ``heartbeat=0`` asks for this: it costs the caller no work here."""
INBOX_LIMIT = 32 * 1024 * 1024
"""Bytes of deliveries waiting to be drained before reading pauses (consumers without prefetch only)."""
OPTIONS = frozenset(
    {
        "confirm_publish",
        "confirm_timeout",
        "call_timeout",
        "drain_timeout",
        "client_properties",
        "frame_max",
        "channel_max",
        "body_max",
        "max_retries",
        "interval_start",
        "interval_step",
        "interval_max",
        "errback",
        "read_timeout",
        "write_timeout",
    }
)
"""Transport options that mean something here; others are kept for ``info()`` and ignored, as in kombu."""


class Connection:
    """A connection to the broker, made when first needed and supervised from then on.

    Arguments:
        hostname: Broker URL, several separated by ``;``, or a list of them; or a host name.
        ssl: ``True``, the documented dict (``ca_certs``, ``certfile``, ``keyfile``, ``cert_reqs``)
            or an ``ssl.SSLContext``.  Chain and host name are verified.
        connect_timeout: Seconds for TCP, TLS and handshake with one host.
        transport_options: ``confirm_publish=True`` makes every publish wait for its own outcome;
            ``call_timeout`` is the deadline of calls that name none; ``drain_timeout`` what
            ``release()`` grants publishes under way; ``body_max`` the largest body accepted.
        heartbeat: Seconds; 0 means the default of 15.  Beating needs no work from the caller.
        failover_strategy: ``round-robin``, ``shuffle`` or a callable from a list of endpoints to an
            iterator of them.

    May be used from any number of threads.  See kombu's "Connections and transports" for the
    documented interface; ``docs/differences.md`` lists what is different on purpose.
    """

    failover_strategies = FAILOVER_STRATEGIES

    def __init__(
        self,
        hostname: str | Sequence[str] | None = "localhost",
        userid: str | None = None,
        password: str | None = None,
        virtual_host: str | None = None,
        port: int | None = None,
        insist: bool = False,
        ssl: Any = False,
        transport: str | None = None,
        connect_timeout: float = 5,
        transport_options: Mapping[str, Any] | None = None,
        login_method: str | None = None,
        uri_prefix: str | None = None,
        heartbeat: float = 0,
        failover_strategy: Any = "round-robin",
        alternates: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs:
            raise TypeError(f"Connection() got unexpected keyword arguments: {', '.join(sorted(kwargs))}")
        self.insist = insist
        self.ssl = ssl
        self.connect_timeout = connect_timeout
        self.transport_options = dict(transport_options or {})
        self.login_method = login_method
        self.uri_prefix = uri_prefix
        self.heartbeat = heartbeat
        self.failover_strategy = failover_strategy or "round-robin"
        self.declared_entities: set[Any] = set()
        self._given = {"userid": userid, "password": password, "virtual_host": virtual_host, "port": port}
        self.alt, self._endpoints = self._resolve(hostname, transport, alternates)
        self.transport_driver: Transport = transport_for(self._endpoints[0].scheme)
        self._options = self._link_options()
        self._tree: _Tree | None = None
        self._lock = _portal.new_lock()
        """Held while the tree or the default channel is being made: threads share a connection."""

    def _resolve(
        self, hostname: str | Sequence[str] | None, transport: str | None, alternates: Sequence[str] | None
    ) -> tuple[list[str], list[Endpoint]]:
        texts = [hostname or "localhost"] if isinstance(hostname, str | None) else list(hostname)
        texts = [text for each in texts for text in each.split(";")] + list(alternates or [])
        tls = tls_context(self.ssl)
        endpoints = []
        for text in texts:
            url = text if "://" in text else f"{transport or 'amqp'}://{text}"
            endpoint = parse_url(url, tls=tls, defaults=self._given)
            transport_for(endpoint.scheme)
            endpoints.append(endpoint)
        if len({type(transport_for(endpoint.scheme)) for endpoint in endpoints}) > 1:
            raise InvalidURL("all URLs of one connection must use the same transport")
        return (texts if len(texts) > 1 else []), endpoints

    def _link_options(self) -> LinkOptions:
        options = self.transport_options
        names = ("client_properties", "frame_max", "channel_max", "body_max")
        named = {name: options[name] for name in names if name in options}
        return LinkOptions(
            connect_timeout=self.connect_timeout,
            heartbeat=self.heartbeat or DEFAULT_HEARTBEAT,
            login_method=self.login_method or "PLAIN",
            **named,
        )

    def __repr__(self) -> str:
        return f"<Connection: {self.as_uri()} at {id(self):#x}>"

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

    # Parameters of the endpoint in use

    @property
    def _endpoint(self) -> Endpoint:
        return self._tree.actor.session.selector.current if self._tree is not None else self._endpoints[0]

    @property
    def hostname(self) -> str:
        """Host of the endpoint in use."""
        return self._endpoint.host

    @property
    def port(self) -> int | None:
        """Port of the endpoint in use."""
        return self._endpoint.port

    @property
    def userid(self) -> str | None:
        """User name."""
        return self._endpoint.userid

    @property
    def password(self) -> str | None:
        """Password; never part of a repr or a log."""
        return self._endpoint.password

    @property
    def virtual_host(self) -> str:
        """Virtual host of the endpoint in use."""
        return self._endpoint.virtual_host

    @property
    def host(self) -> str:
        """Host and port, separated by a colon."""
        return f"{self.hostname}:{self.port}"

    @property
    def confirm_publish(self) -> bool:
        """Whether each publish waits for its own outcome."""
        return bool(self.transport_options.get("confirm_publish"))

    @property
    def call_timeout(self) -> float:
        """Seconds for a call that names no deadline."""
        return float(self.transport_options.get("call_timeout", CALL_TIMEOUT))

    def info(self) -> dict[str, Any]:
        """The connection's parameters (the password included)."""
        endpoint = self._endpoint
        return {
            "hostname": endpoint.host,
            "userid": endpoint.userid,
            "password": endpoint.password,
            "virtual_host": endpoint.virtual_host,
            "port": endpoint.port,
            "insist": self.insist,
            "ssl": self.ssl,
            "transport": endpoint.scheme,
            "connect_timeout": self.connect_timeout,
            "transport_options": self.transport_options,
            "login_method": self.login_method,
            "uri_prefix": self.uri_prefix,
            "heartbeat": self.heartbeat,
            "failover_strategy": self.failover_strategy,
            "alternates": list(self.alt),
        }

    def as_uri(self, include_password: bool = False, mask: str = "**") -> str:
        """The connection in URL form, its password masked unless asked for."""
        endpoint = self._endpoint
        return as_url(
            endpoint.scheme,
            endpoint.host,
            endpoint.port,
            endpoint.userid,
            endpoint.password,
            quote(endpoint.virtual_host, safe="/"),
            sanitize=not include_password,
            mask=mask,
        )

    # Errors, as kombu's amqp transport names them, on every transport

    @property
    def recoverable_connection_errors(self) -> tuple[type[BaseException], ...]:
        """Errors after which a new session may succeed."""
        return (amqp_errors.RecoverableConnectionError, amqp_errors.MessageNacked, OSError)

    @property
    def recoverable_channel_errors(self) -> tuple[type[BaseException], ...]:
        """Errors after which a new channel may succeed."""
        return (amqp_errors.RecoverableChannelError,)

    @property
    def connection_errors(self) -> tuple[type[BaseException], ...]:
        """Errors of the connection."""
        return (amqp_errors.ConnectionError, OSError)

    @property
    def channel_errors(self) -> tuple[type[BaseException], ...]:
        """Errors of a channel."""
        return (amqp_errors.ChannelError,)

    @property
    def supports_heartbeats(self) -> bool:
        """Whether the transport has heartbeats."""
        return self.transport_driver.capabilities.heartbeats

    # Life

    @property
    def connected(self) -> bool:
        """Whether a session is up at this moment."""
        tree = self._tree
        if tree is None:
            return False
        link = tree.actor.session.link
        return link is not None and link.closed is None

    def connect(self) -> ConnectionActor:
        """Connect now: one pass over all endpoints.

        Raises:
            BrokerUnreachable: none accepted; its text has the reason for each.
            AccessRefused, NotAllowed: wrong credentials, wrong virtual host.
        """
        tree = self._running_tree()
        tree.portal.call(tree.actor.wait_ready, timeout=self._dial_timeout)
        return tree.actor

    @property
    def connection(self) -> ConnectionActor:
        """The connection actor; connects when there is none."""
        return self._tree.actor if self._tree is not None and self.connected else self.connect()

    def channel(self) -> Channel:
        """Open a channel."""
        self.connect()
        return self._new_channel()

    @property
    def default_channel(self) -> Channel:
        """The channel used where a connection is given instead of one; opened at first access."""
        tree = self._tree
        if tree is not None and tree.default_channel is not None and tree.pid == os.getpid():
            return tree.default_channel
        with self._lock:
            self.ensure_connection(**{"timeout": self.call_timeout, **self._own_retry_policy()})
            tree = self._running_tree()
            if tree.default_channel is None:
                tree.default_channel = self._new_channel()
            return tree.default_channel

    def _new_channel(self) -> Channel:
        tree = self._running_tree()
        inbox = tree.inbox
        actor = tree.portal.call(tree.actor.open_channel, inbox.fail, timeout=self.call_timeout)
        channel = Channel(self, tree.portal, actor, inbox)
        tree.channels[channel.channel_id] = channel
        return channel

    def forget_channel(self, channel: Channel) -> None:
        """Drop a closed channel from the connection's books."""
        tree = self._tree
        if tree is not None:
            tree.channels.pop(channel.channel_id, None)
            if tree.default_channel is channel:
                tree.default_channel = None

    def hosts(self, portal: _portal.Portal) -> bool:
        """Whether this connection's tree runs in that runtime."""
        return self._tree is not None and self._tree.portal is portal

    def release(self) -> None:
        """Close the connection: publishes under way get ``drain_timeout`` seconds to be confirmed.

        Raises:
            PublishUnknown: some were not; its text says how many.
        """
        tree, self._tree = self._tree, None
        self.declared_entities.clear()
        if tree is None or tree.pid != os.getpid():
            return
        tree.finalizer.detach()
        unconfirmed = _portal.stop_tree(
            tree.portal, tree.tenant, float(self.transport_options.get("drain_timeout", DRAIN_TIMEOUT))
        )
        if unconfirmed:
            raise PublishUnknown(
                f"{self.as_uri()} was closed with {unconfirmed} publishes that the broker had not confirmed; "
                "they may be lost"
            )

    close = release

    def clone(self, **kwargs: Any) -> Connection:
        """A new connection with the same parameters."""
        parameters: dict[str, Any] = {
            "hostname": [endpoint_url(e) for e in self._endpoints],
            "insist": self.insist,
            "ssl": self.ssl,
            "connect_timeout": self.connect_timeout,
            "transport_options": self.transport_options,
            "login_method": self.login_method,
            "uri_prefix": self.uri_prefix,
            "heartbeat": self.heartbeat,
            "failover_strategy": self.failover_strategy,
        }
        return type(self)(**{**parameters, **kwargs})

    def drain_events(self, timeout: float | None = None) -> None:
        """Wait for one event and run its callback in this thread.

        Recovery is not the caller's work: faults are ridden out by supervision.

        Raises:
            socket.timeout: nothing came within ``timeout`` seconds.
            the root cause, once, when supervision has given up.
        """
        tree = self._tree
        if tree is None or tree.pid != os.getpid():
            self.connect()
            tree = self._running_tree()
        inbox, channels = tree.inbox, tree.channels
        key, item = inbox.get(timeout)
        while not key.dispatch(channels, item):
            key, item = inbox.get(timeout)

    def heartbeat_check(self, rate: float = 2) -> None:
        """Raise the pending failure when supervision has given up.  Beating itself needs no call."""
        if self._tree is not None and self._tree.actor.failure is not None:
            raise self._tree.actor.failure

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

        ``errback(exc, interval)`` hears each failure and how long the wait until the next attempt is.

        Raises:
            OperationalError: the attempts were used up.
        """
        if self.connected:
            return self
        intervals = fxrange(interval_start, interval_max, interval_step, repeatlast=True)
        waited = 0.0
        for retries, interval in enumerate(intervals):
            try:
                self._connect_within(interval)
            except self.recoverable_connection_errors as error:
                out_of_time = timeout is not None and waited >= timeout
                if out_of_time or (max_retries is not None and retries >= max_retries):
                    if reraise_as_library_errors and not isinstance(error, OperationalError):
                        raise OperationalError(str(error)) from error
                    raise
                if errback is not None:
                    errback(error, interval)
                if callback is not None:
                    callback()
                if not isinstance(error, DeadlineExceeded):
                    _portal.pause(self._running_tree(fresh=False).portal, interval)
                waited += interval
            else:
                return self
        raise AssertionError("fxrange(repeatlast=True) never ends")

    def _connect_within(self, interval: float) -> None:
        """One attempt: a dial when nothing runs, else give supervision ``interval`` seconds."""
        tree = self._tree
        if tree is None or tree.actor.failure is not None or tree.pid != os.getpid():
            self.connect()
            return
        try:
            tree.portal.call(tree.actor.wait_ready, timeout=max(interval, 0.1))
        except DeadlineExceeded as error:
            raise (tree.dial_errors[-1] if tree.dial_errors else error) from None

    def ensure(
        self,
        obj: Any,
        fun: Callable[..., T],
        errback: Callable[[BaseException, float], object] | None = None,
        max_retries: int | None = None,
        interval_start: float = 1,
        interval_step: float = 1,
        interval_max: float = 1,
        on_revive: Callable[[Any], object] | None = None,
        retry_errors: tuple[type[BaseException], ...] | None = None,
    ) -> Callable[..., T]:
        """Wrap ``fun`` so that connection and channel errors are ridden out and it is called again.

        Raises (from the wrapped function):
            OperationalError: ``max_retries`` were used up.
        """

        again_on = retry_errors or ()

        def ensured(*args: Any, **kwargs: Any) -> T:
            retries = 0
            while True:
                try:
                    return fun(*args, **kwargs)
                except again_on as error:
                    if max_retries is not None and retries >= max_retries:
                        raise
                    logger.debug("ensure: trying again after %r", error)
                except self.recoverable_connection_errors as error:
                    if max_retries is not None and retries >= max_retries:
                        raise OperationalError(str(error)) from error
                    if errback is not None:
                        errback(error, 0)
                    remaining = None if max_retries is None else max(max_retries - retries, 1)
                    self.ensure_connection(errback, remaining, interval_start, interval_step, interval_max)
                    channel = self._revived_channel(obj, interval_max)
                    if on_revive is not None:
                        on_revive(channel)
                except self.recoverable_channel_errors as error:
                    if max_retries is not None and retries >= max_retries:
                        raise OperationalError(str(error)) from error
                    if errback is not None:
                        errback(error, 0)
                retries += 1

        ensured.__name__ = f"{getattr(fun, '__name__', 'fun')}(ensured)"
        ensured.__doc__ = fun.__doc__
        return ensured

    def _revived_channel(self, obj: Any, interval: float) -> Channel:
        """The channel to go on with after a reconnect: the object's own, which supervision reopens."""
        channel = self.default_channel
        own = getattr(obj, "__dict__", {}).get("_channel")
        if isinstance(own, Channel) and own.connection is self and own.channel_id in self._running_tree().channels:
            channel = own
        try:
            channel.wait_open(max(interval, 1.0))
        except DeadlineExceeded:
            logger.debug("%r is still being reopened", channel)
        if own is not channel and hasattr(obj, "revive"):
            obj.revive(channel)
        return channel

    # Makers

    def Producer(self, channel: Any = None, *args: Any, **kwargs: Any) -> Producer:
        """A new :class:`~kombu_actors.Producer` on this connection."""
        return Producer(channel or self, *args, **kwargs)

    def Consumer(self, queues: Any = None, channel: Any = None, *args: Any, **kwargs: Any) -> Consumer:
        """A new :class:`~kombu_actors.Consumer` on this connection."""
        return Consumer(channel or self, queues, *args, **kwargs)

    # The tree

    def call(self, fn: Callable[..., Any], *args: Any, timeout: float | None = None, **kwargs: Any) -> Any:
        """Await ``fn(...)`` in the runtime by a deadline (``call_timeout`` when none is given)."""
        tree = self._running_tree()
        if kwargs:
            return tree.portal.call(_with_keywords, fn, args, kwargs, timeout=timeout or self.call_timeout)
        return tree.portal.call(fn, *args, timeout=timeout or self.call_timeout)

    @property
    def _dial_timeout(self) -> float:
        return float(self.connect_timeout) * len(self._endpoints) + self.call_timeout

    def _own_retry_policy(self) -> dict[str, Any]:
        names = ("max_retries", "interval_start", "interval_step", "interval_max", "errback")
        return {name: self.transport_options[name] for name in names if name in self.transport_options}

    def _running_tree(self, *, fresh: bool = True) -> _Tree:
        tree = self._tree
        if tree is not None and tree.pid == os.getpid() and (tree.actor.failure is None or not fresh):
            return tree
        with self._lock:
            if self._tree is tree:
                if tree is not None and tree.pid == os.getpid():
                    self._discard(tree)
                self._tree = _Tree(self)
            assert self._tree is not None
            return self._tree

    def _discard(self, tree: _Tree) -> None:
        """Put away a tree that gave up; the next one starts without channels."""
        self.declared_entities.clear()
        tree.finalizer.detach()
        _portal.stop_tree(tree.portal, tree.tenant, 0)


class _Tree:
    """A running tree and this side's view of it; thrown away when the connection is released.

    The actor's side refers to the inbox and to ``dial_errors`` only, never to this object: else
    a connection that nobody refers to any more could not be collected, and its tree not ended.
    """

    def __init__(self, connection: Connection) -> None:
        self.pid = os.getpid()
        self.channels: dict[int, Channel] = {}
        self.default_channel: Channel | None = None
        self.dial_errors: deque[BaseException] = deque(maxlen=1)
        self.actor = actor = ConnectionActor(
            connection.transport_driver,
            connection._endpoints,
            connection._options,
            failover_strategy=connection.failover_strategy,
            on_dial_failed=partial(_note_dial_error, self.dial_errors),
        )
        self.inbox = Inbox(INBOX_LIMIT, actor.pause_reading)
        actor.on_failure = self.inbox.fail
        self.portal, self.tenant = _portal.start_tree(actor)
        self.inbox.on_room = partial(self.portal.post, actor.resume_reading)
        self.finalizer = weakref.finalize(connection, _portal.abandon_tree, self.portal, self.tenant)
        self.finalizer.atexit = False


def _note_dial_error(errors: deque[BaseException], endpoint: Endpoint, error: BaseException) -> None:
    errors.append(error)


async def _with_keywords(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return await fn(*args, **kwargs)


def endpoint_url(endpoint: Endpoint) -> str:
    """The endpoint as a URL, password included: for making another connection like it."""
    return as_url(
        endpoint.scheme,
        endpoint.host,
        endpoint.port,
        endpoint.userid,
        endpoint.password,
        quote(endpoint.virtual_host, safe="/"),
        sanitize=False,
    )
