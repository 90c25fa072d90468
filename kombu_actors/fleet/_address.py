"""How a fleet reaches its broker: one URL and the options, for each of its connections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import attrs

from .._values.endpoint import split_urls
from ..broker import Broker, open_broker
from ..supervisors import Backoff

RABBITMQ = ("amqp", "pyamqp")
"""How the URLs of its nodes begin."""
FAILOVER = Backoff(first=1.0, base=0.25, factor=2.0, maximum=3.0, jitter=0.2, reset_after=5.0)
"""The waits between sessions on a cluster of RabbitMQ nodes.  At once is too soon for the first: when a node dies that
leads a quorum queue, the others take 0.2 to 0.5 s to elect another leader.  A channel that publishes to the queue
before that is refused (RabbitMQ 3.10: basic.nack) until another channel does, and a consumer hears nothing as long."""


@attrs.frozen(repr=False)
class Address:
    """Where the broker is.  Its repr has no URL: that may hold a password."""

    url: str | Sequence[str]
    fleet: str
    """The fleet's name, which the broker's operator sees."""
    options: Mapping[str, Any] = attrs.field(factory=dict)
    """Further arguments of ``open_broker``."""

    def __repr__(self) -> str:
        return f"<Address of fleet {self.fleet!r}>"

    def open(self, purpose: str, **more: object) -> AbstractAsyncContextManager[Broker]:
        """A connection, named ``<fleet>: <purpose>`` at the broker; raises as ``open_broker``."""
        return open_broker(self.url, **{**self.arguments(purpose), **more})

    def arguments(self, purpose: str) -> dict[str, Any]:
        """What ``open`` gives to ``open_broker``."""
        given = dict(self.options)
        properties = {"connection_name": f"{self.fleet}: {purpose}", **(given.pop("client_properties", None) or {})}
        urls = split_urls(self.url)
        if len(urls) > 1 and urls[0].lower().startswith(RABBITMQ):
            given = {"backoff": FAILOVER, **given}
        return {"client_properties": properties, **given}
