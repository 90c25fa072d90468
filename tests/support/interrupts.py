"""Signal handlers at every point at which CPython would run one.

CPython looks for signals when a function is entered, when a loop jumps back, and after a call to something that is
not written in Python; blocking calls look, too, but those are functions of C.  ``at_each_point`` runs an action again
and again, and lets something happen at the first such point, then at the second, and so on: exhaustive where
dice are not.  On Python 3.11; later ones trace instructions from a function's next call on only, and show its entry.
"""

from __future__ import annotations

import dis
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from inspect import CO_GENERATOR
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import kombu_actors

PACKAGE = str(Path(kombu_actors.__file__).parent)
CALLS = frozenset({"CALL", "CALL_FUNCTION_EX", "CALL_KW"})
BACKWARDS = frozenset({"JUMP_BACKWARD"})


class Interrupted(BaseException):
    """What the handler raises, as ``KeyboardInterrupt`` is raised."""


@cache
def _points(code: CodeType) -> tuple[frozenset[int], frozenset[int]]:
    """Offsets before which a handler may run: after calls, and where loops jump back."""
    after, back = set(), set()
    previous = ""
    for instruction in dis.get_instructions(code):
        if previous in CALLS:
            after.add(instruction.offset)
        if instruction.opname in BACKWARDS:
            back.add(instruction.offset)
        previous = instruction.opname
    return frozenset(after), frozenset(back)


class _Tracer:
    """Counts points in the package's functions of one thread; ``happen`` is called at the one wanted."""

    def __init__(self, wanted: int, happen: Callable[[], object], within: str) -> None:
        self.wanted = wanted
        self.happen = happen
        self.within = within
        self.count = 0
        self.where = ""
        self._called: FrameType | None = None
        """The frame that is returned to by a function of Python's: no handler runs there."""

    def enter(self, frame: FrameType, event: str, arg: Any) -> Callable[..., Any] | None:
        """The global trace function: a function of Python's is entered."""
        if not frame.f_code.co_filename.startswith(self.within):
            # A handler that raises in a finalizer has its exception swallowed by the interpreter.
            return None if frame.f_code.co_filename == weakref.__file__ else self.leave
        if frame.f_back is not None and frame.f_back.f_code.co_filename == weakref.__file__:
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        caller = frame.f_back
        resumed = frame.f_code.co_flags & CO_GENERATOR  # perhaps to be closed by a finalizer
        if caller is not None and caller.f_code.co_filename.startswith(self.within) and not resumed:
            self._point(frame)  # at the first instruction of what the program itself calls, the call has not begun
        return self.step

    def leave(self, frame: FrameType, event: str, arg: Any) -> Callable[..., Any]:
        """A function that is none of ours."""
        if event == "return":
            self._returns(frame)
        return self.leave

    def step(self, frame: FrameType, event: str, arg: Any) -> Callable[..., Any]:
        """Before each instruction of ours."""
        if event == "opcode":
            after, back = _points(frame.f_code)
            offset = frame.f_lasti
            called, self._called = self._called, None
            if offset in back or (offset in after and called is not frame):
                self._point(frame)
        elif event == "return":
            self._returns(frame)
        return self.step

    def _returns(self, frame: FrameType) -> None:
        # Constructors and generators are called by functions of C, which look for signals when they return.
        by_c = frame.f_code.co_name == "__init__" or frame.f_code.co_flags & CO_GENERATOR
        self._called = None if by_c else frame.f_back

    def _point(self, frame: FrameType) -> None:
        self.count += 1
        if self.count == self.wanted:
            code = frame.f_code
            self.where = f"{Path(code.co_filename).name}:{frame.f_lineno} {code.co_qualname}"
            self.happen()


@contextmanager
def tracing(wanted: int, happen: Callable[[], object], within: str = PACKAGE) -> Iterator[_Tracer]:
    """While the block runs, call ``happen`` at its ``wanted``-th point (from 1 on) in the package's functions."""
    tracer = _Tracer(wanted, happen, within)
    before = sys.gettrace()
    sys.settrace(tracer.enter)
    try:
        yield tracer
    finally:
        sys.settrace(before)
        tracer._called = None


def interrupt() -> None:
    """What a handler does that raises."""
    raise Interrupted


def points_of(action: Callable[[], object]) -> int:
    """How many points an action has, this time."""
    with tracing(0, interrupt) as tracer:
        action()
    return tracer.count


def at_each_point(
    action: Callable[[], object],
    happen: Callable[[], object],
    check: Callable[[str], object],
    *,
    every: int = 1,
    first: int = 1,
    at_most: int = 100_000,
) -> int:
    """Do ``action`` with something happening at its first point, its second, ..., until it ends before it happens.

    ``check(where)`` is called after each time.  Returns how many points there were.
    """
    wanted = first
    while wanted < at_most:
        with tracing(wanted, happen) as tracer:
            try:
                action()
            except Interrupted:
                assert tracer.where, "interrupted by nobody"
        if not tracer.where:
            return wanted
        check(tracer.where)
        wanted += every
    raise AssertionError(f"the action has more than {at_most} points")


@contextmanager
def no_longer_than(seconds: float) -> Iterator[None]:
    """Raise in the main thread when the block hangs: also out of a lock that nobody will release."""
    assert threading.current_thread() is threading.main_thread()

    def hung(*_: object) -> None:
        raise AssertionError(f"hung for {seconds:g} s")

    former = signal.signal(signal.SIGALRM, hung)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
