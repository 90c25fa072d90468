"""What goes into the kernel and what comes out of it: immutable records, hashed in C."""

# Annotations are evaluated here: as text each would be compiled on its own, which doubles what these classes cost.
from enum import Enum
from typing import NamedTuple

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


class Rules(NamedTuple):
    """What of a specification the kernel decides by."""

    strategy: Strategy
    limit: RestartLimit
    backoff: Delays
    auto_shutdown: AutoShutdown = AutoShutdown.NEVER


class Child(NamedTuple):
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


class State(NamedTuple):
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


class Begin(NamedTuple):
    """Start the initial children."""


class Ready(NamedTuple):
    """A child says that it serves."""

    id: str
    epoch: int
    now: float


class Exited(NamedTuple):
    """A child's incarnation is gone.  ``u`` in [0, 1) is the draw for a delay."""

    id: str
    epoch: int
    how: Exit
    now: float
    u: float


class Stuck(NamedTuple):
    """A child was cancelled and is still there."""

    id: str
    epoch: int


class TimerFired(NamedTuple):
    id: str
    timer: int


class ChildAdded(NamedTuple):
    """A child to be started beyond the initial ones, or one of those again, at its old place."""

    child: Child


class StopChild(NamedTuple):
    """Stop a child for good; ``forget`` also removes its record."""

    id: str
    forget: bool = False


class RestartChild(NamedTuple):
    """Restart a child by hand, with its group; off the budget.  ``now`` cuts a delay short."""

    id: str
    at_once: bool
    u: float


class Shutdown(NamedTuple):
    """Stop everything in order, then end."""

    ending: Ending = Ending.STOPPED


Event = Begin | Ready | Exited | Stuck | TimerFired | ChildAdded | StopChild | RestartChild | Shutdown


# -- effects: orders to the driver --------------------------------------------------------------


class StartChild(NamedTuple):
    id: str
    epoch: int
    attempt: int


class AskToStop(NamedTuple):
    id: str


class Arm(NamedTuple):
    """Fire ``TimerFired(id, timer)`` in ``delay`` seconds."""

    id: str
    timer: int
    delay: float


class Disarm(NamedTuple):
    id: str


class Gone(NamedTuple):
    """The child is gone for good."""

    id: str
    fate: Fate


class Forgotten(NamedTuple):
    """The record of a child that is gone for good is gone, too: its id is free."""

    id: str


class Settled(NamedTuple):
    """Every initial child has been READY: the supervisor is."""


class Ended(NamedTuple):
    """No child is left and none will be started: the supervisor is over."""

    ending: Ending


# -- effects: news ------------------------------------------------------------------------------


class Served(NamedTuple):
    id: str


class GotStuck(NamedTuple):
    id: str


class Held(NamedTuple):
    """The child will be started again ``delay`` seconds after its group is down."""

    id: str
    delay: float
    cooling: bool


class Grouped(NamedTuple):
    """A failure (or a wish) of ``root`` restarts these siblings with it."""

    root: str
    members: tuple[str, ...]


class LimitHit(NamedTuple):
    """The failure of this child met an empty restart budget."""

    id: str


class Closing(NamedTuple):
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
