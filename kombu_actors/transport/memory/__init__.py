"""A broker in this process: ``memory://name``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._homes import names_from
from .transport import MemoryBroker, MemoryLink, MemoryTransport, forget_memory_broker, memory_broker

if TYPE_CHECKING:
    from ..._facade.kinds import MemoryChannel as Channel
    from ..._facade.transports import Memory as Transport

__all__ = [
    "Channel",
    "MemoryBroker",
    "MemoryLink",
    "MemoryTransport",
    "Transport",
    "forget_memory_broker",
    "memory_broker",
]

if not TYPE_CHECKING:  # what kombu's programs know of it stands above
    __getattr__ = names_from(
        __name__,
        {
            "Channel": "kombu_actors._facade.kinds:MemoryChannel",
            "Transport": "kombu_actors._facade.transports:Memory",
        },
    )
