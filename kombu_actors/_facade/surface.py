"""Telling channels and connections apart, without importing either."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, TypeGuard, cast

from ..utils.functional import ChannelPromise

if TYPE_CHECKING:
    from ..connection import Connection
    from .channel import Channel

__all__ = ["Bindable", "connection_of", "current_name", "is_connection", "known_name", "maybe_channel"]

Bindable: TypeAlias = "Channel | Connection | ChannelPromise[Channel]"
"""What entities, producers and consumers can be bound to: a connection stands for its default channel."""


def is_connection(obj: object) -> TypeGuard[Connection]:
    """Whether ``obj`` is a connection rather than a channel; asks its class, so as not to open one."""
    return hasattr(type(obj), "default_channel")


def maybe_channel(channel: Bindable) -> Channel | ChannelPromise[Channel]:
    """The default channel of a connection; a channel is returned as it is."""
    return channel.default_channel if is_connection(channel) else cast("Channel | ChannelPromise[Channel]", channel)


def connection_of(channel: Channel) -> Connection:
    """The ``Connection`` a channel belongs to (kombu's is ``channel.connection.client``)."""
    connection = channel.connection
    return getattr(connection, "client", connection)


def current_name(channel: Channel | ChannelPromise[Channel] | None, queue: str) -> str:
    """The name that a queue has now, where the channel knows that the broker has named it anew."""
    return channel.current_name(queue) if _has_names(channel) else queue


def known_name(channel: Channel | ChannelPromise[Channel] | None, queue: str) -> str:
    """The first name of a queue that the broker has named anew."""
    return channel.known_name(queue) if _has_names(channel) else queue


def _has_names(channel: object) -> TypeGuard[Channel]:
    return hasattr(type(channel), "current_name")  # a promise has none before it is kept
