"""What kombu's programs know of transports and their channels, whichever broker they are for.

There is no making transports of one's own here: deriving from ``Transport`` says so.
"""

from __future__ import annotations

from .._facade.message import Message
from .._facade.standard import RABBITMQ_QUEUE_ARGUMENTS, StdChannel, to_rabbitmq_queue_arguments
from .._facade.transports import Implements, Management, Transport

__all__ = [
    "RABBITMQ_QUEUE_ARGUMENTS",
    "Implements",
    "Management",
    "Message",
    "StdChannel",
    "Transport",
    "default_transport_capabilities",
    "to_rabbitmq_queue_arguments",
]

default_transport_capabilities = Implements()
"""What a transport can do, if it says nothing else."""
