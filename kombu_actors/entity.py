"""Exchanges, queues and bindings, as declarations.

A declaration is plain data: module-level, picklable, comparable.  Called with a channel or a
connection it gives a bound copy, whose methods talk to the broker.
"""

from __future__ import annotations

from ._facade.exchange import (
    DELIVERY_MODES,
    PERSISTENT_DELIVERY_MODE,
    TRANSIENT_DELIVERY_MODE,
    Exchange,
    binding,
    maybe_delivery_mode,
)
from ._facade.queue import Queue

__all__ = [
    "DELIVERY_MODES",
    "PERSISTENT_DELIVERY_MODE",
    "TRANSIENT_DELIVERY_MODE",
    "Exchange",
    "Queue",
    "binding",
    "maybe_delivery_mode",
]
