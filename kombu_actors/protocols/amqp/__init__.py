"""AMQP 0-9-1 without I/O: frames, states, content, confirms.

``AMQPEngine`` is one connection; ``Preparer`` encodes messages for any of them.
"""

from __future__ import annotations

from . import events
from .engine import AMQPEngine
from .errors import LocalProtocolError, NotAMQP, PeerProtocolError, ProtocolError
from .negotiation import AMQPlainCredentials, ExternalCredentials, Limits, PlainCredentials
from .publishing import Prepared, Preparer, content_of

__all__ = [
    "AMQPEngine",
    "AMQPlainCredentials",
    "ExternalCredentials",
    "Limits",
    "LocalProtocolError",
    "NotAMQP",
    "PeerProtocolError",
    "PlainCredentials",
    "Prepared",
    "Preparer",
    "ProtocolError",
    "content_of",
    "events",
]
