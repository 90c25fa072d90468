"""Name, port and TLS: what is below any broker's protocol."""

from __future__ import annotations

import os
import socket
import ssl
import time
from datetime import UTC, datetime

import trio

from .._values.endpoint import Endpoint
from .._values.tls_settings import TLSSettings
from ..transport._tls import explain_tls
from .findings import Finding, Verdict

__all__ = ["Unwell", "name_finding", "port_finding", "speaks_http", "tls_finding"]

DAYS_LEFT = 14
"""Days before a certificate's end from which on that is told: what a renewal takes where people do it."""
_PORTS = "RabbitMQ's are 5672 and 5671 (TLS), Redis' 6379, Sentinel's 26379"


class Unwell(Exception):
    """A check failed; nothing above it is tried."""

    def __init__(self, check: str, text: str, advice: str | None = None) -> None:
        super().__init__(text)
        self.finding = Finding(check, Verdict.FAILED, text, advice)


async def name_finding(endpoint: Endpoint, timeout: float) -> Finding:
    """Resolve the host; raises ``Unwell``."""
    host = endpoint.host
    with trio.move_on_after(timeout):
        try:
            found = await trio.socket.getaddrinfo(host, endpoint.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise Unwell(
                "name",
                f"{host!r} can't be resolved: {getattr(error, 'strerror', None) or error}",
                "is it written right? does this machine, or container, ask the name server that knows it"
                f" (getent hosts {host})?",
            ) from None
        addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
        text = "an address needs no name server" if addresses == [host] else f"{host} is {', '.join(addresses)}"
        return Finding("name", Verdict.OK, text)
    raise Unwell("name", f"the name server has not answered for {host!r} within {timeout:g} s", "see /etc/resolv.conf")


async def port_finding(endpoint: Endpoint, timeout: float) -> Finding:
    """Connect; raises ``Unwell``."""
    where = f"{endpoint.host}:{endpoint.port}"
    began = trio.current_time()
    with trio.move_on_after(timeout):
        try:
            stream = await trio.open_tcp_stream(endpoint.host, endpoint.port or 0)
        except OSError as error:
            cause: BaseException = error.__cause__ or error
            if isinstance(cause, BaseExceptionGroup):
                cause = cause.exceptions[0]
            number = getattr(cause, "errno", None)
            raise Unwell(
                "port",
                f"{where} takes no connection: {os.strerror(number) if number else cause}",
                f"is the broker running, does it listen on that address, and is that its port? ({_PORTS})",
            ) from None
        await stream.aclose()
        return Finding(
            "port", Verdict.OK, f"{where} takes connections, after {(trio.current_time() - began) * 1e3:.0f} ms"
        )
    raise Unwell(
        "port",
        f"{where} has not answered within {timeout:g} s",
        "a firewall or a security group drops what is sent there, or the machine is down",
    )


async def tls_finding(endpoint: Endpoint, tls: TLSSettings, timeout: float) -> Finding:
    """Shake hands, and judge the certificate; raises ``Unwell`` with the check that failed."""
    name = tls.server_hostname or endpoint.host
    with trio.move_on_after(timeout):
        try:
            tcp = await trio.open_tcp_stream(endpoint.host, endpoint.port or 0)
            async with tcp:
                stream = trio.SSLStream(tcp, tls.context(), server_hostname=name, https_compatible=True)
                await stream.do_handshake()
                return _judged(tls, name, stream.getpeercert(), str(stream.version()))
        except (OSError, ValueError, ssl.SSLError, trio.BrokenResourceError) as error:
            text = explain_tls(error, name) or f"the TLS handshake was cut short ({error.__cause__ or error})"
            said, _, advice = text.partition("; ")
            raise Unwell("TLS", said, advice or None) from None
    raise Unwell(
        "TLS",
        f"{endpoint.host}:{endpoint.port} says nothing to TLS within {timeout:g} s",
        "a plain port never answers that: use amqp:// or redis://, or the broker's TLS port",
    )


async def speaks_http(endpoint: Endpoint, timeout: float) -> bool:
    """Whether a web server answers there."""
    tls = endpoint.tls
    with trio.move_on_after(timeout):
        try:
            async with await trio.open_tcp_stream(endpoint.host, endpoint.port or 0) as tcp:
                stream: trio.abc.Stream = tcp
                if tls is not None:
                    name = tls.server_hostname or endpoint.host
                    stream = trio.SSLStream(tcp, tls.context(), server_hostname=name, https_compatible=True)
                await stream.send_all(b"HEAD / HTTP/1.0\r\n\r\n")
                return bytes(await stream.receive_some(5)) == b"HTTP/"
        except (OSError, ValueError, ssl.SSLError, trio.BrokenResourceError):
            return False
    return False


def _judged(tls: TLSSettings, name: str, certificate: object, version: str) -> Finding:
    if not isinstance(certificate, dict) or not certificate:
        return Finding("TLS", Verdict.WARNING, f"{version}; the certificate is not checked (cert_reqs)", "check it")
    ends = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    issuer = {key: value for part in certificate.get("issuer", ()) for key, value in part}
    until = datetime.fromtimestamp(ends, UTC).date()
    text = f"{version}; the certificate is for {name!r}, by {issuer.get('organizationName') or issuer}, until {until}"
    if ends - time.time() < DAYS_LEFT * 86400:
        return Finding("TLS", Verdict.WARNING, text, "it ends soon: renew it at the broker")
    return Finding("TLS", Verdict.OK, text)
