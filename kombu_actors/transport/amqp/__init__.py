"""AMQP 0-9-1 over TCP or TLS: RabbitMQ and what speaks like it."""

from __future__ import annotations

from .transport import AMQPTransport

__all__ = ["AMQPTransport"]
