"""Supervised consumer fleets: handlers, outcomes, retries, dead letters and an end that loses nothing.

``docs/fleet.md`` teaches it.  In short::

    fleet = Fleet("amqp://localhost", name="shop", retry=Retry(delays=(1, 10, 60, 600)))

    @fleet.consumer("orders", concurrency=50, timeout=30)
    async def charge(order: Order, message: Message) -> None: ...

    fleet.run_sync()
"""

from typing import TYPE_CHECKING

from ._plans import CallNext, Middleware
from .certificate import Certificate, QueueCount
from .client import Client
from .dead_letters import DeadLetter, DeadLetters, Replayed
from .depths import DelayDepth, Depths, FleetDepths, QueueDepth
from .errors import (
    AlreadyHandled,
    ConsumerIsDeaf,
    FleetError,
    FleetMistake,
    HandlerTimeout,
    PayloadError,
    RemoteError,
)
from .fleet import Fleet
from .message import Message
from .policy import Batch, Depends, Reject, Retry, Snooze
from .status import ProcessState, ProcessStatus, Status
from .views import ConsumerView, FleetView, JobView

if TYPE_CHECKING:
    from ._blocking import SyncClient

__all__ = [
    "AlreadyHandled",
    "Batch",
    "CallNext",
    "Certificate",
    "Client",
    "ConsumerIsDeaf",
    "ConsumerView",
    "DeadLetter",
    "DeadLetters",
    "DelayDepth",
    "Depends",
    "Depths",
    "Fleet",
    "FleetDepths",
    "FleetError",
    "FleetMistake",
    "FleetView",
    "HandlerTimeout",
    "JobView",
    "Message",
    "Middleware",
    "PayloadError",
    "ProcessState",
    "ProcessStatus",
    "QueueCount",
    "QueueDepth",
    "Reject",
    "RemoteError",
    "Replayed",
    "Retry",
    "Snooze",
    "Status",
    "SyncClient",
]


def __getattr__(name: str) -> object:
    if name == "SyncClient":
        from ._blocking import SyncClient  # brings the runtime for threads: only for who asks

        return SyncClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
