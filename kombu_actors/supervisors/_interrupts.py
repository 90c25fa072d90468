"""Ctrl-C: where ``KeyboardInterrupt`` may strike, and what is made of it.

trio raises it between any two bytecodes of code that is not protected; to protected code it comes only where
the main task waits.  Our bookkeeping must not be torn between two lines, a user's code must stay interruptible:
so every way into this package is protected (``protected``, ``guarded``), and every call from here into a user's
code leaves the protection (``unprotected``, ``run_unprotected``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import wraps
from types import FunctionType, TracebackType
from typing import Generic, ParamSpec, TypeVar

import trio

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C", bound=type)


def protected(cls: C) -> C:
    """Class decorator: an interrupt never strikes inside a method of this class, or what it calls."""
    for member in vars(cls).values():
        parts = (member.fget, member.fset) if isinstance(member, property) else (member,)
        for part in parts:
            function = part.__func__ if isinstance(part, staticmethod | classmethod) else part
            if isinstance(function, FunctionType):
                trio.lowlevel.enable_ki_protection(function)
    return cls


@trio.lowlevel.disable_ki_protection
def unprotected(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a user's function from protected code; an interrupt comes out of it as ``KeyboardInterrupt``."""
    return call(*args, **kwargs)


@trio.lowlevel.enable_ki_protection
async def run_unprotected(call: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """``unprotected`` for a coroutine function."""
    made = call(*args, **kwargs)
    try:
        return await _wait_unprotected(made)
    finally:
        if isinstance(made, Coroutine):
            made.close()  # an interrupt may strike before it has begun


@trio.lowlevel.disable_ki_protection
async def _wait_unprotected(made: Awaitable[T]) -> T:
    return await made


class _Guarded(AbstractAsyncContextManager[T], Generic[T]):
    """A context manager whose entering and leaving is protected; its block is not.

    With contextlib's own an interrupt may come after the generator has yielded and before the block
    has begun: then nobody would leave what was entered.
    """

    def __init__(self, inner: AbstractAsyncContextManager[T]) -> None:
        self._inner = inner

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> T:
        return await self._inner.__aenter__()

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._inner.__aexit__(kind, error, traceback)


def guarded(make: Callable[P, AsyncIterator[T]]) -> Callable[P, AbstractAsyncContextManager[T]]:
    """``contextlib.asynccontextmanager`` that no interrupt tears between its generator and the block."""
    manage = asynccontextmanager(make)

    @wraps(make)
    def enter(*args: P.args, **kwargs: P.kwargs) -> AbstractAsyncContextManager[T]:
        return _Guarded(manage(*args, **kwargs))

    return enter


def interrupt_in(error: BaseException | None) -> KeyboardInterrupt | None:
    """The interrupt that an exception is, or that is among those of a group."""
    if isinstance(error, BaseExceptionGroup):
        return next((found for part in error.exceptions if (found := interrupt_in(part)) is not None), None)
    return error if isinstance(error, KeyboardInterrupt) else None


def came_after_another(interrupt: KeyboardInterrupt) -> bool:
    """Whether an interrupt struck while an earlier one was being obeyed."""
    seen: set[int] = set()
    one = interrupt.__context__
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        earlier = interrupt_in(one)
        if earlier is not None and earlier is not interrupt:
            return True
        one = one.__context__
    return False
