"""Which TLS check failed, in words."""

from __future__ import annotations

import ssl

__all__ = ["explain_tls"]


def explain_tls(error: BaseException, host: str) -> str | None:
    """Say what a failed TLS handshake means and what to do, or None when ``error`` isn't one.

    The causes of ``error`` are searched too: trio wraps what ``ssl`` raises.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return f"its TLS certificate was not accepted for {host!r}: {seen.verify_message or seen.reason}"
        if isinstance(seen, ssl.SSLEOFError):
            return "the TLS handshake was cut short: a plain port, or the broker wants other TLS settings"
        if isinstance(seen, ssl.SSLError):
            return _REASONS.get(seen.reason or "") or f"the TLS handshake failed: {seen.reason or seen}"
        seen = seen.__cause__ or seen.__context__
    return None


_REASONS = {
    "WRONG_VERSION_NUMBER": "it doesn't speak TLS: use amqp:// or the broker's TLS port (usually 5671)",
    "RECORD_LAYER_FAILURE": "it doesn't speak TLS: use amqp:// or the broker's TLS port (usually 5671)",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it wants a TLS client certificate: give certfile and keyfile",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it refused our TLS client certificate",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "it refused the TLS handshake: a client certificate may be missing (certfile)",
    "TLSV1_ALERT_UNKNOWN_CA": "it doesn't trust the CA of our TLS client certificate",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it speaks only TLS versions that this client doesn't allow",
    "UNSUPPORTED_PROTOCOL": "it speaks only TLS versions that this client doesn't allow",
}
