"""Supervised consumer fleets: handlers, outcomes, retries, dead letters and an end that loses nothing.

``docs/fleet.md`` teaches it.  In short::

    fleet = Fleet("amqp://localhost", name="shop", retry=Retry(delays=(1, 10, 60, 600)))

    @fleet.consumer("orders", concurrency=50, timeout=30)
    async def charge(order: Order, message: Message) -> None: ...

    fleet.run_sync()
"""

from .certificate import Certificate
from .client import Client
from .dead_letters import DeadLetter, DeadLetters
from .errors import AlreadyHandled, FleetError, FleetMistake, HandlerTimeout, PayloadError, RemoteError
from .fleet import Fleet
from .message import Message
from .policy import Batch, Depends, Reject, Retry, Snooze

__all__ = [
    "AlreadyHandled",
    "Batch",
    "Certificate",
    "Client",
    "DeadLetter",
    "DeadLetters",
    "Depends",
    "Fleet",
    "FleetError",
    "FleetMistake",
    "HandlerTimeout",
    "Message",
    "PayloadError",
    "Reject",
    "RemoteError",
    "Retry",
    "Snooze",
]
