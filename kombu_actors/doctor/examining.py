"""An examination of one broker, layer by layer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from ssl import SSLContext
from typing import TYPE_CHECKING

from .._native.opening import endpoints_and_transport
from .._values.endpoint import Endpoint, LinkOptions, split_urls
from ._amqp import AMQP_CHECKS, amqp_findings
from ._machine import open_files_finding
from ._network import Unwell, name_finding, port_finding, tls_finding
from ._redis import REDIS_CHECKS, redis_findings
from ._sentinel import SENTINEL_CHECKS, sentinel_findings
from ._session import permissions_finding
from .findings import Finding, Verdict

if TYPE_CHECKING:
    from ..transport._contract import Transport

__all__ = ["TIMEOUT", "examine"]

TIMEOUT = 5.0
"""Seconds for each step: as long as a connection takes at most (kombu's default)."""


async def examine(
    url: str | Sequence[str],
    *,
    tls: bool | Mapping[str, object] | SSLContext = False,
    transport_options: Mapping[str, object] | None = None,
    timeout: float = TIMEOUT,
) -> AsyncGenerator[tuple[str, Finding], None]:
    """Try each endpoint of a URL, and yield what is found as it is found, with the endpoint's address.

    Args:
        url: one broker URL, or several.
        tls, transport_options: as for ``open_broker``.
        timeout: seconds for each step.

    Raises:
        InvalidURL, ValueError: before anything is dialled.

    Cancelled, it leaves nothing behind; on RabbitMQ perhaps a queue, for a minute.
    """
    endpoints, transport = endpoints_and_transport(url, tls, transport_options)
    options = LinkOptions(
        connect_timeout=timeout,
        client_properties={"connection_name": "kombu-actors doctor"},
        transport_options=dict(transport_options or {}),
    )
    for text, endpoint in zip(split_urls(url), endpoints, strict=True):
        where = str(endpoint)
        left = list(checks_of(endpoint))
        try:
            async with aclosing(_layers(endpoint, transport, options)) as findings:
                async for finding in findings:
                    left.remove(finding.check)
                    yield where, finding
            left.remove("permissions")
            yield where, await permissions_finding(text, tls=tls, transport_options=transport_options, timeout=timeout)
        except Unwell as error:
            yield where, error.finding
            for check in left:
                if check != error.finding.check:
                    yield where, Finding(check, Verdict.SKIPPED, "not tried")
    yield "this machine", open_files_finding()


def checks_of(endpoint: Endpoint) -> tuple[str, ...]:
    """What is looked at, in order."""
    network = () if _is_file(endpoint) else ("name", "port", *(("TLS",) if endpoint.tls is not None else ()))
    if endpoint.scheme == "memory":
        return ("permissions",)
    if endpoint.scheme == "sentinel":
        network += SENTINEL_CHECKS
    return (*network, *(REDIS_CHECKS if _is_redis(endpoint) else AMQP_CHECKS), "permissions")


async def _layers(endpoint: Endpoint, transport: Transport, options: LinkOptions) -> AsyncGenerator[Finding, None]:
    if endpoint.scheme == "memory":
        return
    if not _is_file(endpoint):
        yield await name_finding(endpoint, options.connect_timeout)
        yield await port_finding(endpoint, options.connect_timeout)
        if endpoint.tls is not None:
            yield await tls_finding(endpoint, endpoint.tls, options.connect_timeout)
    if endpoint.scheme == "sentinel":
        async with aclosing(sentinel_findings(endpoint, options)) as findings:
            async for finding in findings:
                yield finding
    redis = _is_redis(endpoint)
    above = redis_findings(endpoint, options) if redis else amqp_findings(endpoint, transport, options)
    async with aclosing(above) as findings:
        async for finding in findings:
            yield finding


def _is_redis(endpoint: Endpoint) -> bool:
    return endpoint.scheme.startswith(("redis", "sentinel"))


def _is_file(endpoint: Endpoint) -> bool:
    return endpoint.scheme == "redis+socket"
