"""The one log record of a failure: what went wrong, with its traceback, and what its supervisor decided."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .._logs import get_logger
from ._errors import Escalation, UnexpectedReturn
from ._outcome import Failed, leaves, root_cause
from ._policy import Restart, RestartLimit
from ._records import After, Child, Closing, Effect, Ending, Fate, Gone, Grouped, Held, LimitHit

if TYPE_CHECKING:
    from ._node import Node

log = get_logger("kombu_actors.supervisors")


def report(node: Node, child: Child, failed: Failed, effects: tuple[Effect, ...]) -> None:
    """Log the failure of a child by the decision that followed.

    A crash is an ERROR with its traceback, what the tree's owner expects an INFO in one line.  A supervisor that gave
    up is told in one line, for it has told why.  Who waits for the first start of a child is told by an exception.
    """
    error = failed.error
    if child.trial or not isinstance(error, Exception):
        return
    expected = all(_is_expected(node, leaf) for leaf in failed.leaves or (error,))
    level = logging.INFO if expected else logging.ERROR
    if not log.isEnabledFor(level):
        return
    plain = expected or isinstance(error, Escalation | UnexpectedReturn)
    path = f"{node.cell.path}/{child.id}" if node.cell.path else child.id
    log.log(
        level,
        "%r failed with %s: %s; %s",
        path,
        type(error).__name__,
        error,
        _decision(node, child, effects),
        exc_info=None if plain else failed.whole(),
    )


def _is_expected(node: Node, error: BaseException) -> bool:
    cause = root_cause(error)
    return all(node.tree.expects(leaf) for leaf in leaves(cause) or (cause,))


def _decision(node: Node, child: Child, effects: tuple[Effect, ...]) -> str:
    limit = child.limit or node.spec.limit
    spent = any(isinstance(effect, LimitHit) for effect in effects)
    words = [f"its budget of {_budget(limit)} is spent"] if spent else []
    for effect in effects:
        match effect:
            case Held(id, delay, cooling) if id == child.id:
                when = "at once" if delay == 0.0 else f"in {delay:.2g} s"
                words.append(f"supervisor {node.name!r} {'cools down and ' if cooling else ''}restarts it {when}")
                left = node.budget_left(node.child(child.id))
                if left is not None and not cooling:
                    words.append(f"{left} restarts left")
            case Grouped(_, members):
                words.append(f"with {', '.join(members)}")
            case Closing(Ending.LIMIT):
                words.append(f"supervisor {node.name!r} stops its children and fails")
            case Closing(Ending.FATAL):
                words.append(f"no restart could cure this, so supervisor {node.name!r} stops its children and fails")
            case Closing(Ending.FINISHED):
                words.append(f"it is significant, so supervisor {node.name!r} stops")
            case Gone(id, Fate.FAILED) if id == child.id and spent:
                words.append("it is not started again")
            case Gone(id) if id == child.id and child.restart is Restart.TEMPORARY and child.after is None:
                words.append("it is TEMPORARY and not restarted")
    if child.after is not None:
        again = "" if child.after is After.LEAVE else ", to be started again"
        words.append(f"it was being stopped{again}")
    return ", ".join(words)


def _budget(limit: RestartLimit) -> str:
    return f"{limit.max_restarts} restarts within {limit.within:g} s"
