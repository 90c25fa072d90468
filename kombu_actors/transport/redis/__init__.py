"""Redis as a broker: kombu's queues, shared with stock kombu and Celery, without kombu's losses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._homes import names_from
from .client_errors import ErrorClasses as error_classes_t
from .client_errors import get_redis_ConnectionError, get_redis_error_classes
from .transport import RedisTransport

if TYPE_CHECKING:
    from ..._facade.kinds import RedisChannel as Channel
    from ..._facade.kinds import RedisChannel as SentinelChannel
    from ..._facade.transports import Redis as Transport
    from ..._facade.transports import Sentinel as SentinelTransport

__all__ = [
    "Channel",
    "RedisTransport",
    "SentinelChannel",
    "SentinelTransport",
    "Transport",
    "error_classes_t",
    "get_redis_ConnectionError",
    "get_redis_error_classes",
]

if not TYPE_CHECKING:  # what kombu's programs know of it stands above
    __getattr__ = names_from(
        __name__,
        {
            "Channel": "kombu_actors._facade.kinds:RedisChannel",
            "SentinelChannel": "kombu_actors._facade.kinds:RedisChannel",
            "SentinelTransport": "kombu_actors._facade.transports:Sentinel",
            "Transport": "kombu_actors._facade.transports:Redis",
        },
    )
