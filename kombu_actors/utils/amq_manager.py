"""RabbitMQ's management API, under kombu's name for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._facade.management import RabbitMQManagement
    from ..connection import Connection

__all__ = ["get_manager"]


def get_manager(client: Connection, **kwargs: object) -> RabbitMQManagement:
    """``client.get_manager(...)``, which says what may be given."""
    return client.get_manager(**kwargs)
