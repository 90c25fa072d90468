"""What a supervisor makes of a failure: curable or not, and how it tells why it gave up."""

from __future__ import annotations

from ._errors import ChildFailed, Escalation, RestartLimitExceeded, StartMistake
from ._interrupts import unprotected
from ._outcome import Failed, Failure, leaves, root_cause
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
    spec: SupervisorSpec, path: str, ending: Ending, failure: Failure, history: tuple[Failure, ...]
) -> Escalation:
    """The one exception that tells a parent, or the program, why this supervisor gave up."""
    name = path or spec.id
    cause = root_cause(failure.error)
    others = len(leaves(failure.error)) - 1
    tail = (
        f"child {failure.path!r} failed with {type(cause).__name__}: {cause}{f' (and {others} more)' if others else ''}"
    )
    error: Escalation
    if ending is Ending.LIMIT:
        allowed = f"{spec.limit.max_restarts} restarts within {spec.limit.within:g} s"
        message = f"supervisor {name!r} has used up its budget of {allowed}; the last straw: {tail}"
        error = RestartLimitExceeded(message, path=path, history=history)
    else:
        message = f"supervisor {name!r} gave up, for no restart could cure this: {tail}"
        error = ChildFailed(message, path=path, history=history)
    error.__cause__ = failure.error
    return error
