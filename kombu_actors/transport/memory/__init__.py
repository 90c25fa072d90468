"""A broker in this process: ``memory://name``."""

from __future__ import annotations

from .transport import MemoryBroker, MemoryLink, MemoryTransport, forget_memory_broker, memory_broker

__all__ = ["MemoryBroker", "MemoryLink", "MemoryTransport", "forget_memory_broker", "memory_broker"]
