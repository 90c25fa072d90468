"""Opening wires to Redis: TCP, TLS or a Unix socket, by way of a Sentinel where the URL names one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Literal, NoReturn

import attrs
import trio
from amqp.exceptions import AMQPError

from ..._logs import get_logger
from ..._values.endpoint import Endpoint, LinkOptions
from ..._values.tls_settings import TLSSettings
from ...errors import BrokerUnreachable, ConnectionLost, InvalidURL, OperationalError
from .._stream import ByteStream, dial, dial_unix
from .cluster import slot_of
from .hello import Introduction, Server, cut_short, greet
from .options import DialOptions, pulse_interval
from .sentinel import find_primary, next_primary
from .wire import RedisWire

__all__ = ["OpenedWire", "Role", "open_wire", "until_moved"]

logger = get_logger("kombu_actors.redis")

Role = Literal["main", "listener", "publisher", "lookout"]
"""What a wire is for; part of the name it has in the server's CLIENT LIST."""
DEFAULT_PORT: Final = 6379
SENTINEL_PORT: Final = 26379
LOOKOUT_PAUSE: Final = 1.0
"""Seconds until a sentinel that was lost is asked again: a little less than a failover takes."""


@attrs.frozen
class OpenedWire:
    """A wire after its handshake, and who is at the other end.  Run its reader and writer."""

    wire: RedisWire
    server: Server
    host: str
    """Where the server was found; with a Sentinel, not the URL's host.  The path of a Unix socket."""
    port: int | None


async def open_wire(
    endpoint: Endpoint, options: LinkOptions, *, role: Role, at: tuple[str, int | None] | None = None
) -> OpenedWire:
    """Dial ``endpoint``, shake hands and choose the database.

    ``at`` is where a first wire found the server (``host`` and ``port``): a second one goes there too, whatever
    a Sentinel says meanwhile.

    All of it takes at most ``options.connect_timeout`` seconds, or transport option
    ``socket_connect_timeout`` where given.

    Raises:
        BrokerUnreachable: nobody answers there, or not in time; it is a replica, or not ready, or, for a
            Sentinel, knows of no living primary.
        HandshakeFailed: the peer fails TLS, or isn't a Redis server as is needed.
        amqp.exceptions.AccessRefused: user or password are wrong, or a permission is missing (403).
        amqp.exceptions.NotAllowed: there is no such database (530).
        InvalidURL: an option, or the URL, can't be used; nothing was dialled.

    Cancelled, it leaves no socket behind.
    """
    attempt = _Attempt(endpoint, options, role)
    timeout = attempt.dialling.socket_connect_timeout or options.connect_timeout
    with trio.move_on_after(timeout):
        return await attempt.run(at)
    raise BrokerUnreachable(f"{attempt.where} did not answer within {timeout:g} s ({attempt.phase})")


async def ask_sentinel(endpoint: Endpoint, options: LinkOptions) -> tuple[str, int]:
    """The host and port of the primary, by the Sentinel of ``endpoint``; deadlines and errors as ``open_wire``."""
    attempt = _Attempt(endpoint, options, "lookout")
    timeout = attempt.dialling.socket_connect_timeout or options.connect_timeout
    with trio.move_on_after(timeout):
        return await attempt.ask_sentinel()
    raise BrokerUnreachable(f"{attempt.where} did not answer within {timeout:g} s ({attempt.phase})")


async def until_moved(endpoint: Endpoint, options: LinkOptions, primary: tuple[str, int]) -> NoReturn:
    """Wait until the Sentinel of ``endpoint`` names another server than ``primary``, then raise ``ConnectionLost``.

    A primary that was failed over while it lives takes writes for some 10 s more, which are lost when it becomes
    a replica.  A sentinel that is away is looked for again and again.
    """
    while True:
        attempt = _Attempt(endpoint, options, "lookout")
        try:
            host, port = await attempt.until_moved(primary)
        except (OperationalError, AMQPError) as error:
            logger.debug("the sentinel of %s can't say when the primary changes: %s", endpoint, error)
            await trio.sleep(LOOKOUT_PAUSE)
            continue
        raise ConnectionLost(f"{primary[0]}:{primary[1]} is no longer the primary: {attempt.where} names {host}:{port}")


