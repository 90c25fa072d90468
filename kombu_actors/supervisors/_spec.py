"""Specifications: frozen data, validated whole before anything starts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from .._frozen import Frozen
from ._backoff import Backoff, Delays, check_delays
from ._errors import SpecError
from ._interrupts import unprotected
from ._policy import AutoShutdown, Restart, RestartLimit, Strategy, check_seconds

if TYPE_CHECKING:
    from ._actor import ActorContext
    from ._outcome import Outcome

Start = Callable[["ActorContext"], Awaitable[object]]
OnExit = Callable[["Outcome"], None]


def _check_id(kind: str, id: object) -> None:
    if not isinstance(id, str) or not id or "/" in id:
        raise SpecError(f"a {kind}'s id must be a non-empty string without '/' (ids make up paths), not {id!r}")


def _check_enum(where: str, name: str, value: object, wanted: type) -> None:
    if not isinstance(value, wanted):
        raise SpecError(f"{where}: {name} must be a {wanted.__name__}, not {value!r}")


def _check_callable(where: str, name: str, value: object) -> None:
    if value is not None and not callable(value):
        raise SpecError(f"{where}: {name} must be a function or None, not {value!r}")


def _check_significant(where: str, significant: bool, restart: Restart) -> None:
    if significant and restart is Restart.PERMANENT:
        raise SpecError(
            f"{where} is significant and PERMANENT: it is restarted whenever it ends, so its end could "
            "never shut the supervisor down; make it TRANSIENT or TEMPORARY"
        )


class ChildSpec(Frozen):
    """One actor: what to run, when to restart it, how long it may take.

    ``start(ctx)`` runs for the child's whole life and calls ``ctx.ready()`` when it serves.
    It has ``start_timeout`` seconds to do so (None: no limit).  When asked to stop it gets
    ``stop_grace`` seconds to drain after ``ctx.stopping`` is set (OTP's 5 s), then it is
    cancelled; a child that is not READY yet is cancelled at once.

    ``mailbox`` is the capacity of its mailbox; None: it has none.  ``on_exit(outcome)`` is
    called exactly once, in the trio thread, when the child is gone for good, never on
    restarts; it must not block, and an exception it raises ends the supervisor.

    ``limit`` is its own budget of restarts, so that its failures cost its siblings nothing, ``backoff`` its own delays.
    None: it lives on its supervisor's.

    ``interruptible=False`` keeps ``KeyboardInterrupt`` out of ``start``, for an actor that must not be torn
    between two lines: Ctrl-C then strikes where the main task waits, and this child is stopped in its turn.
    """

    id: str
    start: Start
    restart: Restart = Restart.PERMANENT
    significant: bool = False
    start_timeout: float | None = 30.0
    stop_grace: float = 5.0
    mailbox: int | None = None
    limit: RestartLimit | None = None
    backoff: Delays | None = None
    on_exit: OnExit | None = None
    interruptible: bool = True

    def settle(self) -> None:
        """Raise ``SpecError`` for what makes no sense."""
        _check_id("child", self.id)
        where = f"child {self.id!r}"
        if not callable(self.start):
            raise SpecError(f"{where}: start must be an async function taking the context, not {self.start!r}")
        _check_enum(where, "restart", self.restart, Restart)
        _check_significant(where, self.significant, self.restart)
        _check_callable(where, "on_exit", self.on_exit)
        if self.limit is not None:
            _check_enum(where, "limit", self.limit, RestartLimit)
        if self.backoff is not None:
            check_delays(where, self.backoff)
        if self.restart is Restart.TEMPORARY and (self.limit is not None or self.backoff is not None):
            raise SpecError(f"{where} is TEMPORARY and never restarted, so a limit or backoff would mean nothing")
        if self.start_timeout is not None:
            check_seconds(f"{where}: start_timeout", self.start_timeout, allow_zero=False)
        check_seconds(f"{where}: stop_grace", self.stop_grace)
        box: object = self.mailbox
        if box is not None and (isinstance(box, bool) or not isinstance(box, int) or box < 1):
            raise SpecError(f"{where}: mailbox must be None or a capacity of at least 1, not {box!r}")


Children = tuple["ChildSpec | SupervisorSpec", ...]


def _as_tuple(children: object) -> Children:
    if not isinstance(children, Iterable):
        raise SpecError(f"children must be a tuple of specs, or a function that returns one, not {children!r}")
    return tuple(children)


class SupervisorSpec(Frozen):
    """A supervisor and its children, itself a possible child of another.

    ``children`` may be a callable: it is evaluated at every start of the supervisor, so that
    the desired state can live above it (children added with ``start_child`` are lost when
    their supervisor restarts; the callable brings them back).  Under ONE_FOR_ONE the children
    of a callable are started and stopped without waiting for one another.

    ``escalate(error)`` is asked, with the root cause, about each failure that would lead to a
    restart; True says that no restart can cure it: the supervisor stops its children in
    order and fails at once.

    ``restart``, ``significant`` and ``on_exit`` concern it as a child of its parent; there a
    failure (escalation) is abnormal for every restart type.
    """

    id: str
    children: Iterable[ChildSpec | SupervisorSpec] | Callable[[], Children] = ()
    """Kept as a tuple."""
    strategy: Strategy = Strategy.ONE_FOR_ONE
    limit: RestartLimit = RestartLimit()
    backoff: Delays = Backoff()
    escalate: Callable[[BaseException], bool] | None = None
    restart: Restart = Restart.PERMANENT
    significant: bool = False
    auto_shutdown: AutoShutdown = AutoShutdown.NEVER
    on_exit: OnExit | None = None

    def settle(self) -> None:
        """Raise ``SpecError`` for what makes no sense."""
        _check_id("supervisor", self.id)
        where = f"supervisor {self.id!r}"
        _check_enum(where, "strategy", self.strategy, Strategy)
        _check_enum(where, "limit", self.limit, RestartLimit)
        _check_enum(where, "restart", self.restart, Restart)
        _check_enum(where, "auto_shutdown", self.auto_shutdown, AutoShutdown)
        _check_significant(where, self.significant, self.restart)
        _check_callable(where, "escalate", self.escalate)
        _check_callable(where, "on_exit", self.on_exit)
        check_delays(where, self.backoff)
        if not callable(self.children):
            children = vars(self)["children"] = _as_tuple(self.children)
            self.check_children(children)

    def child_specs(self) -> Children:
        """The children to start now; raises ``SpecError`` when a callable returned nonsense."""
        if not callable(self.children):
            return _as_tuple(self.children)
        children = _as_tuple(unprotected(self.children))
        self.check_children(children)
        return children

    def check_children(self, children: Children) -> None:
        """Raise ``SpecError`` when these children can't live together under this supervisor."""
        seen: set[str] = set()
        for child in children:
            self.check_child(child)
            if child.id in seen:
                raise SpecError(f"supervisor {self.id!r} has two children named {child.id!r}; ids must differ")
            seen.add(child.id)

    def check_child(self, child: object) -> None:
        """Raise ``SpecError`` when this child doesn't fit this supervisor."""
        if not isinstance(child, (ChildSpec, SupervisorSpec)):
            raise SpecError(f"supervisor {self.id!r}: a child must be a ChildSpec or SupervisorSpec, not {child!r}")
        if child.significant and self.auto_shutdown is AutoShutdown.NEVER:
            raise SpecError(
                f"child {child.id!r} is significant, but supervisor {self.id!r} has auto_shutdown=NEVER, "
                "so its end would mean nothing; set auto_shutdown or drop significant"
            )
