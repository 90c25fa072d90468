"""RabbitMQ's management API, under kombu's name for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

if TYPE_CHECKING:
    from .._facade.management import ManagerOptions, RabbitMQManagement
    from ..connection import Connection

__all__ = ["get_manager"]


def get_manager(client: Connection, **kwargs: Unpack[ManagerOptions]) -> RabbitMQManagement:
    """``client.get_manager(...)``, which says what may be given."""
    return client.get_manager(**kwargs)
