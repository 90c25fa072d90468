"""What a connection tells about itself: how it stands, its parameters, its transport, and which errors are whose."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from operator import itemgetter
from typing import TYPE_CHECKING, Any, ClassVar, cast

from .._values.endpoint import Endpoint
from ..errors import OperationalError
from . import dialling, transports
from .parameters import Parameters, Shown, uri

if TYPE_CHECKING:
    from .._bridge.portal import Portal
    from ..connection import Connection
    from ..transport._contract import Transport
    from .contracts import RetryPolicy
    from .runs import Runs

CALL_TIMEOUT = 30.0
"""Seconds for a call that names no deadline: longer than a failover, shorter than anyone's patience."""


class ConnectionView:
    """The reading half of ``Connection``: nothing here connects or changes anything."""

    resolve_aliases: ClassVar[Mapping[str, str]] = {"pyamqp": "amqp", "librabbitmq": "amqp"}
    """URL schemes of kombu's that mean another one."""

    alt: list[str]
    """Every URL, where there are several."""
    connect_timeout: float
    transport_driver: Transport
    transport_options: dict[str, Any]
    uri_prefix: str | None
    tells_lost = False
    """Whether ``drain_events`` raises ``ConnectionLost`` when messages that the program has not settled were lost with
    their session, for programs that keep them somewhere, as Celery's worker does: it is to forget them, since they
    come again.  Off, for most settle at once.  The transport option ``tell_lost`` is for a single connection."""
    memory_exclusive = True
    """Whether an exclusive queue in memory is one connection's, as on RabbitMQ.  Off, it is anybody's in this process
    and goes with its last consumer, for test suites that were written for kombu's memory transport: Celery's own use
    such queues from two connections, and drop workers without closing theirs."""
    _parameters: Parameters
    _endpoints: tuple[Endpoint, ...]
    _runs: Runs

    # How it stands

    @property
    def connected(self) -> bool:
        """Whether a session is up at this moment."""
        tree = self._runs.present
        return tree is not None and tree.connected

    def keeps(self, channel: object) -> bool:
        """Whether supervision still keeps that channel for this connection."""
        tree = self._runs.present
        return tree is not None and tree.keeps(channel)

    def hosts(self, portal: Portal) -> bool:
        """Whether this connection's tree runs in that runtime."""
        tree = self._runs.present
        return tree is not None and tree.portal is portal

    def heartbeat_check(self, rate: float = 2) -> None:
        """Raise the pending failure when supervision has given up.  Beating itself needs no call."""
        tree = self._runs.present
        if tree is not None and tree.failure is not None:
            raise tree.failure

    def completes_cycle(self, retries: int) -> bool:
        """Whether every endpoint has been tried once more after ``retries`` retries."""
        return not (retries + 1) % len(self.alt) if self.alt else True

    def __eqhash__(self) -> tuple[object, ...]:
        """What makes two connections interchangeable in pools: every parameter, TLS included."""
        return self._parameters.key()

    # Parameters of the endpoint in use

    @property
    def _endpoint(self) -> Endpoint:
        tree = self._runs.present
        return tree.endpoint if tree is not None else self._endpoints[0]

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
        getfields: Callable[[Mapping[str, object]], Shown] = itemgetter(
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
    def transport(self) -> transports.Transport:
        """What kombu's code asks a transport object for."""
        return self.get_transport_cls()(cast("Connection", self))

    def get_transport_cls(self) -> type[transports.Transport]:
        """The class of that object."""
        return transports.by_scheme(self._endpoint.scheme)

    def create_transport(self) -> transports.Transport:
        """Another such object."""
        return self.transport

    @property
    def recoverable_connection_errors(self) -> tuple[type[BaseException], ...]:
        """Errors after which a new session may succeed."""
        return transports.Transport.recoverable_connection_errors

    @property
    def recoverable_channel_errors(self) -> tuple[type[BaseException], ...]:
        """Errors after which a new channel may succeed."""
        return transports.Transport.recoverable_channel_errors

    @property
    def connection_errors(self) -> tuple[type[BaseException], ...]:
        """Errors of the connection."""
        return transports.Transport.connection_errors

    @property
    def channel_errors(self) -> tuple[type[BaseException], ...]:
        """Errors of a channel."""
        return transports.Transport.channel_errors

    @property
    def supports_heartbeats(self) -> bool:
        """Whether the transport has heartbeats."""
        return self.transport_driver.capabilities.heartbeats

    @property
    def is_evented(self) -> bool:
        """Whether ``register_with_event_loop`` is worth while: not where all is in this process."""
        return self.get_transport_cls().implements.asynchronous

    @property
    def qos_semantics_matches_spec(self) -> bool:
        """Whether ``basic_qos(a_global=False)`` bounds the whole channel, as in AMQP 0-9-1's text.

        RabbitMQ bounds each later consumer by itself then, and a channel when told ``a_global=True``.
        """
        return self.transport_driver.name != "amqp"

    @contextmanager
    def _reraise_as_library_errors(self) -> Iterator[None]:
        """Recoverable errors in the block become ``OperationalError``: Celery publishes in it."""
        try:
            yield
        except OperationalError:
            raise
        except (*self.recoverable_connection_errors, *self.recoverable_channel_errors) as error:
            raise OperationalError(str(error)) from error

    def supports_exchange_type(self, exchange_type: str) -> bool:
        """Whether the transport knows an exchange type."""
        return exchange_type in self.transport_driver.capabilities.exchange_types

    def get_heartbeat_interval(self) -> float:
        """Seconds asked for; 0 where the transport has no heartbeats."""
        return self._parameters.link_options().heartbeat if self.supports_heartbeats else 0

    def _first_connect(self) -> RetryPolicy:
        whole_pass = float(self.connect_timeout) * len(self._endpoints)
        return dialling.first_connect(self.transport_options, whole_pass)
