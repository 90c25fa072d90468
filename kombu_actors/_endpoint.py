"""Broker URLs, and what it takes to dial one.

A URL becomes an ``Endpoint``: everything needed to dial, nothing that changes.  Passwords
are kept out of every ``repr`` and every error; an error shows the URL with ``**`` in their
place, or no URL at all when it can't tell where the password ends.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import cycle
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote

import attrs

from ._tls_settings import TLSSettings
from .errors import InvalidURL

T = TypeVar("T")

DEFAULT_PORTS: Mapping[str, int] = {"amqp": 5672, "pyamqp": 5672, "amqps": 5671, "pyamqps": 5671}
TLS_SCHEMES = frozenset({"amqps", "pyamqps"})
_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.\-]*$")


@attrs.frozen(kw_only=True)
class Endpoint:
    """One broker address with its credentials."""

    scheme: str
    host: str = "localhost"
    port: int | None = None
    userid: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    virtual_host: str = "/"
    tls: TLSSettings | None = None
    query: Mapping[str, str] = attrs.field(factory=dict, repr=False)

    @property
    def address(self) -> tuple[str | int | None, ...]:
        """What tells it from other endpoints of one connection; with the password, so not to be shown."""
        return (self.scheme, self.host, self.port, self.userid, self.password, self.virtual_host)

    def __str__(self) -> str:
        """The address as it may be shown: no user, no password."""
        port = f":{self.port}" if self.port else ""
        vhost = "" if self.virtual_host == "/" else f"/{self.virtual_host}"
        return f"{self.scheme}://{self.host}{port}{vhost}"


def _seconds(lowest: str, allows: Callable[[float], bool]) -> Callable[[Any, Any, object], None]:
    def check(_: Any, attribute: Any, value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not allows(value):
            raise ValueError(f"{attribute.name} must be a number of seconds {lowest}, not {value!r:.80}")

    return check


@attrs.frozen(kw_only=True)
class LinkOptions:
    """How to dial and what to agree on, the same for every endpoint of a connection."""

    connect_timeout: float = attrs.field(default=5.0, validator=_seconds("above 0", lambda value: value > 0))
    """Seconds for TCP, TLS and the AMQP handshake together (kombu's default)."""
    heartbeat: float = attrs.field(default=15.0, validator=_seconds("from 0 on", lambda value: value >= 0))
    """Seconds asked for; RabbitMQ recommends 5-20.  0 turns heartbeats off unless the broker insists."""
    login_method: str = "PLAIN"
    client_properties: Mapping[str, Any] = attrs.field(factory=dict)
    frame_max: int = 131072
    """RabbitMQ's own default; larger frames gain nothing."""
    channel_max: int = 2047
    """RabbitMQ's own default."""
    body_max: int = 64 * 1024 * 1024
    """Largest message body accepted from a peer, checked at its content header."""
    make_lock: Callable[[], AbstractContextManager[Any]] = attrs.field(default=nullcontext, eq=False)
    """Locks for those who send from other threads than the link's: ``threading.Lock``; without, nobody may."""


def split_urls(given: object) -> list[str]:
    """The URLs in what a caller gave: one text, several joined by ``;``, or several such texts.

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
    return texts


def parse_url(url: str, *, tls: TLSSettings | None = None, defaults: Mapping[str, Any] | None = None) -> Endpoint:
    """Turn ``scheme://user:password@host:port/vhost?query`` into an endpoint.

    ``defaults`` fills in what the URL leaves out (``userid``, ``password``, ``virtual_host``, ``port``).
    A path of ``/`` or nothing means the virtual host ``/``; ``//`` means it too (kombu's rule).

    Raises:
        InvalidURL: the text isn't a URL of that form.
    """
    if not isinstance(url, str):
        raise InvalidURL(f"a broker URL is a string, not {type(url).__name__}")
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise InvalidURL("a broker URL looks like amqp://user:password@host:5672/vhost; this one has no '://'")
    if not _SCHEME.match(scheme):
        raise InvalidURL("a broker URL starts with a scheme made of letters and digits, e.g. amqp://")
    if "#" in rest:
        raise InvalidURL(f"'#' in a {scheme}:// URL must be written as %23 (so must any in the password)")
    rest, _, query = rest.partition("?")
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
    for key, value in (defaults or {}).items():
        if given.get(key) is None:
            given[key] = value
    if given["port"] is None:
        secured = tls is not None and f"{scheme}s" in TLS_SCHEMES
        given["port"] = DEFAULT_PORTS.get(f"{scheme}s" if secured else scheme)
    if scheme in TLS_SCHEMES and tls is None:
        tls = TLSSettings()
    return Endpoint(
        scheme=scheme,
        host=host or "localhost",
        port=given["port"],
        userid=given["userid"],
        password=given["password"],
        virtual_host=given["virtual_host"] or "/",
        tls=tls,
        query=dict(parse_qsl(query, keep_blank_values=True)),
    )


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
