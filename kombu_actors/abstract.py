"""What exchanges and queues are made of: attributes by table, and a channel once they have one."""

from __future__ import annotations

from ._facade.bound import MaybeChannelBound, Object

__all__ = ["MaybeChannelBound", "Object"]
