"""What a ``Connection`` was made with: kept as given, resolved to endpoints, never changed."""

from __future__ import annotations

import ssl as tls
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from ipaddress import IPv6Address
from itertools import chain
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from .._frozen import Frozen
from .._values.endpoint import (
    FAILOVER_STRATEGIES,
    SOCKET_SCHEME,
    TLS_SCHEMES,
    Endpoint,
    FailoverStrategy,
    LinkOptions,
    has_single_slash,
    parse_url,
    shared_by_group,
    split_urls,
)
from .._values.model import freeze
from ..errors import InvalidURL
from ..transport import module_for, transport_for
from ..utils.url import as_url, parse_ssl_cert_reqs

if TYPE_CHECKING:
    from .._values.tls_settings import TLSSettings
    from ..transport._contract import Transport

CONNECT_TIMEOUT = 5.0
"""Seconds for one host: kombu's default."""
DEFAULT_HEARTBEAT = 15.0
"""RabbitMQ recommends 5-20 s.  ``heartbeat=0`` asks for this: beating costs the caller no work here."""
LINK_OPTIONS = ("client_properties", "frame_max", "channel_max", "body_max")
"""Transport options that concern the link."""
FLAGS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def _flag(text: str) -> bool:
    if text.lower() not in FLAGS:
        raise ValueError(f"{text!r:.20} is neither yes nor no; use 1 or 0")
    return FLAGS[text.lower()]


QUERY_OPTIONS: Mapping[str, Callable[[str], object]] = {
    "connect_timeout": lambda text: float(text) or CONNECT_TIMEOUT,
    "heartbeat": float,
    "login_method": str,
    "ssl": _flag,
}
"""Query parameters of a URL that stand for a ``Connection`` argument."""
TLS_QUERY_OPTIONS: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "ssl_ca_certs": ("ca_certs", str),
    "ssl_certfile": ("certfile", str),
    "ssl_keyfile": ("keyfile", str),
    "ssl_cert_reqs": ("cert_reqs", parse_ssl_cert_reqs),
    "ssl_check_hostname": ("check_hostname", lambda text: text.lower() != "false"),
}
"""Query parameters of a URL that stand for an item of the ``ssl`` dict."""
Shown = tuple[int | None, str | None, str | None, str | None, str]
"""What a URL shows of ``info``: port, user, password, virtual host and scheme."""
RESOLVED_SCHEMES: Mapping[str, str] = {"pyamqp": "amqp", "pyamqps": "amqps", SOCKET_SCHEME: "redis"}
"""Aliases as ``info`` and ``as_uri`` show them."""


