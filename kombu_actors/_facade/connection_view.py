"""What a connection tells about itself: its parameters, its transport, and which errors are whose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from amqp import exceptions as amqp_errors

from .._values.endpoint import DEFAULT_PORTS, Endpoint
from .parameters import Parameters, uri

if TYPE_CHECKING:
    from ..transport._contract import Transport
    from .running import Tree

CALL_TIMEOUT = 30.0
"""Seconds for a call that names no deadline: longer than a failover, shorter than anyone's patience."""


class ConnectionView:
    """The reading half of ``Connection``: nothing here connects or changes anything."""

    transport_driver: Transport
    transport_options: dict[str, Any]
    uri_prefix: str | None
    _parameters: Parameters
    _endpoints: list[Endpoint]
    _tree: Tree | None

    # Parameters of the endpoint in use

    @property
    def _endpoint(self) -> Endpoint:
        return self._tree.endpoint if self._tree is not None else self._endpoints[0]

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
    def transport_cls(self) -> str:
        """The URL scheme, without the prefix that ``uri_prefix`` has."""
        return self._endpoint.scheme.partition("+")[0]

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
        return self._parameters.info(self._endpoint)

    def as_uri(
        self,
        include_password: bool = False,
        mask: str = "**",
        getfields: Callable[[Mapping[str, Any]], tuple[object, ...]] = itemgetter(
            "port", "userid", "password", "virtual_host", "transport"
        ),
    ) -> str:
        """The endpoint in use in URL form, its password masked unless asked for."""
        return uri(
            self._endpoint,
            include_password=include_password,
            mask=mask,
            prefix=self.uri_prefix,
            getfields=getfields,
            info=self.info(),
        )

    # The transport, and its errors as kombu's amqp transport names them, on every transport

    @property
    def transport(self) -> TransportView:
        """What kombu's code asks a transport object for."""
        return TransportView(self)

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

    @property
    def is_evented(self) -> bool:
        """Whether kombu's event loop could drive it: no, and it needs none."""
        return False

    def supports_exchange_type(self, exchange_type: str) -> bool:
        """Whether the transport knows an exchange type."""
        return exchange_type in self.transport_driver.capabilities.exchange_types

    def get_heartbeat_interval(self) -> float:
        """Seconds asked for; 0 where the transport has no heartbeats."""
        return self._parameters.link_options().heartbeat if self.supports_heartbeats else 0


class Implements(NamedTuple):
    """What kombu's code asks ``transport.implements``."""

    heartbeats: bool
    exchange_type: frozenset[str]
    asynchronous: bool = False
    """kombu's event loop can't drive it, and need not."""


DRIVERS: Mapping[str, tuple[str, str | None]] = {
    "amqp": ("py-amqp", "amqp"),
    "redis": ("redis", "redis"),
    "memory": ("memory", None),
}
"""By transport: what kombu calls its driver, and the distribution whose version it has."""


class TransportView:
    """What kombu's code reads off a transport object; everything else is the connection's."""

    def __init__(self, connection: ConnectionView) -> None:
        self.client = connection
        driver = connection.transport_driver
        self.driver_type = driver.name
        self.driver_name, self._distribution = DRIVERS[driver.name]
        self.implements = Implements(driver.capabilities.heartbeats, driver.capabilities.exchange_types)
        self.default_port = DEFAULT_PORTS.get(connection._endpoint.scheme)
        self.connection_errors = connection.connection_errors
        self.channel_errors = connection.channel_errors
        self.recoverable_connection_errors = connection.recoverable_connection_errors
        self.recoverable_channel_errors = connection.recoverable_channel_errors

    def driver_version(self) -> str:
        """The version of the library that speaks the protocol's cold parts, as kombu reports it; else ``"N/A"``."""
        from importlib.metadata import version  # as slow to import as our own documented names, and hardly ever asked

        return version(self._distribution) if self._distribution else "N/A"

    @property
    def default_connection_params(self) -> dict[str, Any]:
        """What is used where the URL says nothing."""
        login = {"userid": "guest", "password": "guest", "login_method": "PLAIN"}
        return {"hostname": "localhost", "port": self.default_port, **(login if self.driver_type == "amqp" else {})}
