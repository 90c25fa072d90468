"""What ``open_broker`` makes of its arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from ssl import SSLContext
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import trio

from .._values.endpoint import (
    Endpoint,
    FailoverStrategy,
    LinkOptions,
    body_max_of,
    parse_url,
    shared_by_group,
    split_urls,
)
from .._values.tls_settings import tls_settings
from ..actors.connection import ConnectionActor
from ..errors import InvalidURL
from ..supervisors import Backoff, Event
from ..transport import transport_for

if TYPE_CHECKING:
    from ..transport._contract import Transport

NEGOTIATED = ("frame_max", "channel_max")
"""Transport options that the two ends agree on."""


def check_in_trio() -> None:
    """Raise ``RuntimeError`` in a task that isn't trio's."""
    if not trio.lowlevel.in_trio_task():
        raise RuntimeError(
            "kombu_actors.broker is for programs that run in trio (anyio's trio backend included); "
            "in asyncio, uvloop included, use kombu_actors.aio, which has the same names"
        )


class ConnectionOptions(TypedDict):
    """Arguments of ``open_broker`` that are the connection's."""

    tls: bool | Mapping[str, object] | SSLContext
    connect_timeout: float
    heartbeat: float
    failover_strategy: str | FailoverStrategy
    login_method: str
    keep_dialling: bool
    backoff: Backoff
    body_max: int
    client_properties: Mapping[str, object] | None
    transport_options: Mapping[str, Any] | None
    listener: Callable[[Event], None] | None
    close_timeout: float


def connection_actor(url: str | Sequence[str], **options: Unpack[ConnectionOptions]) -> ConnectionActor:
    """The connection as asked for; ``InvalidURL`` or ``ValueError`` for what can't be."""
    body_max, given = options["body_max"], options["transport_options"] or {}
    given = {"body_max": body_max, **given}
    endpoints, transport = endpoints_and_transport(url, options["tls"], given)
    link = LinkOptions(
        connect_timeout=options["connect_timeout"],
        heartbeat=options["heartbeat"],
        login_method=options["login_method"],
        body_max=body_max_of(given),
        client_properties=options["client_properties"] or {},
        transport_options=given,
        **{name: value for name, value in given.items() if name in NEGOTIATED},
    )
    return ConnectionActor(
        transport,
        endpoints,
        link,
        failover_strategy=options["failover_strategy"],
        insist=options["keep_dialling"],
        backoff=options["backoff"],
        stop_deadline=options["close_timeout"],
        listener=options["listener"],
    )


def endpoints_and_transport(
    url: str | Sequence[str], tls: object, transport_options: Mapping[str, object] | None
) -> tuple[list[Endpoint], Transport]:
    """The endpoints to fail over between, and the one transport that reaches them; ``InvalidURL`` if there is none."""
    texts = split_urls(url)
    secured = tls_settings(tls)
    if secured is not None:
        secured.check()
    parsed = [parse_url(text, tls=secured) for text in texts]
    endpoints = [shared_by_group(endpoint, parsed) for endpoint in parsed]
    if any(endpoint.query for endpoint in endpoints):
        raise InvalidURL("open_broker takes no query parameters in URLs: give them as its own arguments, tls={...}")
    transport = transport_for(endpoints[0].scheme, transport_options)
    if any(type(transport_for(endpoint.scheme)) is not type(transport) for endpoint in endpoints):
        raise InvalidURL("all URLs of one broker must use the same transport")
    return endpoints, transport
