"""Redis as a broker: kombu's queues, shared with stock kombu and Celery, without kombu's losses.

``redis://``, ``rediss://``, ``redis+socket://`` and ``sentinel://``.  What RabbitMQ does in the broker is done here by
scripts in the server, each step in one of them (``protocols.redis``); ``RedisLink`` is a client's side.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from uuid import uuid4

import trio

from ..._values.endpoint import Endpoint, LinkOptions, body_max_of
from ..._values.model import Capabilities, Properties
from ...errors import BrokerUnreachable, ConnectionLost
from ...protocols.redis.options import RedisOptions
from ...protocols.redis.preparing import PreparedMessage, prepare
from ...protocols.virtual import EXCHANGE_TYPES
from .caller import Terms, Wires
from .dial import OpenedWire, Role, open_wire, until_moved
from .handover import Handover
from .link import RedisLink
from .options import DialOptions, pulse_interval
from .tags import new_tag

__all__ = ["RedisTransport"]


class RedisTransport:
    """Opens links to Redis, and writes messages for it; one for each connection."""

    name = "redis"
    capabilities = Capabilities(heartbeats=False, confirms=True, exchange_types=EXCHANGE_TYPES)

    def __init__(self, transport_options: Mapping[str, object] | None = None) -> None:
        self.options = RedisOptions.from_mapping(transport_options or {})
        self._layout = self.options.layout
        self._body_max = body_max_of(transport_options or {})
        self._handover = Handover()

    async def connect(self, endpoint: Endpoint, options: LinkOptions) -> RedisLink:
        """Dial, log in, and take a lease.

        All of it takes at most ``options.connect_timeout`` seconds, or transport option ``socket_connect_timeout``
        where given.

        Raises:
            BrokerUnreachable: nobody answers, or not in time; it is a replica, or not ready.
            HandshakeFailed: the peer fails TLS, or is no Redis server that will do.
            amqp.exceptions.AccessRefused: user or password are wrong, or a permission is missing (403).
            amqp.exceptions.NotAllowed: there is no such database (530).

        Cancelled, it leaves no socket behind; a lease it may have taken runs out.
        """
        if self._handover.pid != os.getpid():
            self._handover = Handover()  # a forked child's: its parent's link lives
        timeout = DialOptions.understood(options.transport_options).socket_connect_timeout or options.connect_timeout
        wires: dict[Role, OpenedWire] = {}
        try:
            with trio.move_on_after(timeout):
                await self._open(endpoint, options, wires)
                link = self._link(endpoint, options, wires)
                await link.begin()
                return link
            raise BrokerUnreachable(f"{endpoint} did not answer within {timeout:g} s")
        except BaseException:
            for opened in wires.values():
                opened.wire.kill(ConnectionLost("the connection was given up before it was whole"))
            raise

    async def _open(self, endpoint: Endpoint, options: LinkOptions, wires: dict[Role, OpenedWire]) -> None:
        """Open the wires that are needed at once, to one server; ``wires`` gets them one by one."""
        main = wires["main"] = await open_wire(endpoint, options, role="main")
        if self.options.confirm_replicas:
            wires["publisher"] = await open_wire(endpoint, options, role="publisher", at=(main.host, main.port))

    def _link(self, endpoint: Endpoint, options: LinkOptions, opened: Mapping[Role, OpenedWire]) -> RedisLink:
        if len({each.server.run_id for each in opened.values()}) > 1:
            raise BrokerUnreachable(f"{endpoint} changed its primary while we dialled")
        main = opened["main"]
        return RedisLink(
            Wires(main.wire, opened.get("publisher", main).wire),
            Terms(
                uuid4().hex,
                main.server.run_id,
                main.server.client_id,
                self.options.layout_in(endpoint.database),
                self.options,
                options.body_max,
            ),
            server_properties={"product": "Redis", "version": main.server.version},
            heartbeat=pulse_interval(options),
            handover=self._handover,
            dial_listener=partial(open_wire, endpoint, options, role="listener", at=(main.host, main.port)),
            lookout=partial(until_moved, endpoint, options, (main.host, main.port or 0))
            if endpoint.scheme == "sentinel"
            else None,
        )

    def prepare(
        self,
        body: bytes,
        *,
        exchange: str,
        routing_key: str,
        properties: Properties,
        mandatory: bool = False,
    ) -> PreparedMessage:
        """Check one message and write its envelope; any thread may call this.

        Raises:
            ValueError: an argument breaks a rule of ``protocols._content``, or the body is too large.
            TypeError: the body is not bytes.
        """
        return prepare(
            body,
            exchange=exchange,
            routing_key=routing_key,
            properties=properties,
            layout=self._layout,
            new_tag=new_tag,
            mandatory=mandatory,
            body_max=self._body_max,
            body_encoding=self.options.body_encoding,
        )

    def content_of(self, prepared: PreparedMessage) -> tuple[Mapping[str, object], bytes]:
        """Properties, as a receiver would see them, and body of a prepared message."""
        return prepared.properties, prepared.body
