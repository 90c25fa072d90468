"""What ``open_broker`` makes of its URLs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._values.endpoint import Endpoint, parse_url, shared_by_group, split_urls
from .._values.tls_settings import tls_settings
from ..errors import InvalidURL
from ..transport import transport_for
from ..transport._contract import Transport


def endpoints_and_transport(
    url: str | Sequence[str], tls: Any, transport_options: Mapping[str, Any] | None
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
