"""Our half of the handshake: login, then open.  Spec: AMQP 0-9-1, 2.2.4."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from amqp import spec

from .._content import check_table
from .errors import NotAMQP, PeerProtocolError
from .frames import FRAME_OVERHEAD
from .methods import encode_method
from .negotiation import FRAME_MIN_SIZE, Credentials, Limits, client_properties

__all__ = ["Handshake"]

SECURE_ROUNDS: Final = 4
"""Challenges answered before giving up; PLAIN and EXTERNAL need none."""


class Handshake:
    """Answers the broker's questions until the connection is open.

    Everything that could be refused is checked at once, before there is a connection.
    """

    def __init__(self, credentials: Credentials, virtual_host: str, properties: Mapping[str, object] | None) -> None:
        if len(virtual_host.encode()) > 255:
            raise ValueError("virtual_host must be at most 255 bytes of UTF-8")
        self._mechanism = credentials.mechanism
        self._response = credentials.initial_response()
        known, _ = check_table("client_properties", client_properties(properties))
        self._start_ok = encode_method(spec.Connection.StartOk, "FsSs", known, self._mechanism, self._response, "en_US")
        if len(self._start_ok) > FRAME_MIN_SIZE - FRAME_OVERHEAD:
            raise ValueError(f"client_properties must fit a frame of {FRAME_MIN_SIZE} bytes with the credentials")
        self._open = encode_method(spec.Connection.Open, "ssb", virtual_host, "", False)
        self._challenges = 0

    def on_start(self, major: int, minor: int, properties: object, mechanisms: bytes, locales: bytes) -> bytes:
        """Answer connection.start.

        Raises:
            NotAMQP: it is another version of AMQP.
            PeerProtocolError: our login method is not among the broker's.
        """
        if (major, minor) != (0, 9):
            raise NotAMQP(f"the broker starts with AMQP {major}-{minor}; only 0-9-1 is spoken here")
        offered = mechanisms.decode("utf-8", "replace").split()
        if self._mechanism not in offered:
            advice = "; it needs TLS and a client certificate (certfile)" if self._mechanism == "EXTERNAL" else ""
            instead = " ".join(offered) or "none"
            raise PeerProtocolError(
                530, f"login method {self._mechanism} is not offered by the broker, but {instead}{advice}"
            )
        return self._start_ok

    def on_secure(self) -> bytes:
        """Answer connection.secure, a bounded number of times."""
        self._challenges += 1
        if self._challenges > SECURE_ROUNDS:
            raise PeerProtocolError(503, f"the broker asked for more than {SECURE_ROUNDS} rounds of login")
        return encode_method(spec.Connection.SecureOk, "S", self._response)

    def on_tune(self, agreed: Limits) -> tuple[bytes, bytes]:
        """Answer connection.tune with tune-ok, and ask to open the virtual host."""
        limits = (agreed.channel_max, agreed.frame_max, agreed.heartbeat)
        return encode_method(spec.Connection.TuneOk, "BlB", *limits), self._open
