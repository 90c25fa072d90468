"""Kombu's documented API on a supervised trio runtime.

Change ``import kombu`` to ``import kombu_actors``: every connection, channel and consumer
is then a supervised actor.  trio programs use :func:`kombu_actors.broker.open_broker`.
"""

from __future__ import annotations

from .connection import Connection
from .entity import Exchange, Queue, binding
from .message import Message
from .messaging import Consumer, Producer
from .serialization import disable_insecure_serializers, enable_insecure_serializers
from .utils.uuid import uuid

__version__ = "0.1.0"

__all__ = [
    "Connection",
    "Consumer",
    "Exchange",
    "Message",
    "Producer",
    "Queue",
    "binding",
    "disable_insecure_serializers",
    "enable_insecure_serializers",
    "uuid",
]
