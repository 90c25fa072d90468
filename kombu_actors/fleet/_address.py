"""How a fleet reaches its broker: one URL and the options, for each of its connections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import attrs

from ..broker import Broker, open_broker


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

    def open(self, purpose: str, **more: Any) -> AbstractAsyncContextManager[Broker]:
        """A connection, named ``<fleet>: <purpose>`` at the broker; raises as ``open_broker``."""
        given = dict(self.options)
        properties = {"connection_name": f"{self.fleet}: {purpose}", **(given.pop("client_properties", None) or {})}
        return open_broker(self.url, client_properties=properties, **{**given, **more})
