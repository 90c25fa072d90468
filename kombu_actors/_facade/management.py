"""RabbitMQ's management API over HTTP: what AMQP has no words for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict
from urllib.parse import quote

import attrs
from amqp.exceptions import AccessRefused, NotFound

from .._bridge import leases
from ..errors import BrokerUnreachable, OperationalError

if TYPE_CHECKING:
    from ssl import SSLContext
    from types import ModuleType

    from ..connection import Connection

__all__ = ["RabbitMQManagement"]

TIMEOUT = 5.0
"""Seconds for a whole call, connecting and reading included; nobody waits longer for a status page."""
ANSWER_MAX = 64 * 1024 * 1024
"""Bytes of an answer: some ten thousand queues.  Ask by virtual host where there are more."""
PLAIN_PORT, TLS_PORT = 15672, 15671

Json = dict[str, Any]
"""What the server says of one thing; RabbitMQ's documentation of its management API says what is in there."""


class ManagerOptions(TypedDict, total=False):
    """What ``RabbitMQManagement.of`` may be told."""

    hostname: str | None
    port: int | None
    userid: str | None
    password: str | None
    timeout: float


@attrs.frozen(kw_only=True)
class RabbitMQManagement:
    """A broker's management API.  Get it as ``Connection.manager``; each call is one HTTP request.

    The answers are the API's own (https://www.rabbitmq.com/docs/http-api-reference), as dicts and lists.
    Statistics in them lag behind by some seconds.  ``vhost`` defaults to the connection's.

    Every call may raise:
        BrokerUnreachable: nobody answers there; is the plugin rabbitmq_management enabled?
        AccessRefused: the user has no access (it needs the tag ``management``, or more).
        NotFound: there is no such thing.
        DeadlineExceeded: there was no complete answer within ``timeout`` seconds.
        OperationalError: the broker refused for another reason, which the text gives.
    """

    url: str
    userid: str
    password: str = attrs.field(repr=False)
    virtual_host: str = "/"
    tls: SSLContext | None = attrs.field(default=None, repr=False)
    timeout: float = TIMEOUT

    @classmethod
    def of(
        cls,
        connection: Connection,
        hostname: str | None = None,
        port: int | None = None,
        userid: str | None = None,
        password: str | None = None,
        timeout: float = TIMEOUT,
    ) -> RabbitMQManagement:
        """The API of the broker that a connection goes to.

        What isn't given is taken from the transport options ``manager_hostname``, ``manager_port``,
        ``manager_userid`` and ``manager_password``, else it is the connection's own; the port is
        15672, or 15671 with TLS where the connection has it.

        Raises:
            NotImplementedError: the connection's transport has no such API.
            ImportError: the extra ``mgmt`` isn't installed.
        """
        scheme = connection.transport_cls
        if connection.transport_driver.name != "amqp":
            raise NotImplementedError(f"{scheme}:// has no management API; RabbitMQ's needs an amqp:// connection")
        _httpx()
        option = connection.transport_options.get
        endpoint = connection._endpoint
        host = hostname or option("manager_hostname") or endpoint.host
        tls = endpoint.tls
        port = port or option("manager_port") or (TLS_PORT if tls else PLAIN_PORT)
        return cls(
            url=f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}/api",
            userid=userid or option("manager_userid") or endpoint.userid or "guest",
            password=password or option("manager_password") or endpoint.password or "guest",
            virtual_host=endpoint.virtual_host,
            tls=tls.context() if tls else None,
            timeout=timeout,
        )

    def get(self, *path: str) -> Any:
        """The answer to ``GET /api/path[0]/path[1]/...``; each part is escaped."""
        return self._request("GET", path)

    def put(self, *path: str, body: Mapping[str, object] | None = None) -> Any:
        """``PUT``, with ``body`` as JSON."""
        return self._request("PUT", path, body or {})

    def post(self, *path: str, body: Mapping[str, object] | None = None) -> Any:
        """``POST``, with ``body`` as JSON."""
        return self._request("POST", path, body or {})

    def delete(self, *path: str) -> None:
        """``DELETE``."""
        self._request("DELETE", path)

    # What people ask most, under the names of the client that kombu hands out (pyrabbit)

    def is_alive(self, vhost: str | None = None) -> bool:
        """Whether a message can go through the broker: it declares a queue ``aliveness-test``, publishes and gets."""
        return bool(self.get("aliveness-test", self._vhost(vhost))["status"] == "ok")

    def get_overview(self) -> Json:
        """Versions, totals, listeners."""
        return dict(self.get("overview"))

    def get_nodes(self) -> list[Json]:
        """The cluster's nodes, with their alarms."""
        return list(self.get("nodes"))

    def get_all_vhosts(self) -> list[Json]:
        """The virtual hosts."""
        return list(self.get("vhosts"))

    def get_connections(self) -> list[Json]:
        """All clients' connections."""
        return list(self.get("connections"))

    def delete_connection(self, name: str) -> None:
        """Close a client's connection."""
        self.delete("connections", name)

    def get_channels(self) -> list[Json]:
        """All clients' channels."""
        return list(self.get("channels"))

    def get_exchanges(self, vhost: str | None = None) -> list[Json]:
        """The exchanges of a virtual host."""
        return list(self.get("exchanges", self._vhost(vhost)))

    def get_queues(self, vhost: str | None = None) -> list[Json]:
        """The queues of a virtual host."""
        return list(self.get("queues", self._vhost(vhost)))

    def get_queue(self, vhost: str, name: str) -> Json:
        """One queue."""
        return dict(self.get("queues", vhost, name))

    def get_queue_depth(self, vhost: str, name: str) -> int:
        """How many messages a queue has, ready or not, as of some seconds ago."""
        return int(self.get_queue(vhost, name).get("messages") or 0)

    def get_queue_bindings(self, vhost: str, name: str) -> list[Json]:
        """A queue's bindings."""
        return list(self.get("queues", vhost, name, "bindings"))

    def get_bindings(self, vhost: str | None = None) -> list[Json]:
        """All bindings of a virtual host."""
        return list(self.get("bindings", self._vhost(vhost)))

    def purge_queue(self, vhost: str, name: str) -> None:
        """Delete a queue's ready messages."""
        self.delete("queues", vhost, name, "contents")

    def delete_queue(self, vhost: str, name: str) -> None:
        """Delete a queue."""
        self.delete("queues", vhost, name)

    # One request

    def _vhost(self, vhost: str | None) -> str:
        return self.virtual_host if vhost is None else vhost

    def _request(self, method: str, path: tuple[str, ...], body: object = None) -> Any:
        url = "/".join([self.url, *(quote(part, safe="") for part in path)])
        holder = object()
        try:
            runtime = leases.lease(holder)
            status, answer = runtime.call(self._exchange, method, url, body, timeout=self.timeout)
        finally:
            leases.release(holder)
        if status < 300:
            return json.loads(answer) if answer else None
        text = f"{method} {url}: {status} {_reason(answer)}"
        if status in (401, 403):
            raise AccessRefused(f"{text} (user {self.userid!r} needs the tag management and permissions)")
        if status == 404:
            raise NotFound(text)
        raise OperationalError(text)

    async def _exchange(self, method: str, url: str, body: object) -> tuple[int, bytes]:
        httpx = _httpx()
        # In the runtime, where a deadline is one for everything; the client's own are per read.
        client = httpx.AsyncClient(
            auth=(self.userid, self.password), verify=self.tls or False, timeout=None, trust_env=False
        )
        try:
            async with client, client.stream(method, url, json=body) as response:
                answer = bytearray()
                async for chunk in response.aiter_bytes():
                    answer += chunk
                    if len(answer) > ANSWER_MAX:
                        raise OperationalError(f"the answer to {method} {url} is larger than {ANSWER_MAX} bytes")
                return response.status_code, bytes(answer)
        except httpx.TransportError as error:
            raise BrokerUnreachable(
                f"{url} can't be reached ({error!r}); is the plugin rabbitmq_management enabled, "
                "and manager_hostname and manager_port in transport_options right?"
            ) from error


def _reason(answer: bytes) -> str:
    try:
        told = json.loads(answer)
        return str(told.get("reason") or told.get("error") or told)[:500]
    except (ValueError, AttributeError):
        return answer[:200].decode(errors="replace")


def _httpx() -> ModuleType:
    try:
        import httpx2
    except ImportError as error:
        raise ImportError("the management API needs an HTTP client: pip install 'kombu-actors[mgmt]'") from error
    return httpx2
