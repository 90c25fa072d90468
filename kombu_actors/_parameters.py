"""What a ``Connection`` was made with: kept as given, resolved to endpoints, never changed."""

from __future__ import annotations

import ssl as tls
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import attrs

from ._endpoint import FAILOVER_STRATEGIES, Endpoint, FailoverStrategy, LinkOptions, parse_url, tls_context
from ._model import freeze
from .errors import InvalidURL
from .transport import transport_for
from .transport._link import Transport
from .utils.url import as_url

DEFAULT_HEARTBEAT = 15.0
"""RabbitMQ recommends 5-20 s.  ``heartbeat=0`` asks for this: beating costs the caller no work here."""
LINK_OPTIONS = ("client_properties", "frame_max", "channel_max", "body_max")
"""Transport options that concern the link."""


@attrs.frozen(kw_only=True)
class Parameters:
    """The documented arguments of ``Connection``, as given."""

    hostname: str | Sequence[str] | None
    userid: str | None
    password: str | None = attrs.field(repr=False)
    virtual_host: str | None
    port: int | None
    insist: bool
    ssl: Any = attrs.field(repr=False)
    transport: str | None
    connect_timeout: float
    transport_options: Mapping[str, Any] = attrs.field(repr=False)
    login_method: str | None
    uri_prefix: str | None
    heartbeat: float
    failover_strategy: Any
    alternates: Sequence[str]

    def urls(self) -> list[str]:
        """Every URL or host name given, in order, without repetition."""
        first = [self.hostname or "localhost"] if isinstance(self.hostname, str | None) else list(self.hostname)
        texts = [text for each in first for text in each.split(";")] + list(self.alternates)
        return list(dict.fromkeys(texts))

    def endpoint(self, text: str) -> Endpoint:
        """Resolve one URL or host name.

        Raises:
            InvalidURL, UnsupportedScheme: it can't be used; the password is not part of the text.
        """
        url = text if "://" in text else f"{self.transport or 'amqp'}://{text}"
        defaults = {name: getattr(self, name) for name in ("userid", "password", "virtual_host", "port")}
        return parse_url(url, tls=tls_context(self.ssl), defaults=defaults)

    def endpoints(self) -> list[Endpoint]:
        """All endpoints, in order.

        Raises:
            InvalidURL: an URL can't be used, or they need different transports.
        """
        endpoints = [self.endpoint(text) for text in self.urls()]
        if len({type(transport_for(endpoint.scheme)) for endpoint in endpoints}) > 1:
            raise InvalidURL("all URLs of one connection must use the same transport")
        return endpoints

    def driver(self) -> Transport:
        """The transport all endpoints use."""
        return transport_for(self.endpoints()[0].scheme)

    def link_options(self) -> LinkOptions:
        """How to dial."""
        named = {name: self.transport_options[name] for name in LINK_OPTIONS if name in self.transport_options}
        return LinkOptions(
            connect_timeout=self.connect_timeout,
            heartbeat=self.heartbeat or DEFAULT_HEARTBEAT,
            login_method=self.login_method or "PLAIN",
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
        urls = self.failover_strategy(self.urls()) if callable(self.failover_strategy) else self.failover_strategy
        return (self.endpoint(url) for url in urls)

    def info(self, endpoint: Endpoint) -> dict[str, Any]:
        """The parameters under kombu's names, with the endpoint in use; the password included."""
        return {
            "hostname": endpoint.host,
            "userid": endpoint.userid,
            "password": endpoint.password,
            "virtual_host": endpoint.virtual_host,
            "port": endpoint.port,
            "insist": self.insist,
            "ssl": self.ssl,
            "transport": endpoint.scheme,
            "connect_timeout": self.connect_timeout,
            "transport_options": dict(self.transport_options),
            "login_method": self.login_method,
            "uri_prefix": self.uri_prefix,
            "heartbeat": self.heartbeat,
            "failover_strategy": self.failover_strategy,
            "alternates": self.urls() if len(self.urls()) > 1 else [],
        }

    def key(self) -> tuple[Any, ...]:
        """What makes two connections interchangeable: everything, TLS included."""
        return (
            tuple((e.scheme, e.host, e.port, e.userid, e.password, e.virtual_host) for e in self.endpoints()),
            self.ssl if isinstance(self.ssl, tls.SSLContext) else freeze(self.ssl),
            self.connect_timeout,
            _hashable(self.transport_options),
            self.login_method,
            self.heartbeat,
            _hashable(self.failover_strategy),
        )


def uri(
    endpoint: Endpoint,
    *,
    include_password: bool,
    mask: str,
    prefix: str | None,
    getfields: Callable[[Mapping[str, Any]], tuple[Any, ...]],
    info: Mapping[str, Any],
) -> str:
    """An endpoint in URL form, as kombu writes it: the virtual host ``/`` becomes a second slash."""
    port, userid, password, virtual_host, scheme = getfields(info)
    url = as_url(
        scheme,
        endpoint.host,
        port,
        userid,
        password,
        quote(virtual_host or "/"),
        sanitize=not include_password,
        mask=mask,
    )
    return f"{prefix}+{url}" if prefix else url


def _hashable(value: Any) -> Any:
    frozen = freeze(value)
    try:
        hash(frozen)
    except TypeError:
        return repr(value)
    return frozen
