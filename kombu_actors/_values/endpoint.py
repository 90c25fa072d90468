"""Broker URLs, and what it takes to dial one.

A URL becomes an ``Endpoint``: everything needed to dial, nothing that changes.  Passwords
are kept out of every ``repr`` and every error; an error shows the URL with ``**`` in their
place, or no URL at all when it can't tell where the password ends.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import cycle
from string import ascii_letters, digits
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, unquote

from .._frozen import Frozen
from ..errors import InvalidURL
from .model import BODY_MAX

if TYPE_CHECKING:
    from .tls_settings import TLSSettings

T = TypeVar("T")

DEFAULT_PORTS: Mapping[str, int] = {
    "amqp": 5672,
    "pyamqp": 5672,
    "amqps": 5671,
    "pyamqps": 5671,
    "redis": 6379,
    "rediss": 6379,
    "redis+socket": 6379,  # means nothing, but kombu shows it
    "sentinel": 26379,
}
TLS_SCHEMES = frozenset({"amqps", "pyamqps", "rediss"})
REDIS_SCHEMES = frozenset({"redis", "rediss", "redis+socket", "sentinel"})
"""Those whose virtual host is the number of a database."""
SOCKET_SCHEME = "redis+socket"
"""The one whose path is a file's: ``redis+socket:///run/redis.sock?virtual_host=1``, as kombu writes it."""
_IN_SCHEMES = frozenset(ascii_letters + digits + "+.-")


class Endpoint(Frozen):
    """One broker address with its credentials."""

    hidden = ("password", "query")

    scheme: str
    host: str = "localhost"
    port: int | None = None
    userid: str | None = None
    password: str | None = None
    virtual_host: str = "/"
    tls: TLSSettings | None = None
    query: Mapping[str, str] = MappingProxyType({})

    @property
    def address(self) -> tuple[str | int | None, ...]:
        """What tells it from other endpoints of one connection; with the password, so not to be shown."""
        return (self.scheme, self.host, self.port, self.userid, self.password, self.virtual_host)

    @property
    def database(self) -> int:
        """The number of the Redis database that the virtual host names (``/`` and nothing mean 0).

        Raises:
            InvalidURL: it is no number.
        """
        text = self.virtual_host.removeprefix("/") or "0"
        if not text.isascii() or not text.isdigit():
            if "@" in text:  # an unescaped '/' in the password, whose rest is not echoed
                raise InvalidURL(
                    f"if the password of a {self.scheme}:// URL contains any of @ : / ? # %, percent-encode it"
                    " (urllib.parse.quote(password, safe=''))"
                )
            raise InvalidURL(
                f"the path of a {self.scheme}:// URL (virtual_host) is the number of a database, from 0 on, as in"
                f" redis://host/1; {text!r:.40} is none"
            )
        return int(text)

    def __str__(self) -> str:
        """The address as it may be shown: no user, no password."""
        if self.scheme == SOCKET_SCHEME:
            return f"{self.scheme}://{self.host}"
        port = f":{self.port}" if self.port else ""
        vhost = "" if self.virtual_host == "/" else f"/{self.virtual_host}"
        return f"{self.scheme}://{self.host}{port}{vhost}"


def _check_seconds(name: str, value: object, lowest: str, allows: Callable[[float], bool]) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not allows(value):
        raise ValueError(f"{name} must be a number of seconds {lowest}, not {value!r:.80}")


def body_max_of(transport_options: Mapping[str, object]) -> int:
    """The transport option ``body_max``.

    Raises:
        ValueError: it is no number of bytes.
    """
    given = transport_options.get("body_max", BODY_MAX)
    if isinstance(given, bool) or not isinstance(given, int) or given <= 0:
        raise ValueError(f"body_max must be a number of bytes above 0, not {given!r:.80}")
    return given


