"""Supervision: a pure kernel that decides, a trio driver that acts.  Knows nothing of messaging.

``docs/supervision.md`` explains the vocabulary.  In short::

    spec = SupervisorSpec(id="app", children=(ChildSpec(id="clock", start=clock),))
    async with open_supervisor(spec) as supervisor:
        await supervisor.wait_ready()
        ...
"""

from typing import TYPE_CHECKING

from .._homes import names_from
from . import events
from ._actor import ActorContext, ActorRef, Hibernation
from ._backoff import Backoff, Delays, LinearBackoff
from ._errors import (
    ActorDown,
    AskTimeout,
    ChildFailed,
    ChildStartError,
    Escalation,
    MailboxFull,
    RestartLimitExceeded,
    SelfStop,
    SpecError,
    StartMistake,
    StartTimeout,
    SupervisorError,
    UnexpectedReturn,
    UnknownChild,
)
from ._mailbox import Envelope, MailboxReader
from ._monitor import Down, Monitor
from ._outcome import Failed, Failure, Outcome, Returned, Stopped, leaves, root_cause
from ._policy import AutoShutdown, ChildState, OnLimit, Restart, RestartLimit, Strategy
from ._spec import ChildSpec, SupervisorSpec
from ._stream import EventStream
from ._supervisor import Supervisor, SupervisorHandle, open_supervisor
from ._views import ChildView
from .events import Event

if TYPE_CHECKING:
    from ._documents import ChildDocument
    from ._log import log_events
else:  # a broker's connection needs neither
    __getattr__ = names_from(
        __name__,
        {"ChildDocument": f"{__name__}._documents:ChildDocument", "log_events": f"{__name__}._log:log_events"},
    )

__all__ = [
    "ActorContext",
    "ActorDown",
    "ActorRef",
    "AskTimeout",
    "AutoShutdown",
    "Backoff",
    "ChildDocument",
    "ChildFailed",
    "ChildSpec",
    "ChildStartError",
    "ChildState",
    "ChildView",
    "Delays",
    "Down",
    "Envelope",
    "Escalation",
    "Event",
    "EventStream",
    "Failed",
    "Failure",
    "Hibernation",
    "MailboxReader",
    "LinearBackoff",
    "MailboxFull",
    "Monitor",
    "OnLimit",
    "Outcome",
    "Restart",
    "RestartLimit",
    "RestartLimitExceeded",
    "Returned",
    "SelfStop",
    "SpecError",
    "StartMistake",
    "StartTimeout",
    "Stopped",
    "Strategy",
    "Supervisor",
    "SupervisorError",
    "SupervisorHandle",
    "SupervisorSpec",
    "UnexpectedReturn",
    "UnknownChild",
    "events",
    "leaves",
    "log_events",
    "open_supervisor",
    "root_cause",
]
