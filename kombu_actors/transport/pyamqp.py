"""RabbitMQ's transport under kombu's name for it."""

from __future__ import annotations

from .._facade.kinds import Absent
from .._facade.kinds import AMQPChannel as Channel
from .._facade.message import Message
from .._facade.transports import AMQP as Transport
from .._facade.transports import AMQPS as SSLTransport

__all__ = ["DEFAULT_PORT", "DEFAULT_SSL_PORT", "Channel", "Connection", "Message", "SSLTransport", "Transport"]

DEFAULT_PORT = Transport.default_port
DEFAULT_SSL_PORT = Transport.default_ssl_port
Connection = Absent("kombu.transport.pyamqp.Connection", "connection.connection is what runs for a connection")
