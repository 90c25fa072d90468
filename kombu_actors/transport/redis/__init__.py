"""Redis as a broker: kombu's queues, shared with stock kombu and Celery, without kombu's losses."""

from __future__ import annotations

from .transport import RedisTransport

__all__ = ["RedisTransport"]
