"""The two packages that every test of this suite runs against, and where they may differ."""

from __future__ import annotations

from importlib import import_module
from typing import Any

DIFFERS = frozenset(
    {
        "abandoned-brpop",
        "alternates-and-url",
        "bad-priorities",
        "bad-url-errors",
        "cancel-delivers",
        "channel-limit",
        "channels-survive",
        "declare-unchanged",
        "drain-events-recovers",
        "durable-fanout",
        "empty-bodies",
        "empty-queues",
        "eqhash-tls",
        "expiring-queues",
        "failover-strategy-attribute",
        "headers-unchanged",
        "heartbeat-default",
        "host-with-port",
        "ipv6-uri",
        "mandatory-confirmed",
        "mask-without-password",
        "memory-exclusive",
        "memory-redelivered",
        "memory-requeues-on-close",
        "memory-unbinds",
        "no-ack-acknowledged",
        "no-ack-takes-all",
        "no-guessed-password",
        "pidbox-reply-queue",
        "redelivered-header",
        "redis-conditions",
        "redis-drain-timeout",
        "redis-errors",
        "redis-exchange-types",
        "redis-exclusive",
        "redis-flow",
        "redis-limits",
        "redis-manager",
        "redis-mandatory",
        "redis-settings",
        "redis-unknown-options",
        "redis-wrong-password",
        "rediss-verified",
        "reply-to-queue",
        "sentinel-urls-together",
        "socket-database",
        "undeclared",
        "undeclared-fanout",
        "unknown-arguments",
        "unknown-failover-strategy",
        "uri-prefix",
        "url-connect-timeout",
        "url-tls-keys",
        "virtual-errors",
        "virtual-properties",
        "virtual-topics",
    }
)
"""Every difference that the suite knows of; ``docs/differences.md`` has a row with the reason for each."""


class Library:
    """``kombu`` or ``kombu_actors``; its names are this object's attributes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._package: Any = import_module(name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._package, name)

    def __repr__(self) -> str:
        return self.name

    def module(self, name: str) -> Any:
        """One of its modules, e.g. ``exceptions``."""
        return import_module(f"{self.name}.{name}")

    def either(self, difference: str, *, kombu: Any, actors: Any) -> Any:
        """What is expected of this library, where they differ on purpose."""
        assert difference in DIFFERS, f"{difference!r} is not among the listed differences"
        return kombu if self.name == "kombu" else actors