class Parameters(Frozen):
    """The documented arguments of ``Connection``, as given."""

    hidden = ("password", "ssl", "transport_options")

    hostname: str | Sequence[str] | None
    userid: str | None
    password: str | None
    virtual_host: str | None
    port: int | None
    insist: bool
    ssl: object
    transport: str | None
    connect_timeout: float
    transport_options: Mapping[str, Any]
    login_method: str | None
    uri_prefix: str | None
    heartbeat: float
    failover_strategy: Any
    alternates: Sequence[str]

    def urls(self) -> list[str]:
        """Every URL or host name given, in order, without repetition."""
        texts = split_urls("localhost" if self.hostname is None or self.hostname == "" else self.hostname)
        if self.alternates and len(texts) == 1 and "://" not in texts[0]:
            texts = self._spelled_out(texts[0])
        return list(dict.fromkeys([*texts, *self.alternates]))

    def _spelled_out(self, host: str) -> list[str]:
        """``info()`` names the endpoint in use by its host, and all of them as alternates: find its URL."""
        wanted = self._alone(host).address
        return [url for url in self.alternates if self._alone(url).address == wanted][:1] or [host]

    def with_query_applied(self) -> Parameters:
        """The same, with what the URLs' query parameters say put in place of the arguments.

        They concern the whole connection, so that failing over from ``amqps://a?ssl_ca_certs=...`` to a
        URL without them doesn't drop a setting.

        Raises:
            InvalidURL: a query parameter is unknown, has a bad value, differs between the URLs, concerns TLS
                that an ``ssl.SSLContext`` has settled already, or settings of the TLS that ``ssl=0`` turns off.
        """
        found: dict[str, str] = {}
        urls = self.urls()
        for url in urls:
            for name, text in self._alone(url).query.items():
                if name not in QUERY_OPTIONS and name not in TLS_QUERY_OPTIONS:
                    known = ", ".join([*QUERY_OPTIONS, *TLS_QUERY_OPTIONS])
                    raise InvalidURL(f"unknown query parameter {name!r:.40} in a broker URL; known: {known}")
                if found.setdefault(name, text) != text:
                    raise InvalidURL(f"the URLs of one connection give different values for {name}")
        if isinstance(self.ssl, tls.SSLContext) and found.keys() & TLS_QUERY_OPTIONS.keys():
            raise InvalidURL("query parameters about TLS and an ssl.SSLContext contradict each other: give one of them")
        if not found:
            return self
        changes: dict[str, object] = {}
        security: dict[str, object] = {}
        for name, text in found.items():
            try:
                if name in QUERY_OPTIONS:
                    changes[name] = QUERY_OPTIONS[name](text)
                else:
                    key, convert = TLS_QUERY_OPTIONS[name]
                    security[key] = convert(text)
            except ValueError as error:
                raise InvalidURL(f"the query parameter {name} of a broker URL has a bad value: {error}") from None
        if security:
            if changes.get("ssl") is False:
                raise InvalidURL("ssl=0 in a broker URL contradicts the settings of TLS beside it")
            changes["ssl"] = {**(self.ssl if isinstance(self.ssl, Mapping) else {}), **security}
        elif changes.get("ssl") and self.ssl:
            changes["ssl"] = self.ssl  # the argument says the same, and more
        bare = [self._without_query(url) for url in urls]
        return self.but(hostname=bare if len(bare) > 1 else bare[0], alternates=[], **changes)

    def _without_query(self, url: str) -> str:
        bare = url.partition("?")[0]
        endpoint = self._alone(url)
        if endpoint.scheme == SOCKET_SCHEME and endpoint.virtual_host != "/":
            return f"{bare}?virtual_host={quote(endpoint.virtual_host)}"
        return bare

    def endpoint(self, text: str) -> Endpoint:
        """Resolve one URL or host name.

        A ``transport`` given wins over the URL's scheme, but never takes its TLS away.  A sentinel's has what
        the others of its group say.

        Raises:
            InvalidURL, UnsupportedScheme: it can't be used; the password is not part of the text.
        """
        endpoint = self._alone(text)
        return shared_by_group(endpoint, (self._alone(url) for url in self.urls()))

    def _alone(self, text: str) -> Endpoint:
        scheme, separator, rest = text.partition("://")
        if not separator:
            if has_single_slash(text):
                raise InvalidURL("a broker URL looks like amqp://user:password@host:5672/vhost; this one has no '://'")
            text = f"{self.transport or 'amqp'}://{bracketed(text)}"
        elif self.transport and scheme.lower() not in (*TLS_SCHEMES, SOCKET_SCHEME):
            text = f"{self.transport}://{rest}"
        defaults = {name: getattr(self, name) for name in ("userid", "password", "virtual_host", "port")}
        return parse_url(text, tls=self._tls(), defaults=defaults)

    def check_tls(self) -> None:
        """Look at the files that TLS needs.

        Raises:
            TypeError, ValueError, OSError: an option is unknown or can't be used, a file can't be read.
        """
        settings = self._tls()
        if settings is not None:
            settings.check()

    def _tls(self) -> TLSSettings | None:
        if self.ssl is None or self.ssl is False:
            return None
        from .._values.tls_settings import tls_settings  # plain connections do without it

        return tls_settings(self.ssl)

    def require_picklable(self) -> None:
        """Refuse to be pickled with what can't be.

        Raises:
            TypeError: TLS is settled by an ``ssl.SSLContext``, which holds keys in memory only.
        """
        if isinstance(self.ssl, tls.SSLContext):
            raise TypeError(
                "a Connection with an ssl.SSLContext can't be pickled: give ssl= the dict that names the files"
                " (ca_certs, certfile, keyfile), so that the other process can read them"
            )

    @cached_property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """All endpoints, in order.

        Raises:
            InvalidURL: an URL can't be used, or they need different transports.
        """
        endpoints = tuple([self.endpoint(text) for text in self.urls()])
        if len({module_for(endpoint.scheme) for endpoint in endpoints}) > 1:
            raise InvalidURL("all URLs of one connection must use the same transport")
        return endpoints

    def driver(self) -> Transport:
        """The transport all endpoints use."""
        return transport_for(self.endpoints[0].scheme, self.transport_options)

    def link_options(self) -> LinkOptions:
        """How to dial."""
        named = {name: self.transport_options[name] for name in LINK_OPTIONS if name in self.transport_options}
        return LinkOptions(
            connect_timeout=self.connect_timeout,
            heartbeat=self.heartbeat or DEFAULT_HEARTBEAT,
            login_method=self.login_method or "PLAIN",
            transport_options=self.transport_options,
            **named,
        )

    def strategy(self) -> str | FailoverStrategy:
        """The failover strategy, in terms of endpoints."""
        given = self.failover_strategy or "round-robin"
        if isinstance(given, str):
            if given not in FAILOVER_STRATEGIES:
                known = ", ".join(FAILOVER_STRATEGIES)
                raise ValueError(f"failover_strategy {given!r} is unknown; use {known}, or a callable or iterator")
            return given
        return self._own_strategy

    def _own_strategy(self, endpoints: list[Endpoint]) -> Iterator[Endpoint]:
        return chain(endpoints[:1], map(self.endpoint, self.upcoming_urls()))

    def upcoming_urls(self) -> Iterator[str]:
        """The URLs to try after the first one, in the strategy's order.

        A callable is given the URLs, and what it yields first is taken for the one in use (kombu's
        rule); an iterator says itself what comes next.
        """
        given = self.failover_strategy or "round-robin"
        choose = FAILOVER_STRATEGIES.get(given) if isinstance(given, str) else given
        if not callable(choose):
            return iter(given)
        upcoming = iter(choose(self.urls()))
        next(upcoming, None)
        return upcoming

    def info(self, endpoint: Endpoint) -> dict[str, Any]:
        """The parameters under kombu's names, with the endpoint in use; the password included."""
        amqp = self.driver().name == "amqp"
        anonymous = amqp and endpoint.userid is None
        return {
            "hostname": _socket_url(endpoint) if endpoint.scheme == SOCKET_SCHEME else endpoint.host,
            "userid": "guest" if anonymous else endpoint.userid,
            "password": "guest" if anonymous else endpoint.password,
            "virtual_host": endpoint.virtual_host,
            "port": endpoint.port,
            "insist": self.insist,
            "ssl": self.ssl or endpoint.tls is not None,
            "transport": RESOLVED_SCHEMES.get(endpoint.scheme, endpoint.scheme),
            "connect_timeout": self.connect_timeout,
            "transport_options": dict(self.transport_options),
            "login_method": self.login_method or ("PLAIN" if amqp else None),
            "uri_prefix": self.prefix(endpoint),
            "heartbeat": self.heartbeat,
            "failover_strategy": self.failover_strategy,
            "alternates": self.urls() if len(self.urls()) > 1 else [],
        }

    def prefix(self, endpoint: Endpoint) -> str | None:
        """The ``uri_prefix`` given, or the one that an endpoint's scheme has of itself (``redis+socket``)."""
        prefix, plus, _ = endpoint.scheme.partition("+")
        return self.uri_prefix or (prefix if plus else None)

    def key(self) -> tuple[object, ...]:
        """What makes two connections interchangeable: everything, TLS included."""
        return (
            tuple(endpoint.address for endpoint in self.endpoints),
            self.ssl if isinstance(self.ssl, tls.SSLContext) else freeze(self.ssl),
            self.connect_timeout,
            _hashable(self.transport_options),
            self.login_method,
            self.heartbeat,
            _hashable(self.failover_strategy),
        )


