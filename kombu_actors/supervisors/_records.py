"""What goes into the kernel and what comes out of it: immutable records, hashed in C."""

from __future__ import annotations

from enum import Enum

from .._frozen import Record
from ._backoff import Delays
from ._policy import AutoShutdown, ChildState, Restart, RestartLimit, Strategy


class Exit(Enum):
    """How a child's incarnation ended."""

    RETURNED = "returned"
    FAILED = "failed"
    FATAL = "fatal"
    """Failed in a way no restart can cure."""


class Ending(Enum):
    """Why a supervisor ends."""

    STOPPED = "stopped"
    FINISHED = "finished"
    """Its significant children are done."""
    LIMIT = "limit"
    FATAL = "fatal"


class Fate(Enum):
    """Why a child is gone for good."""

    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"
    ESCALATED = "escalated"


class After(Enum):
    """What follows when a child that is going down is down."""

    LEAVE = "leave"
    QUEUE = "queue"
    """Started again when its elders are READY."""
    HOLD = "hold"
    """Started again after its delay."""


class Rules(Record):
    """What of a specification the kernel decides by."""

    strategy: Strategy
    limit: RestartLimit
    backoff: Delays
    auto_shutdown: AutoShutdown = AutoShutdown.NEVER


class Child(Record):
    """The kernel's record of one child."""

    id: str
    restart: Restart = Restart.PERMANENT
    significant: bool = False
    static: bool = True
    """Of the specification's tuple: started and stopped in its turn, and keeps its place when it is gone."""
    trial: bool = False
    """Somebody waits for its first start: if that fails it is gone."""
    limit: RestartLimit | None = None
    """Its own budget; None: it pays from its siblings'."""
    backoff: Delays | None = None
    """Its own delays; None: its supervisor's."""
    state: ChildState = ChildState.NEW
    epoch: int = 0
    proven: bool = False
    """Has been READY since its (group's) start began: younger siblings need not wait for it."""
    after: After | None = None
    """Set: it is going down, or will when its turn comes."""
    streak: int = 0
    """Failures in a row."""
    recent: tuple[float, ...] = ()
    """When restarts from its own budget were decided, within the window."""
    ready_at: float | None = None
    delay: float = 0.0
    timer: int = 0
    """Token of the armed timer; 0 while none is."""


class State(Record):
    """The kernel's record of one supervisor."""

    rules: Rules
    children: tuple[Child, ...] = ()
    recent: tuple[float, ...] = ()
    """When budgeted restarts were decided, within the window."""
    ending: Ending | None = None
    settled: bool = False
    """Every initial child has been READY (or is done): the supervisor itself is READY."""
    timers: int = 0
    ended: bool = False


# -- events -----------------------------------------------------------------------------------


class Begin(Record):
    """Start the initial children; ``children`` are those that the state doesn't have yet."""

    children: tuple[Child, ...] = ()


class Ready(Record):
    """A child says that it serves."""

    id: str
    epoch: int
    now: float


class Exited(Record):
    """A child's incarnation is gone.  ``u`` in [0, 1) is the draw for a delay."""

    id: str
    epoch: int
    how: Exit
    now: float
    u: float


class Stuck(Record):
    """A child was cancelled and is still there."""

    id: str
    epoch: int


class TimerFired(Record):
    id: str
    timer: int


class ChildAdded(Record):
    """A child to be started beyond the initial ones, or one of those again, at its old place."""

    child: Child


class StopChild(Record):
    """Stop a child for good; ``forget`` also removes its record."""

    id: str
    forget: bool = False


class RestartChild(Record):
    """Restart a child by hand, with its group; off the budget.  ``now`` cuts a delay short."""

    id: str
    at_once: bool
    u: float


class Shutdown(Record):
    """Stop everything in order, then end."""

    ending: Ending = Ending.STOPPED


Event = Begin | Ready | Exited | Stuck | TimerFired | ChildAdded | StopChild | RestartChild | Shutdown


# -- effects: orders to the driver --------------------------------------------------------------


class StartChild(Record):
    id: str
    epoch: int
    attempt: int


class AskToStop(Record):
    id: str


class Arm(Record):
    """Fire ``TimerFired(id, timer)`` in ``delay`` seconds."""

    id: str
    timer: int
    delay: float


class Disarm(Record):
    id: str


class Gone(Record):
    """The child is gone for good."""

    id: str
    fate: Fate


class Forgotten(Record):
    """The record of a child that is gone for good is gone, too: its id is free."""

    id: str


class Settled(Record):
    """Every initial child has been READY: the supervisor is."""


class Ended(Record):
    """No child is left and none will be started: the supervisor is over."""

    ending: Ending


# -- effects: news ------------------------------------------------------------------------------


class Served(Record):
    id: str


class GotStuck(Record):
    id: str


class Held(Record):
    """The child will be started again ``delay`` seconds after its group is down."""

    id: str
    delay: float
    cooling: bool


class Grouped(Record):
    """A failure (or a wish) of ``root`` restarts these siblings with it."""

    root: str
    members: tuple[str, ...]


class LimitHit(Record):
    """The failure of this child met an empty restart budget."""

    id: str


class Closing(Record):
    """The supervisor begins to stop its children, in order."""

    ending: Ending


Effect = (
    StartChild
    | AskToStop
    | Arm
    | Disarm
    | Gone
    | Forgotten
    | Settled
    | Ended
    | Served
    | GotStuck
    | Held
    | Grouped
    | LimitHit
    | Closing
)
