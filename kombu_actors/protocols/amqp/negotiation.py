"""What two ends agree on while a connection opens: login, limits, capabilities.

Pure functions; the spec sections are those of connection.start, connection.tune and SASL's PLAIN
(RFC 4616), AMQPLAIN (RabbitMQ's) and EXTERNAL (RFC 4422, appendix A).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final, Protocol

from amqp.serialization import dumps

from ..._frozen import Record
from .errors import PeerProtocolError

__all__ = [
    "CAPABILITIES",
    "FRAME_MIN_SIZE",
    "AMQPlainCredentials",
    "Credentials",
    "ExternalCredentials",
    "Limits",
    "PlainCredentials",
    "agree",
    "check_wishes",
    "client_properties",
]

FRAME_MIN_SIZE: Final = 4096
"""The specification's frame-min-size: the most a peer may send before tune, the least it may offer."""

CAPABILITIES: Final[Mapping[str, bool]] = {
    "publisher_confirms": True,
    "consumer_cancel_notify": True,
    "connection.blocked": True,
    "authentication_failure_close": True,
    "basic.nack": True,
    "exchange_exchange_bindings": True,
    "per_consumer_qos": True,
}


class Credentials(Protocol):
    """One SASL mechanism with what it needs."""

    @property
    def mechanism(self) -> str:
        """Its SASL name."""

    def initial_response(self) -> bytes:
        """What start-ok carries."""


class PlainCredentials:
    """User and password, as RFC 4616 sends them: in the clear, so use TLS outside of a host."""

    mechanism = "PLAIN"

    def __init__(self, userid: str, password: str) -> None:
        self.userid = userid
        self.password = password

    def initial_response(self) -> bytes:
        """NUL, user, NUL, password."""
        return b"\0%b\0%b" % (self.userid.encode(), self.password.encode())


class AMQPlainCredentials:
    """User and password as RabbitMQ's AMQPLAIN sends them: a field table without its length."""

    mechanism = "AMQPLAIN"

    def __init__(self, userid: str, password: str) -> None:
        self.userid = userid
        self.password = password

    def initial_response(self) -> bytes:
        """The table's items."""
        table: bytes = dumps("F", ({"LOGIN": self.userid, "PASSWORD": self.password},))
        return table[4:]


class ExternalCredentials:
    """The broker takes the identity from the TLS client certificate."""

    mechanism = "EXTERNAL"

    def initial_response(self) -> bytes:
        """Empty: the identity is the certificate's."""
        return b""


class Limits(Record):
    """What connection.tune settles.  ``heartbeat`` is in seconds, 0 is none."""

    channel_max: int
    frame_max: int
    heartbeat: int


CHANNEL_MIN: Final = 2
"""One for declarations, one for everything else."""


def check_wishes(frame_max: object, channel_max: object) -> None:
    """Check the limits that are asked for, before there is a connection.

    Raises:
        ValueError: the handshake couldn't say it, or nothing could be done within it.
    """
    for name, value, least, most, unit in (
        ("frame_max", frame_max, FRAME_MIN_SIZE, 0xFFFFFFFF, "bytes"),
        ("channel_max", channel_max, CHANNEL_MIN, 0xFFFF, "channels"),
    ):
        if not isinstance(value, int) or isinstance(value, bool) or not (value == 0 or least <= value <= most):
            raise ValueError(
                f"{name} must be a number of {unit} from {least} to {most}, or 0 (no limit), not {value!r:.80}"
            )


def agree(offered: Limits, wanted: Limits) -> Limits:
    """Answer the broker's tune offer; zero means 'no limit' on either side.

    The heartbeat is the smaller of the two, or the larger when one of them is zero: who wants
    heartbeats gets them (RabbitMQ's rule, https://www.rabbitmq.com/heartbeats.html).

    Raises:
        PeerProtocolError: the broker offers frames smaller than the specification's minimum.
    """
    if 0 < offered.frame_max < FRAME_MIN_SIZE:
        raise PeerProtocolError(
            501, f"the broker offers a frame_max of {offered.frame_max}; the least legal one is {FRAME_MIN_SIZE}"
        )
    heartbeats = (offered.heartbeat, wanted.heartbeat)
    return Limits(
        channel_max=_lesser(offered.channel_max, wanted.channel_max) or 65535,
        frame_max=_lesser(offered.frame_max, wanted.frame_max),
        heartbeat=min(heartbeats) or max(heartbeats),
    )


def _lesser(offered: int, wanted: int) -> int:
    return min(offered, wanted) if offered and wanted else offered or wanted


def client_properties(own: Mapping[str, Any] | None = None) -> dict[str, object]:
    """What we tell the broker about ourselves; ``own`` adds to it and overrides it."""
    given = dict(own or {})
    capabilities = {**CAPABILITIES, **given.pop("capabilities", {})}
    version = ".".join(map(str, sys.version_info[:3]))
    return {"product": "kombu_actors", "platform": f"Python {version}", **given, "capabilities": capabilities}
