"""Adding children to a connection's tree, and taking them away, whatever supervision is doing with it meanwhile.

The desired state comes first: a supervisor that comes up starts what it finds there.  So a child that can't be started
just now is waited for, and one whose supervisor is down needs no stopping.
"""

from __future__ import annotations

from collections.abc import Callable

from .._logs import get_logger
from ..errors import ConnectionLost
from ..supervisors import (
    ActorDown,
    ChildSpec,
    ChildStartError,
    Escalation,
    SpecError,
    Supervisor,
    SupervisorSpec,
    UnknownChild,
    root_cause,
)
from ..supervisors._interrupts import protected

__all__ = ["Children"]

logger = get_logger("kombu_actors.connection")


@protected
class Children:
    """The running tree of one connection, to those that change it.

    ``why_down`` says why there is none; it is given what supervision said, if it said anything.
    """

    def __init__(self, why_down: Callable[[str | None], BaseException]) -> None:
        self.tree: Supervisor | None = None
        """None while the connection's tree is not running."""
        self._why_down = why_down

    @property
    def supervisor(self) -> Supervisor:
        """The running tree.

        Raises:
            the root cause, when supervision has given up; ``ConnectionClosed`` when it isn't running.
        """
        if self.tree is None:
            raise self._why_down(None)
        return self.tree

    async def start(self, parent: str, spec: ChildSpec | SupervisorSpec) -> None:
        """Start a child that the desired state already knows, and wait until it serves.

        While its supervisor is down nothing needs to be started: coming up, it starts what it
        finds in the desired state.
        """
        path = f"{parent}/{spec.id}"
        handle = self.supervisor.nested(parent)
        if handle is not None:
            try:
                await handle.start_child(spec)
            except ChildStartError as error:
                cause = root_cause(error)
                # Without a cause it was stopped: by a restart above it, which starts it again.
                if cause is not error and not isinstance(cause, ConnectionLost):
                    raise cause from cause.__cause__
            except (ActorDown, SpecError):
                pass  # its supervisor went down, or came up and has started it already
            else:
                return
        await self.wait_ready(path)

    def start_soon(self, parent: str, spec: ChildSpec | SupervisorSpec) -> None:
        """Have a child started that the desired state already knows, and again until it serves; waits for nothing."""
        handle = self.tree.nested(parent) if self.tree is not None else None
        if handle is not None:
            try:
                handle.start_child_nowait(spec)
            except (ActorDown, SpecError):
                logger.debug("%s/%s is started by its supervisor", parent, spec.id)

    async def stop(self, parent: str, child: str) -> None:
        """Stop a child that the desired state knows no more, and wait for its end."""
        handle = self.tree.nested(parent) if self.tree is not None else None
        if handle is not None:
            try:
                await handle.remove_child(child)
            except (ActorDown, UnknownChild):
                logger.debug("%s/%s was gone before it was stopped", parent, child)

    def forget(self, parent: str, child: str) -> None:
        """Have a child stopped that its supervisor may have started meanwhile, out of the desired state or for us.

        Waits for nothing: whoever gave up waiting for its start has no time for its end.
        """
        handle = self.tree.nested(parent) if self.tree is not None else None
        if handle is not None:
            try:
                handle.remove_child_nowait(child, reason="nobody waits for it any more")
            except (ActorDown, UnknownChild):
                logger.debug("%s/%s was gone before it was stopped", parent, child)

    async def wait_ready(self, path: str) -> None:
        """Wait until a child is READY.

        Raises:
            the root cause, when supervision gives up.
        """
        try:
            await self.supervisor.wait_ready(path)
        except Escalation as escalation:
            cause = root_cause(escalation)
            raise cause from cause.__cause__
        except ActorDown as down:
            raise self._why_down(str(down)) from down
