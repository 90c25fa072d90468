"""A listener that writes events to a logger, louder the longer a failure lasts."""

from __future__ import annotations

import logging
from collections.abc import Callable

from . import events as news

_QUIET = (news.ChildStarting, news.ChildStopped, news.ChildGone, news.GroupRestarted)
_LOUD = (news.ChildStuck, news.DeadlinePassed)
_RISING = (news.ChildFailed, news.ChildBackingOff, news.LimitReached)


def log_events(
    logger: logging.Logger | logging.LoggerAdapter[logging.Logger], *, critical_after: int = 3
) -> Callable[[news.Event], None]:
    """A listener for ``open_supervisor``: starts are DEBUG, the first failures WARNING, escalations CRITICAL.

    From the ``critical_after``-th failure in a row on, failures are ERROR: a broker's restart
    stays out of the pagers, an outage doesn't.  The count starts afresh with the backoff.
    """

    def listen(event: news.Event) -> None:
        level = _level(event, critical_after)
        if logger.isEnabledFor(level):
            record = event.to_dict()
            name = record.pop("event")
            details = {
                key: value for key, value in record.items() if key not in ("path", "at", "wall", "history", "error")
            }
            error = getattr(event, "error", None)
            cause = "" if error is None else f" {type(error).__name__}: {error}"
            logger.log(level, "%s %s%s %s", event.path or "(root)", name, cause, details, extra={"supervision": record})

    return listen


def _level(event: news.Event, critical_after: int) -> int:
    if isinstance(event, news.Escalated):
        return logging.CRITICAL if not event.path else logging.ERROR
    if isinstance(event, _LOUD):
        return logging.ERROR
    if isinstance(event, _RISING):
        return logging.ERROR if event.attempt >= critical_after else logging.WARNING
    if isinstance(event, news.ChildDegraded):
        return logging.WARNING
    return logging.DEBUG if isinstance(event, _QUIET) else logging.INFO
