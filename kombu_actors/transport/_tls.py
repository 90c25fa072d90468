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
            advice = _ADVICE.get(seen.verify_code, "")
            said = str(seen.verify_message or seen.reason).rstrip(".")
            return f"its TLS certificate was not accepted for {host!r}: {said}{advice}"
        if isinstance(seen, ssl.SSLEOFError):
            return "the TLS handshake was cut short: a plain port, or the broker wants other TLS settings"
        if isinstance(seen, ssl.SSLError):
            return _REASONS.get(_without_version(seen.reason or "")) or (
                f"the TLS handshake failed: {seen.reason or seen}"
            )
        seen = seen.__cause__ or seen.__context__
    return None


def _without_version(reason: str) -> str:
    """OpenSSL puts a protocol version before an alert's name, another one in each of its own versions."""
    return reason[reason.index("ALERT_") :] if "ALERT_" in reason else reason


_UNKNOWN_AUTHORITY = "; if it is right, give the certificate of the authority that signed it as ca_certs"
_OTHER_NAME = "; dial the name that the certificate is for, or give that name as server_hostname"
_ADVICE = {
    9: "; is the clock of this machine right?",
    10: "; renew it at the broker (or is the clock of this machine wrong?)",
    18: "; if it is right, give it as ca_certs",
    19: _UNKNOWN_AUTHORITY,
    20: _UNKNOWN_AUTHORITY,
    21: _UNKNOWN_AUTHORITY,
    23: "; the broker's operator must replace it",
    62: _OTHER_NAME,
    64: _OTHER_NAME,
}
"""What to do, by OpenSSL's X509_V_ERR number (openssl-verification-options, "x509_vfy.h")."""

_NOT_TLS = "it doesn't speak TLS: use amqp:// (or redis://), or the broker's TLS port (RabbitMQ's is usually 5671)"
_OLD = (
    "it and this client have no TLS version in common: TLS 1.2 is the oldest taken; the broker must enable it"
    " (or your own tls_minimum_version, tls_maximum_version or ssl_version asks for another)"
)
_REASONS = {
    "WRONG_VERSION_NUMBER": _NOT_TLS,
    "RECORD_LAYER_FAILURE": _NOT_TLS,
    "ALERT_CERTIFICATE_REQUIRED": "it wants a TLS client certificate: give certfile and keyfile",
    "ALERT_BAD_CERTIFICATE": "it refused our TLS client certificate (certfile) as bad, or wants one",
    "ALERT_CERTIFICATE_EXPIRED": "it refused our TLS client certificate (certfile): expired",
    "ALERT_CERTIFICATE_REVOKED": "it refused our TLS client certificate (certfile): revoked",
    "ALERT_CERTIFICATE_UNKNOWN": "it refused our TLS client certificate (certfile); its log says why",
    "ALERT_UNSUPPORTED_CERTIFICATE": "it refused our TLS client certificate (certfile): not meant for clients",
    "ALERT_HANDSHAKE_FAILURE": (
        "it refused the TLS handshake: a client certificate may be missing (certfile), or no cipher is in common"
    ),
    "ALERT_UNKNOWN_CA": (
        "it doesn't trust the authority of our TLS client certificate (certfile), which may lack an intermediate one"
    ),
    "ALERT_PROTOCOL_VERSION": _OLD,
    "UNSUPPORTED_PROTOCOL": _OLD,
}
