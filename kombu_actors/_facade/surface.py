"""Telling channels and connections apart, without importing either."""

from __future__ import annotations

from typing import Any

__all__ = ["connection_of", "current_name", "is_connection", "known_name", "maybe_channel"]


def is_connection(obj: object) -> bool:
    """Whether ``obj`` is a connection rather than a channel; asks its class, so as not to open one."""
    return hasattr(type(obj), "default_channel")


def maybe_channel(channel: Any) -> Any:
    """The default channel of a connection; a channel is returned as it is."""
    return channel.default_channel if is_connection(channel) else channel


def connection_of(channel: Any) -> Any:
    """The ``Connection`` a channel belongs to (kombu's is ``channel.connection.client``), or ``None``."""
    connection = channel.connection
    return getattr(connection, "client", connection)


def current_name(channel: Any, queue: str) -> str:
    """The name that a queue has now, where the channel knows that the broker has named it anew."""
    return channel.current_name(queue) if hasattr(type(channel), "current_name") else queue


def known_name(channel: Any, queue: str) -> str:
    """The first name of a queue that the broker has named anew."""
    return channel.known_name(queue) if hasattr(type(channel), "known_name") else queue
