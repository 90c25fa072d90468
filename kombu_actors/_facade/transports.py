"""What kombu's programs know of a transport: a class by URL scheme, with its driver, its defaults and its errors.

Objects of these classes are views of a connection.  The transports themselves are below (``transport/``), and none of a
program's own can be made here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar, TypeVar, Unpack, overload

from amqp import exceptions as amqp_errors

from .._frozen import Record
from .._values.endpoint import DEFAULT_PORTS
from ..utils.url import sanitize_url

if TYPE_CHECKING:
    from ..connection import Connection
    from .channel import Channel
    from .contracts import ConnectionParams, EventLoop
    from .management import Json, ManagerOptions, RabbitMQManagement
    from .running import ConnectionTree

__all__ = [
    "AMQP",
    "AMQPS",
    "Implements",
    "Management",
    "Memory",
    "Redis",
    "Sentinel",
    "Transport",
    "by_scheme",
    "resolve_transport",
]

T = TypeVar("T")
Errors = tuple[type[BaseException], ...]


class Implements(Record):
    """What kombu's code asks ``transport.implements``."""

    heartbeats: bool = False
    exchange_type: frozenset[str] = frozenset({"direct", "topic", "fanout", "headers"})
    asynchronous: bool = False
    """Whether an event loop may drain it: see ``Connection.register_with_event_loop``."""
    batch_publish: bool = False
    """Nothing to ask for: publishes that come together travel together."""


class Management:
    """The bindings on the broker."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    def get_bindings(self) -> list[Json]:
        """Them; ``NotImplementedError`` on brokers that have no management API."""
        return self.transport.manager.get_bindings()


class Transport:
    """A connection's transport, as far as programs look at it; everything else is the connection's.

    Its errors are py-amqp's, on every broker.
    """

    driver_type: ClassVar[str] = "N/A"
    """The kind of broker: ``amqp``, ``redis`` or ``memory``."""
    driver_name: ClassVar[str] = "N/A"
    """What kombu calls the library that speaks to it."""
    distribution: ClassVar[str | None] = None
    """The distribution whose version the driver has."""
    can_parse_url: ClassVar[bool] = False
    default_port: int | None = None
    implements: Implements = Implements()
    connection_errors: ClassVar[Errors] = (amqp_errors.ConnectionError, OSError)
    channel_errors: ClassVar[Errors] = (amqp_errors.ChannelError,)
    recoverable_connection_errors: ClassVar[Errors] = (
        amqp_errors.RecoverableConnectionError,
        amqp_errors.MessageNacked,
        OSError,
    )
    recoverable_channel_errors: ClassVar[Errors] = (amqp_errors.RecoverableChannelError,)
    Management = Management

    def __init__(self, client: Connection, **kwargs: object) -> None:
        self.client = client

    def as_uri(self, uri: str, include_password: bool = False, mask: str = "**") -> str:
        """A URL without its password, unless asked for."""
        return uri if include_password else sanitize_url(uri, mask)

    def driver_version(self) -> str:
        """The version of the library that speaks the protocol's cold parts, as kombu reports it; else ``"N/A"``."""
        from importlib.metadata import version  # as slow to import as our own documented names, and hardly ever asked

        return version(self.distribution) if self.distribution else "N/A"

    @property
    def default_connection_params(self) -> ConnectionParams:
        """What is used where the URL says nothing."""
        return {"hostname": "localhost", "port": self.default_port}

    @property
    def supports_heartbeats(self) -> bool:
        """Whether it has heartbeats."""
        return self.implements.heartbeats

    @property
    def supports_ev(self) -> bool:
        """Whether an event loop may drain it."""
        return self.implements.asynchronous

    @property
    def manager(self) -> RabbitMQManagement:
        """RabbitMQ's management API."""
        return self.get_manager()

    def get_manager(self, **kwargs: Unpack[ManagerOptions]) -> RabbitMQManagement:
        """RabbitMQ's management API; arguments are ``Connection.get_manager``'s."""
        return self.client.get_manager(**kwargs)

    # What its connection does: the arguments are those that kombu's transports take

    def establish_connection(self) -> ConnectionTree:
        """``Connection.connect``."""
        return self.client.connect()

    def close_connection(self, connection: object) -> None:
        """``Connection.close``."""
        self.client.close()

    def verify_connection(self, connection: object) -> bool:
        """``Connection.connected``."""
        return self.client.connected

    def create_channel(self, connection: object) -> Channel:
        """``Connection.channel``."""
        return self.client.channel()

    def close_channel(self, channel: Channel) -> None:
        """``Channel.close``."""
        channel.close()

    def drain_events(
        self, connection: object, timeout: float | None = None, since: int | None = None, **kwargs: object
    ) -> None:
        """``Connection.drain_events``."""
        self.client.drain_events(timeout, since, **kwargs)

    def heartbeat_check(self, connection: object, rate: float = 2) -> None:
        """``Connection.heartbeat_check``."""
        self.client.heartbeat_check(rate)

    def get_heartbeat_interval(self, connection: object) -> float:
        """``Connection.get_heartbeat_interval``."""
        return self.client.get_heartbeat_interval()

    def qos_semantics_matches_spec(self, connection: object) -> bool:
        """``Connection.qos_semantics_matches_spec``."""
        return self.client.qos_semantics_matches_spec

    def register_with_event_loop(self, connection: object, loop: EventLoop) -> None:
        """``Connection.register_with_event_loop``."""
        self.client.register_with_event_loop(loop)

    def unregister_from_event_loop(self, connection: ConnectionTree, loop: EventLoop) -> None:
        """Have event loops drain it no longer."""
        connection.unwatch()

    def __init_subclass__(cls, **kwargs: object) -> None:
        if cls.__module__.partition(".")[0] != __name__.partition(".")[0]:
            raise NotImplementedError(
                f"{cls.__module__}.{cls.__name__} can't be a transport: kombu_actors has AMQP 0-9-1, Redis and memory, "
                "and none of a program's own (docs/migrating-from-kombu.md)"
            )
        super().__init_subclass__(**kwargs)


