"""The private brokers of a test run; see each name's own module."""

from __future__ import annotations

from .processes import free_port
from .rabbitmq import RabbitMQNode
from .redis_server import RedisNode, SentinelGroup, start_sentinel_group

__all__ = ["RabbitMQNode", "RedisNode", "SentinelGroup", "free_port", "start_sentinel_group"]
