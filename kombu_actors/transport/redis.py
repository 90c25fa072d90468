"""Redis as a broker: kombu's queues, shared with stock kombu and Celery, without kombu's losses.

``redis://``, ``rediss://``, ``redis+socket://`` and ``sentinel://``.  What RabbitMQ does in the broker is done here by
scripts in the server, each step in one of them (``protocols.redis``); ``RedisLink`` is a client's side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from .._endpoint import Endpoint
from .._model import Properties
from ..errors import BrokerUnreachable, ConnectionLost
from ..protocols.redis import consuming_calls
from ..protocols.redis.options import RedisOptions
from ..protocols.redis.preparing import PreparedMessage, prepare
from ..protocols.virtual import EXCHANGE_TYPES
from ._link import Capabilities
from ._redis_dial import OpenedWire, open_wire
from ._redis_hello import served_meanwhile
from ._redis_link import ROLES, RedisLink, new_tag
from ._redis_options import pulse_interval

__all__ = ["RedisTransport"]


class RedisTransport:
    """Opens links to Redis, and writes messages for it; one for each connection."""

    name = "redis"
    roles: Sequence[str] = ROLES
    capabilities = Capabilities(heartbeats=False, confirms=True, exchange_types=EXCHANGE_TYPES)

    def __init__(self, transport_options: Mapping[str, Any] | None = None) -> None:
        self.options = RedisOptions.from_mapping(transport_options or {})
        self._layout = self.options.layout
        self._predecessor = ""
        """The owner of our former link: what it held is given back before the next one claims anything."""

    async def connect(self, endpoint: Endpoint, options: Any) -> RedisLink:
        """Dial, log in, and take a lease, within ``options.connect_timeout`` seconds altogether.

        Raises:
            BrokerUnreachable: nobody answers, or not in time; it is a replica, or not ready.
            HandshakeFailed: the peer fails TLS, or is no Redis server that will do.
            amqp.exceptions.AccessRefused: user or password are wrong, or a permission is missing (403).
            amqp.exceptions.NotAllowed: there is no such database (530).

        Cancelled, it leaves no socket behind; a lease it may have taken runs out.
        """
        main = await open_wire(endpoint, options, role="main")
        listener: OpenedWire | None = None
        try:
            listener = await open_wire(endpoint, options, role="listener")
            if listener.server.run_id != main.server.run_id:
                raise BrokerUnreachable(f"{endpoint} changed its primary while we dialled")
            link = self._link(endpoint, options, main, listener)
            await served_meanwhile(main.wire, lambda: served_meanwhile(listener.wire, lambda: self._begin(link, main)))
        except BaseException:
            for opened in (main, listener):
                if opened is not None:
                    opened.wire.kill(ConnectionLost("the connection was given up before it was whole"))
            raise
        self._predecessor = link.owner
        return link

    def _link(self, endpoint: Endpoint, options: Any, main: OpenedWire, listener: OpenedWire) -> RedisLink:
        return RedisLink(
            main.wire,
            listener.wire,
            owner=uuid4().hex,
            layout=self.options.layout_in(endpoint.database),
            options=self.options,
            server_properties={"product": "Redis", "version": main.server.version},
            run_id=main.server.run_id,
            heartbeat=pulse_interval(options),
        )

    async def _begin(self, link: RedisLink, main: OpenedWire) -> None:
        await link.listen_to_words()
        hello = consuming_calls.hello(main.server.client_id, main.server.run_id, self.options.lease, self._predecessor)
        link.attend((), await link.call(hello))

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
            body_encoding=self.options.body_encoding,
        )