def bracketed(host: str) -> str:
    """A host name as URLs write it: IPv6 addresses, which ``info`` shows bare, go into brackets."""
    try:
        IPv6Address(host)
    except ValueError:
        return host
    return f"[{host}]"


def uri(
    endpoint: Endpoint,
    *,
    include_password: bool,
    mask: str,
    prefix: str | None,
    getfields: Callable[[Mapping[str, object]], Shown],
    info: Mapping[str, object],
) -> str:
    """An endpoint in URL form, as kombu writes it: the virtual host ``/`` becomes a second slash."""
    if endpoint.scheme == SOCKET_SCHEME:
        return _socket_url(endpoint, None if include_password else mask)
    port, userid, password, virtual_host, scheme = getfields(info)
    place = (endpoint.host, port, userid, password, quote(virtual_host or "/"))
    url = as_url(scheme, *place, sanitize=not include_password, mask=mask)
    return f"{prefix}+{url}" if prefix else url


def _socket_url(endpoint: Endpoint, mask: str | None = None) -> str:
    """A Unix socket's URL, its password masked and its database left out if there is a mask (as kombu does)."""
    shown = mask is not None
    url = as_url(
        endpoint.scheme,
        user=endpoint.userid,
        password=endpoint.password,
        path=quote(endpoint.host[1:]),
        sanitize=shown,
        mask=mask or "",
    )
    return url if shown or endpoint.virtual_host == "/" else f"{url}?virtual_host={quote(endpoint.virtual_host)}"


def _hashable(value: object) -> object:
    frozen = freeze(value)
    try:
        hash(frozen)
    except TypeError:
        return repr(value)
    return frozen
