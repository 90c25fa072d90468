"""Kombu's documented API on a supervised trio runtime.

Change ``import kombu`` to ``import kombu_actors``: every connection, channel and consumer
is then a supervised actor.  trio programs use :func:`kombu_actors.broker.open_broker`.
"""

from __future__ import annotations

from ._values import originals as originals  # first: where gevent or eventlet has patched, it imports trio
from .common import eventloop
from .connection import Connection
from .entity import Exchange, Queue, binding
from .message import Message
from .messaging import Consumer, Producer
from .pools import connections, producers
from .serialization import disable_insecure_serializers, enable_insecure_serializers
from .utils.url import parse_url
from .utils.uuid import uuid

__version__ = "0.1.0"

BrokerConnection = Connection
"""``Connection`` under kombu's old name."""

__all__ = [
    "BrokerConnection",
    "Connection",
    "Consumer",
    "Exchange",
    "Message",
    "Producer",
    "Queue",
    "binding",
    "connections",
    "disable_insecure_serializers",
    "enable_insecure_serializers",
    "eventloop",
    "parse_url",
    "producers",
    "uuid",
]