class AMQP(Transport):
    """RabbitMQ's."""

    driver_type = "amqp"
    driver_name = "py-amqp"
    distribution = "amqp"
    default_port = DEFAULT_PORTS["amqp"]
    default_ssl_port: ClassVar[int] = DEFAULT_PORTS["amqps"]
    implements = Implements(heartbeats=True, asynchronous=True)

    @property
    def default_connection_params(self) -> ConnectionParams:
        """What is used where the URL says nothing."""
        login: ConnectionParams = {"userid": "guest", "password": "guest", "login_method": "PLAIN"}
        return {**super().default_connection_params, **login}


class AMQPS(AMQP):
    """RabbitMQ's over TLS."""

    default_port = DEFAULT_PORTS["amqps"]


class Redis(Transport):
    """Redis's."""

    driver_type = "redis"
    driver_name = "redis"
    distribution = "redis"
    default_port = DEFAULT_PORTS["redis"]
    implements = Implements(asynchronous=True)


class Sentinel(Redis):
    """Redis's behind Sentinels."""

    default_port = DEFAULT_PORTS["sentinel"]


class Memory(Transport):
    """The one of the broker in this process."""

    driver_type = "memory"
    driver_name = "memory"


TRANSPORTS: Mapping[str, type[Transport]] = {
    "amqp": AMQP,
    "amqps": AMQPS,
    "pyamqp": AMQP,
    "pyamqps": AMQPS,
    "memory": Memory,
    "redis": Redis,
    "rediss": Redis,
    "redis+socket": Redis,
    "sentinel": Sentinel,
}
"""By URL scheme."""


def by_scheme(scheme: str) -> type[Transport]:
    """The class for a URL scheme that has a transport."""
    return TRANSPORTS[scheme]


@overload
def resolve_transport(transport: str) -> type[Transport]: ...
@overload
def resolve_transport(transport: T) -> T: ...
@overload
def resolve_transport() -> None: ...
def resolve_transport(transport: object = None) -> object:
    """The class for a URL scheme; anything but text is returned as it is, ``None`` included.

    Raises:
        KeyError: there is none; the text has the one that was meant, perhaps.
    """
    if not isinstance(transport, str):
        return transport
    if transport not in TRANSPORTS:
        raise KeyError(f"No such transport: {transport}{_perhaps(transport, TRANSPORTS)}")
    return TRANSPORTS[transport]


def _perhaps(name: str, known: Iterable[str]) -> str:
    from ..utils.text import fmatch_best  # for mistakes only

    meant = fmatch_best(name, known)
    return f".  Did you mean {meant}?" if meant else f"; there are {', '.join(sorted(known))}"