class LinkOptions(Frozen):
    """How to dial and what to agree on, the same for every endpoint of a connection."""

    hidden = ("transport_options",)

    connect_timeout: float = 5.0
    """Seconds for TCP, TLS and the handshake together (kombu's default)."""
    heartbeat: float = 15.0
    """Seconds asked for; RabbitMQ recommends 5-20.  0 turns heartbeats off unless the broker insists."""
    login_method: str = "PLAIN"
    """The SASL mechanism: PLAIN, AMQPLAIN (the same credentials in RabbitMQ's own form) or EXTERNAL."""
    client_properties: Mapping[str, object] = MappingProxyType({})
    frame_max: int = 131072
    """Bytes; RabbitMQ's own default: larger frames gain nothing.  0 sets no limit; the broker may lower it."""
    channel_max: int = 2047
    """RabbitMQ's own default; one of them is kept for declarations.  0 sets no limit; the broker may lower it."""
    body_max: int = BODY_MAX
    """Bytes of the largest message body accepted from a peer, checked at its header; see ``_values.model.BODY_MAX``."""
    make_lock: Callable[[], AbstractContextManager[object]] = nullcontext
    """Locks for those who send from other threads than the link's: ``threading.Lock``; without, nobody may."""
    transport_options: Mapping[str, object] = MappingProxyType({})
    """Everything that was given as ``transport_options``, for transports that have options of their own."""

    def settle(self) -> None:
        """Refuse what is no number of seconds, and keep the transport's options as they are now."""
        _check_seconds("connect_timeout", self.connect_timeout, "above 0", lambda value: value > 0)
        _check_seconds("heartbeat", self.heartbeat, "from 0 on", lambda value: value >= 0)
        vars(self)["transport_options"] = MappingProxyType(dict(self.transport_options))


def split_urls(given: object) -> list[str]:
    """The URLs in what a caller gave: one text, several joined by ``;``, or several such texts.

    What comes after a URL without a scheme of its own has that URL's: ``sentinel://a;b:26380``.

    Raises:
        InvalidURL: there is none, or something else among them.
    """
    several = [given] if isinstance(given, str) else given
    if not isinstance(several, Iterable) or isinstance(several, bytes):
        raise InvalidURL(f"a broker URL is a string, or a list of strings, not {type(several).__name__}")
    texts = []
    for each in several:
        if not isinstance(each, str):
            raise InvalidURL(f"a broker URL is a string, not {type(each).__name__}")
        texts += each.split(";")
    if not texts:
        raise InvalidURL("a connection needs at least one broker URL")
    scheme, separator, _ = texts[0].partition("://")
    if not separator:
        return texts
    return [text if "://" in text or has_single_slash(text) else f"{scheme}://{text}" for text in texts]


def has_single_slash(text: str) -> bool:
    """Whether a URL is written with one slash: taken for a host name, its password would be shown as a virtual host."""
    scheme, _, path = text.partition(":")
    return path.startswith("/") and _is_scheme(scheme)


def _is_scheme(text: str) -> bool:
    return text[:1].isalpha() and _IN_SCHEMES.issuperset(text)


def parse_url(url: str, *, tls: TLSSettings | None = None, defaults: Mapping[str, object] | None = None) -> Endpoint:
    """Turn ``scheme://user:password@host:port/vhost?query`` into an endpoint.

    ``defaults`` fills in what the URL leaves out (``userid``, ``password``, ``virtual_host``, ``port``).
    A path of ``/`` or nothing means the virtual host ``/``; ``//`` means it too (kombu's rule).

    Raises:
        InvalidURL: the text isn't a URL of that form.
    """
    if not isinstance(url, str):
        raise InvalidURL(f"a broker URL is a string, not {type(url).__name__}")
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()  # RFC 3986, 3.1: case-insensitive
    if not separator:
        raise InvalidURL("a broker URL looks like amqp://user:password@host:5672/vhost; this one has no '://'")
    if not _is_scheme(scheme):
        raise InvalidURL("a broker URL starts with a scheme made of letters and digits, e.g. amqp://")
    if "#" in rest:
        raise InvalidURL(f"'#' in a {scheme}:// URL must be written as %23 (so must any in the password)")
    rest, _, query = rest.partition("?")
    asked = dict(parse_qsl(query, keep_blank_values=True))
    authority, slash, path = rest.partition("/")
    userinfo, at, address = authority.rpartition("@")
    userid, colon, password = userinfo.partition(":")
    host, port = _split_address(scheme, address)
    given: dict[str, Any] = {
        "userid": unquote(userid) if at and userid else None,
        "password": unquote(password) if colon else None,
        "virtual_host": _virtual_host(path) if slash else None,
        "port": port,
    }
    if scheme == SOCKET_SCHEME:
        host, given["virtual_host"] = _socket_path(host, port, path), _socket_database(asked)
    for key, value in (defaults or {}).items():
        if given.get(key) is None:
            given[key] = value
    if given["port"] is None:
        secured = tls is not None and f"{scheme}s" in TLS_SCHEMES
        given["port"] = DEFAULT_PORTS.get(f"{scheme}s" if secured else scheme)
    if scheme in TLS_SCHEMES and tls is None:
        from .tls_settings import TLSSettings  # plain connections do without it

        tls = TLSSettings()
    endpoint = Endpoint(
        scheme=scheme,
        host=host or "localhost",
        port=given["port"],
        userid=given["userid"],
        password=given["password"],
        virtual_host=str(given["virtual_host"] or "/"),
        tls=tls,
        query=asked,
    )
    if scheme in REDIS_SCHEMES:
        _ = endpoint.database  # so that a bad one is told here
    return endpoint


