"""What a supervisor makes of a failure: curable or not, and how it tells why it gave up."""

from __future__ import annotations

from ._errors import ChildFailed, Escalation, RestartLimitExceeded, StartMistake
from ._interrupts import unprotected
from ._outcome import Failed, Failure, leaves, root_cause
from ._policy import RestartLimit
from ._records import Ending, Exit
from ._spec import SupervisorSpec


def judge(spec: SupervisorSpec, outcome: Failed) -> tuple[Failed, Exit]:
    """Whether a restart could cure a failure; of a group the incurable leaf decides.

    An ``escalate`` that raises is a bug no restart cures either: it becomes the failure.
    """
    if isinstance(outcome.error, StartMistake):
        return outcome, Exit.FATAL
    if spec.escalate is None:
        return outcome, Exit.FAILED
    try:
        for leaf in outcome.leaves or (outcome.error,):
            if unprotected(spec.escalate, root_cause(leaf)):
                return Failed(leaf, outcome.leaves), Exit.FATAL
    except BaseException as bug:
        bug.__cause__ = outcome.whole()
        return Failed(bug), Exit.FATAL
    return outcome, Exit.FAILED


def escalation(
    spec: SupervisorSpec,
    path: str,
    ending: Ending,
    failure: Failure,
    history: tuple[Failure, ...],
    own: RestartLimit | None = None,
) -> Escalation:
    """The one exception that tells a parent, or the program, why this supervisor gave up.

    ``own`` is the budget of the child that failed, when it has one.
    """
    name = path or spec.id
    cause = root_cause(failure.error)
    others = len(leaves(failure.error)) - 1
    tail = (
        f"child {failure.path!r} failed with {type(cause).__name__}: {cause}{f' (and {others} more)' if others else ''}"
    )
    error: Escalation
    if ending is Ending.LIMIT:
        limit = own or spec.limit
        allowed = f"{limit.max_restarts} restarts within {limit.within:g} s"
        who = (
            f"supervisor {name!r} gave up: its child has used up its own"
            if own
            else f"supervisor {name!r} has used up its"
        )
        message = f"{who} budget of {allowed}; the last straw: {tail}"
        error = RestartLimitExceeded(message, path=path, history=history)
    else:
        message = f"supervisor {name!r} gave up, for no restart could cure this: {tail}"
        error = ChildFailed(message, path=path, history=history)
    error.__cause__ = failure.error
    return error
