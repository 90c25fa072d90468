"""What a RabbitMQ says: to the handshake, to the login, of itself."""

from __future__ import annotations

import shlex
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

import trio

from .._values.endpoint import Endpoint, LinkOptions
from ..errors import AccessRefused, BrokerUnreachable, NotAllowed
from ._network import Unwell, speaks_http
from .findings import Finding, Verdict

if TYPE_CHECKING:
    from ..transport._contract import Link, Transport

__all__ = ["AMQP_CHECKS", "amqp_findings", "no_broker"]

AMQP_CHECKS = ("protocol", "credentials", "virtual host", "server", "limits")
"""What ``amqp_findings`` looks at, in order."""
HTTP_ADVICE = (
    "a web server or an HTTP proxy answers there: dial the broker's own port (RabbitMQ's management page is 15672, its"
    " AMQP port 5672), or have the proxy pass the connection on as TCP (a stream), not as HTTP"
)
SILENCE_ADVICE = (
    "something takes connections and says nothing: a proxy or load balancer whose broker is away, a TLS port (then use"
    " amqps:// or rediss://), or a broker that hangs"
)
GOODBYE = 2.0
"""Seconds for the end of the connection."""


async def amqp_findings(
    endpoint: Endpoint, transport: Transport, options: LinkOptions
) -> AsyncGenerator[Finding, None]:
    """Log in, and see who is there; raises ``Unwell``."""
    user, vhost = endpoint.userid or "guest", endpoint.virtual_host
    try:
        link = await transport.connect(endpoint, options)
    except AccessRefused as error:
        yield Finding("protocol", Verdict.OK, "it speaks AMQP 0-9-1")
        raise Unwell("credentials", _said(error), _login_advice(user)) from None
    except NotAllowed as error:
        yield Finding("protocol", Verdict.OK, "it speaks AMQP 0-9-1")
        yield Finding("credentials", Verdict.OK, f"user {user!r} is known")
        raise Unwell("virtual host", _said(error), _vhost_advice(user, vhost)) from None
    except BrokerUnreachable as error:
        raise await no_broker(endpoint, error, options.connect_timeout) from None
    try:
        for finding in _of_link(link, user, vhost):
            yield finding
    finally:
        await _leave(link)


def _of_link(link: Link, user: str, vhost: str) -> list[Finding]:
    said = link.server_properties
    product, version = said.get("product", "a broker"), said.get("version", "of an unknown version")
    cluster = f", cluster {said['cluster_name']}" if said.get("cluster_name") else ""
    limits = link.engine.limits  # type: ignore[attr-defined]  # an AMQPLink
    held = ""
    if product == "RabbitMQ":
        held = (
            "; how long a consumer may keep a message (consumer_timeout, 30 min) and how large one may be"
            f" (max_message_size, {'16' if str(version).split('.')[0] >= '4' else '128'} MiB) it does not tell: those"
            " are its defaults"
        )
    return [
        Finding("protocol", Verdict.OK, "it speaks AMQP 0-9-1"),
        Finding("credentials", Verdict.OK, f"user {user!r} is known"),
        Finding("virtual host", Verdict.OK, f"{user!r} may use {vhost!r}"),
        Finding("server", Verdict.OK, f"{product} {version}{cluster}"),
        Finding(
            "limits",
            Verdict.OK,
            f"{limits.channel_max or 'any number of'} channels, frames of {limits.frame_max} bytes, a heartbeat of"
            f" {limits.heartbeat} s{held}",
        ),
    ]


async def _leave(link: Link) -> None:
    with trio.CancelScope(shield=True), trio.move_on_after(GOODBYE):
        async with trio.open_nursery() as nursery:
            for role in link.roles:
                nursery.start_soon(_serve, link, role)
            await link.aclose()
            nursery.cancel_scope.cancel()
    link.kill(BrokerUnreachable("the examination is over"))


async def _serve(link: Link, role: str) -> None:
    try:
        await link.run(role)
    except Exception:
        return  # it is on its way out


def _said(error: Exception) -> str:
    text = getattr(error, "message", None) or getattr(error, "reply_text", None) or str(error)
    return str(text)


async def no_broker(endpoint: Endpoint, error: Exception, timeout: float) -> Unwell:
    """What is there instead of a broker, for an error of its protocol."""
    text, silent = str(error), "did not answer" in str(error)
    if await speaks_http(endpoint, timeout):
        if "HTTP" not in text:
            text = f"{endpoint.host}:{endpoint.port} speaks HTTP: {text}"
        return Unwell("protocol", text, HTTP_ADVICE)
    return Unwell("protocol", text, SILENCE_ADVICE if silent else None)


def _login_advice(user: str) -> str:
    advice = (
        "user and password as they are at the broker? What is special in a URL has to be percent-encoded"
        " (urllib.parse.quote(password, safe=''))"
    )
    if user == "guest":
        advice += "; and guest may log in from the broker's own machine only: make a user (rabbitmqctl add_user)"
    return advice


def _vhost_advice(user: str, vhost: str) -> str:
    quoted = shlex.quote(vhost)
    return (
        f"if it should be there: rabbitmqctl add_vhost {quoted}; and for this user: rabbitmqctl set_permissions"
        f" -p {quoted} {shlex.quote(user)} '.*' '.*' '.*'.  In a URL the virtual host / is // or %2F"
    )
