"""Connecting as ``ensure_connection`` has it: this side says when to dial, one endpoint at a time.

While it does, supervision leaves the dialling to it; the tries, errbacks and sleeps are kombu's.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Unpack, cast

from ..utils.functional import retry_over_time

if TYPE_CHECKING:
    from .contracts import RetryHost, RetryPolicy
    from .runs import Runs

logger = logging.getLogger("kombu_actors.connection")
DIAL_MARGIN = 0.25
"""Seconds for a dial that runs into its own deadline to say why, before the caller's deadline cuts it off."""
LATE = 0.05
"""Seconds before the deadline that are too few for another dial."""
RETRY_OPTIONS = ("max_retries", "interval_start", "interval_step", "interval_max", "errback", "callback")
"""Transport options that say how the first connect is retried."""


def first_connect(options: Mapping[str, object], whole_pass: float) -> RetryPolicy:
    """How the transport options say to retry the first connect; ``whole_pass``: seconds to dial every endpoint once."""
    policy = {"timeout": options.get("connect_retries_timeout", whole_pass)}
    return cast("RetryPolicy", policy | {name: options[name] for name in RETRY_OPTIONS if name in options})


def connect(
    connection: RetryHost,
    runs: Runs,
    *,
    errback: Callable[[BaseException, float], object] | None,
    max_retries: int | None,
    interval_start: float,
    interval_step: float,
    interval_max: float,
    callback: Callable[[], object] | None,
    timeout: float | None,
) -> None:
    """Dial until it succeeds; sleeps only when every endpoint has failed once more.

    A run that never had a session is put away when it doesn't.
    Unlike kombu, which looks at the clock after a failure only, the last sleep is cut to end by ``timeout``.
    """
    deadline = time.monotonic() + timeout if timeout else math.inf

    def dial(holder: object) -> None:
        tree = runs.running(holder)
        left = max(deadline - time.monotonic(), 0.0) + DIAL_MARGIN
        tree.dial(min(connection.connect_timeout + connection.call_timeout, left))

    def on_error(error: BaseException, intervals: Iterator[float], retries: int) -> float:
        interval = next(intervals) if connection.completes_cycle(retries) else 0.0
        left = deadline - time.monotonic()
        if left < LATE:
            raise error
        interval = min(interval, left)
        if errback is not None:
            errback(error, interval)
        return interval

    def attempt(holder: object) -> None:
        try:
            retry_over_time(
                dial,
                connection.recoverable_connection_errors,
                (holder,),
                {},
                on_error,
                max_retries,
                interval_start,
                interval_step,
                interval_max,
                callback,
                timeout=timeout,
            )
        except BaseException:
            tree = runs.present
            if tree is not None and not tree.sessions:
                runs.discard(tree)
            raise

    _by_hand(runs, attempt)


def reconnect(connection: RetryHost, runs: Runs, **policy: Unpack[RetryPolicy]) -> None:
    """Ask the broker whether it lives; connect as the policy says when it doesn't."""

    def attempt(holder: object) -> None:
        try:
            tree = runs.running(holder)
            if tree.connected:
                tree.probe(connection.call_timeout)
        except connection.recoverable_connection_errors as error:
            logger.debug("connecting again: %r", error)
        connection.ensure_connection(**policy)

    _by_hand(runs, attempt)


def dial_once(runs: Runs, timeout: float) -> None:
    """Have a session in which all is restored within ``timeout`` seconds: the present one, or one at the first dial.

    Raises:
        what the dial raised, or DeadlineExceeded.
    """
    deadline = time.monotonic() + timeout

    def attempt(holder: object) -> None:
        tree = runs.running(holder)
        tree.dial(timeout)
        tree.wait_ready(max(deadline - time.monotonic(), 0.0))

    _by_hand(runs, attempt)


def _by_hand(runs: Runs, attempt: Callable[[object], object]) -> None:
    """Call ``attempt`` with a holder of the dialling, who lets it go afterwards, whatever interrupts him."""
    holder = object()
    try:
        attempt(holder)
    finally:
        try:
            runs.let_dialling_go(holder)
        except BaseException:
            runs.let_dialling_go(holder)
            raise