def _socket_path(host: str, port: int | None, path: str) -> str:
    if host or port or not path.strip("/"):
        raise InvalidURL("a redis+socket:// URL names a file, with three slashes: redis+socket:///run/redis.sock")
    return "/" + unquote(path)


def _socket_database(query: dict[str, str]) -> str | None:
    """Take the database out of the query: it is the endpoint's, not the connection's."""
    given = {query.pop(name) for name in ("virtual_host", "db") if name in query}
    if len(given) > 1:
        raise InvalidURL("a redis+socket:// URL names its database once: ?virtual_host=1")
    return given.pop() if given else None


def shared_by_group(endpoint: Endpoint, group: Iterable[Endpoint]) -> Endpoint:
    """A sentinel's endpoint with what the URLs of its group say about the server that they lead to.

    User, password and database of any of the URLs hold for those that leave them out: all sentinels lead to the
    same server.  Other endpoints are returned as they are.

    Raises:
        InvalidURL: the URLs contradict each other.
    """
    if endpoint.scheme != "sentinel":
        return endpoint
    known: dict[str, object] = {}
    for each in (endpoint, *group):
        for name, nothing in (("userid", None), ("password", None), ("virtual_host", "/")):
            value = getattr(each, name)
            if value != nothing and known.setdefault(name, value) != value:
                raise InvalidURL(
                    f"the sentinel:// URLs of one connection name different values for {name}: all lead to one server"
                )
    return endpoint.but(**known)


def _virtual_host(path: str) -> str | None:
    if path in {"", "/"}:
        return "/" if path else None
    return unquote(path)


def _split_address(scheme: str, address: str) -> tuple[str, int | None]:
    if address.startswith("["):
        host, bracket, tail = address[1:].partition("]")
        if not bracket:
            raise InvalidURL(f"the IPv6 address of a {scheme}:// URL lacks its closing bracket")
        colon, port_text = tail[:1], tail[1:]
        if colon not in {"", ":"}:
            raise InvalidURL(f"unexpected text after the IPv6 address of a {scheme}:// URL")
    else:
        host, colon, port_text = address.partition(":")
    if not colon or not port_text:
        return unquote(host), None
    # The text is not echoed: an unescaped '/' or '@' in a password ends up here.
    if not port_text.isascii() or not port_text.isdigit():
        raise InvalidURL(
            f"the port of a {scheme}:// URL is not a number; "
            "if the password contains any of @ : / ? # %, percent-encode it (urllib.parse.quote(password, safe=''))"
        )
    port = int(port_text)
    if not 0 < port < 65536:
        raise InvalidURL(f"the port of a {scheme}:// URL is {port}; a port lies between 1 and 65535")
    return unquote(host), port


FailoverStrategy = Callable[[list[Endpoint]], Iterator[Endpoint]]


def shuffled(endpoints: list[T]) -> Iterator[T]:
    """Every pass in a new random order, but for the first, which begins with the first endpoint."""
    yield endpoints[0]
    yield from random.sample(endpoints[1:], len(endpoints) - 1)
    while True:
        yield from random.sample(endpoints, len(endpoints))


FAILOVER_STRATEGIES: Mapping[str, Callable[[list[Any]], Iterator[Any]]] = {"round-robin": cycle, "shuffle": shuffled}


class EndpointSelector:
    """Which endpoint to dial next.  Owned by one connection; stays with what works."""

    def __init__(self, endpoints: Iterable[Endpoint], strategy: str | FailoverStrategy = "round-robin") -> None:
        self.endpoints = list(endpoints)
        if not self.endpoints:
            raise InvalidURL("a connection needs at least one broker URL")
        if isinstance(strategy, str) and strategy not in FAILOVER_STRATEGIES:
            known = ", ".join(FAILOVER_STRATEGIES)
            raise ValueError(f"failover_strategy {strategy!r} is unknown; use {known} or a callable")
        chosen = FAILOVER_STRATEGIES[strategy] if isinstance(strategy, str) else strategy
        self._upcoming = chosen(self.endpoints)
        self.current = next(self._upcoming)

    def one_pass(self) -> Iterator[Endpoint]:
        """Yield each endpoint once, the current one first; asking for the next gives up on the one before."""
        for _ in self.endpoints:
            yield self.current
            self.advance()

    def advance(self) -> Endpoint:
        """Give up on the current endpoint."""
        self.current = next(self._upcoming)
        return self.current