class _Attempt:
    """One try to open a wire; ``where`` and ``phase`` say what it waits for."""

    def __init__(self, endpoint: Endpoint, options: LinkOptions, role: Role) -> None:
        self.endpoint = endpoint
        self.options = options
        self.dialling = DialOptions.understood(options.transport_options)
        self.name = self.dialling.client_name or f"kombu_actors:{role}"
        self.db = endpoint.database
        self.where = str(endpoint)
        self.phase = "while connecting"
        if endpoint.scheme == "sentinel" and self.dialling.master_name is None:
            raise InvalidURL(
                "a sentinel:// URL needs the name of the group: transport_options={'master_name': 'mymaster'}"
            )

    async def run(self, at: tuple[str, int | None] | None) -> OpenedWire:
        endpoint = self.endpoint
        if endpoint.scheme == "redis+socket":
            self.where = endpoint.host
            stream = await dial_unix(endpoint.host)
            return await self._greeted(stream, endpoint.host, None, None)
        if at is not None:
            return await self._primary(at[0], at[1] or DEFAULT_PORT)
        if endpoint.scheme != "sentinel":
            return await self._primary(endpoint.host, endpoint.port or DEFAULT_PORT)
        host, port = await self.ask_sentinel()
        sentinel = self.where
        try:
            return await self._primary(host, port)
        except BrokerUnreachable as error:
            raise type(error)(f"{error} (the primary by the sentinel {sentinel})") from error

    async def ask_sentinel(self) -> tuple[str, int]:
        """The host and port of the primary."""
        return await self._with_sentinel(
            lambda wire, we: find_primary(wire, we, self.service, self.dialling.min_other_sentinels)
        )

    async def until_moved(self, primary: tuple[str, int]) -> tuple[str, int]:
        """Wait until the sentinel names another primary."""
        pulse = pulse_interval(self.options)
        return await self._with_sentinel(lambda wire, we: next_primary(wire, we, self.service, primary, pulse))

    @property
    def service(self) -> str:
        """The name that the sentinels have for the group."""
        return self.dialling.master_name or ""

    async def _with_sentinel(
        self, talk: Callable[[RedisWire, Introduction], Awaitable[tuple[str, int]]]
    ) -> tuple[str, int]:
        endpoint, settings = self.endpoint, self.dialling.sentinel
        port = endpoint.port or SENTINEL_PORT
        stream = await self._connected(endpoint.host, port, settings.tls)
        wire = self._wire(stream)
        we = Introduction(
            where=self.where,
            name=self.name,
            db=0,
            userid=settings.userid,
            password=settings.password,
            credentials="a sentinel's own go into transport option sentinel_kwargs={'password': ...}",
        )
        self.phase = "asking the sentinel"
        try:
            return await talk(wire, we)
        except ConnectionLost as error:
            raise cut_short(self.where, endpoint.host, error, tls=settings.tls is not None, phase=self.phase) from error
        finally:
            wire.kill(ConnectionLost("the sentinel has answered"))

    async def _primary(self, host: str, port: int) -> OpenedWire:
        """Of a cluster, the node that has our keys, whichever of its nodes is at that address."""
        opened = await self._dialled(host, port)
        if opened.server.elsewhere is None:
            return opened
        opened.wire.kill(ConnectionLost("another node of the cluster has our keys"))
        opened = await self._dialled(*opened.server.elsewhere)
        if opened.server.elsewhere is not None:
            opened.wire.kill(ConnectionLost("another node of the cluster has our keys"))
            raise BrokerUnreachable(f"{self.where} should have our keys and says it hasn't: the cluster is changing")
        return opened

    async def _dialled(self, host: str, port: int) -> OpenedWire:
        stream = await self._connected(host, port, self.endpoint.tls)
        return await self._greeted(stream, host, port, self.endpoint.tls)

    async def _connected(self, host: str, port: int, tls: TLSSettings | None) -> ByteStream:
        self.where = f"{host}:{port}"
        self.phase = "while connecting" if tls is None else "while connecting with TLS: a plain port never answers that"
        stream = await dial(host, port, tls)
        try:
            stream.keep_alive(self.dialling.socket_keepalive, self.dialling.socket_keepalive_options)
        except OSError as error:
            stream.close()
            raise InvalidURL(f"transport option socket_keepalive_options: the system says: {error.strerror}") from error
        return stream

    async def _greeted(self, stream: ByteStream, host: str, port: int | None, tls: TLSSettings | None) -> OpenedWire:
        self.phase = "Redis handshake"
        wire = self._wire(stream)
        endpoint = self.endpoint
        we = Introduction(
            where=self.where,
            name=self.name,
            db=self.db,
            host=host,
            slot=slot_of(str(self.options.transport_options.get("global_keyprefix") or "")),
            userid=endpoint.userid,
            password=endpoint.password,
        )
        try:
            server = await greet(wire, we)
        except ConnectionLost as error:
            raise cut_short(self.where, host, error, tls=tls is not None, phase=self.phase) from error
        except BaseException:
            wire.kill(ConnectionLost("the handshake failed"))
            raise
        return OpenedWire(wire, server, host, port)

    def _wire(self, stream: ByteStream) -> RedisWire:
        return RedisWire(stream, name=self.where, body_max=self.options.body_max)
