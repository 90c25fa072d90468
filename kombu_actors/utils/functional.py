"""Retrying, ranges and lists, as kombu spells them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .._homes import names_from
from .encoding import safe_repr

if TYPE_CHECKING:
    from .caches import LRUCache, memoize

__all__ = [
    "ChannelPromise",
    "LRUCache",
    "accepts_argument",
    "dictfilter",
    "fxrange",
    "fxrangemax",
    "is_list",
    "lazy",
    "maybe_evaluate",
    "maybe_list",
    "maybe_promise",
    "memoize",
    "promise",
    "reprcall",
    "reprkwargs",
    "retry_over_time",
    "shufflecycle",
]

T = TypeVar("T")

if not TYPE_CHECKING:
    __getattr__ = names_from(__name__, {name: f"kombu_actors.utils.caches:{name}" for name in ("LRUCache", "memoize")})


class ChannelPromise(Generic[T]):
    """A channel that is opened when somebody first needs it."""

    __slots__ = ("_contract", "_value")

    def __init__(self, contract: Callable[[], T]) -> None:
        self._contract = contract
        self._value: T | None = None

    def __call__(self) -> T:
        """The channel; the same one each time."""
        if self._value is None:
            self._value = self._contract()
        return self._value

    def __repr__(self) -> str:
        return f"<promise: {id(self):#x}>" if self._value is None else repr(self._value)


class lazy(Generic[T]):
    """A call to be made later: each ``lazy()`` makes it anew."""

    def __init__(self, fun: Callable[..., T], *args: object, **kwargs: object) -> None:
        self._fun = fun
        self._args = args
        self._kwargs = kwargs

    def __call__(self) -> T:
        return self.evaluate()

    def evaluate(self) -> T:
        """Make the call."""
        return self._fun(*self._args, **self._kwargs)

    def __str__(self) -> str:
        return str(self())

    def __repr__(self) -> str:
        return repr(self())

    def __eq__(self, other: object) -> bool:
        return bool(self() == other)

    __hash__ = None  # type: ignore[assignment]  # its value may differ each time


def maybe_evaluate(value: object) -> Any:
    """The value of a ``lazy``, anything else as it is."""
    return value.evaluate() if isinstance(value, lazy) else value


promise = lazy
"""``lazy`` under kombu's old name."""
maybe_promise = maybe_evaluate
"""``maybe_evaluate`` under kombu's old name."""


def accepts_argument(func: Callable[..., object], argument_name: str) -> bool:
    """Whether a function has an argument of that name."""
    import inspect  # as slow to import as all of this module's

    return argument_name in inspect.signature(func).parameters


def shufflecycle(it: Iterable[T]) -> Iterator[T]:
    """One of the things after another, for ever, each drawn at random."""
    from .dice import new_dice  # which is random, and slow to import

    things, dice = list(it), new_dice()
    while True:
        dice.shuffle(things)
        yield things[0]


def is_list(
    obj: object,
    scalars: tuple[type, ...] = (Mapping, str),
    iters: tuple[type, ...] = (Iterable,),
) -> bool:
    """Whether ``obj`` is a collection of things rather than one thing (mappings and strings are one)."""
    return isinstance(obj, iters) and not isinstance(obj, scalars or ())


def maybe_list(obj: object, scalars: tuple[type, ...] = (Mapping, str)) -> Any:
    """``obj`` if it is a list or ``None``, otherwise a list of it alone."""
    return obj if obj is None or is_list(obj, scalars) else [obj]


def dictfilter(d: Mapping[str, object] | None = None, /, **kw: object) -> dict[str, Any]:
    """A copy without the items whose value is ``None``."""
    return {key: value for key, value in {**(d or {}), **kw}.items() if value is not None}


def fxrange(
    start: float = 1.0, stop: float | None = None, step: float = 1.0, repeatlast: bool = False
) -> Iterator[float]:
    """A range of floats up to and including ``stop``; with ``repeatlast`` its last value repeats for ever."""
    current = start * 1.0
    while not stop or current <= stop:
        yield current
        current += step
    while repeatlast:
        yield current - step


def fxrangemax(start: float = 1.0, stop: float | None = None, step: float = 1.0, max: float = 100.0) -> Iterator[float]:
    """Floats that grow by ``step`` up to ``stop`` and end once their sum has passed ``max``."""
    total, current = 0.0, start * 1.0
    while total < max:
        yield current
        current = min(current + step, stop) if stop else current + step
        total += current


def retry_over_time(
    fun: Callable[..., T],
    catch: type[BaseException] | tuple[type[BaseException], ...],
    args: Sequence[object] | None = None,
    kwargs: Mapping[str, object] | None = None,
    errback: Callable[[Any, Iterator[float], int], float] | None = None,
    max_retries: int | None = None,
    interval_start: float = 2,
    interval_step: float = 2,
    interval_max: float = 30,
    callback: Callable[[], object] | None = None,
    timeout: float | None = None,
) -> T:
    """Call ``fun`` until it succeeds, waiting longer after each failure.

    Waits ``interval_start`` seconds after the first failure, ``interval_step`` more after each
    further one, never more than ``interval_max``.  ``errback(exc, intervals, retries)`` is told of
    each failure and returns the seconds to wait, usually ``next(intervals)``.  ``callback()`` runs
    before each wait and every second during it; what it raises ends the retrying.  After
    ``max_retries`` failed retries, or at a failure later than ``timeout`` seconds, the failure is
    raised again; with neither it retries for ever.  Blocks the calling thread.
    """
    intervals = (
        min(value, float(interval_max))
        for value in fxrange(interval_start, interval_max + interval_start, interval_step, repeatlast=True)
    )
    deadline = monotonic() + timeout if timeout else None
    for retries in count():
        try:
            return fun(*(args or ()), **(kwargs or {}))
        except catch as exc:
            if max_retries is not None and retries >= max_retries:
                raise
            if deadline is not None and monotonic() > deadline:
                raise
            if callback is not None:
                callback()
            wait = errback(exc, intervals, retries) if errback is not None else next(intervals)
            _wait(min(float(wait), float(interval_max)), callback)
    raise AssertionError("count() does not end")


def sleep(seconds: float) -> None:
    """``time.sleep``, as it is by then: gevent and eventlet replace it."""
    time.sleep(seconds)


def _wait(seconds: float, callback: Callable[[], object] | None) -> None:
    for _ in range(int(seconds)):
        if callback is not None:
            callback()
        sleep(1.0)
    sleep(max(seconds - int(seconds), 0.0))


def reprkwargs(kwargs: Mapping[str, object], sep: str = ", ", fmt: str = "{0}={1}") -> str:
    """``a=1, b='x'``, for a log line."""
    return sep.join(fmt.format(key, safe_repr(value)) for key, value in kwargs.items())


def reprcall(
    name: str, args: Iterable[object] = (), kwargs: Mapping[str, object] | None = None, sep: str = ", "
) -> str:
    """``name(1, b='x')``, for a log line."""
    shown = [safe_repr(arg) for arg in args or ()]
    if kwargs:
        shown.append(reprkwargs(kwargs, sep))
    return f"{name}({sep.join(shown)})"
