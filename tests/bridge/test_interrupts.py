"""A signal handler that raises ends the call it came into, at whatever bytecode, and breaks nothing."""

from __future__ import annotations

from functools import partial

import pytest

from soak._blocking_calls import BLOCKING_CALLS, BlockingCall
from tests.support.interrupts import at_each_point, interrupt, no_longer_than, points_of

MANY, FEW = 300, 60
"""Points at which a call is interrupted here, evenly spread; ``python -m soak.interrupts`` takes all, and dice."""


@pytest.mark.parametrize("kind", BLOCKING_CALLS)
def test_an_interrupt_at_any_point_of_a_call_leaves_everything_usable(url: str, kind: str) -> None:
    """Interrupted at its first point, and on to its last: no hang, nothing lost, nothing that nobody holds."""
    with no_longer_than(100):
        call = BLOCKING_CALLS[kind](url)
        try:
            call.check()
            points = points_of(call.act)
            call.check()
            every = max(points // (MANY if url.startswith("memory") else FEW), 1)
            assert at_each_point(call.act, interrupt, partial(_check, call), every=every) > 10
            call.close()
        finally:
            call.connection.release()


def _check(call: BlockingCall, where: str) -> None:
    try:
        call.check()
    except BaseException as error:
        error.add_note(f"after an interrupt at {where}")
        raise
