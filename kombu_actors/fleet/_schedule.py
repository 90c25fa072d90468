"""When a periodic job is due: every so many seconds, or by cron.  Pure: moments are seconds since 1970."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import attrs

from ._plans import HandlerPlan
from .errors import FleetMistake

__all__ = ["Cron", "Every", "Job", "Schedule", "is_ahead", "job"]

SHORTEST, LONGEST = 0.1, 366 * 24 * 3600.0
"""Seconds between two ticks: each is a message to the broker, and a restart may come between."""
SKEW = 60.0
"""Seconds that the clocks of two hosts may differ.  What was settled further in the future than that was settled by a
clock that has been set back since, and the jobs would wait for it."""


class Schedule(Protocol):
    """A sequence of moments."""

    def next_after(self, moment: float) -> float:
        """The first tick after a moment."""


@attrs.frozen
class Every:
    """Every so many seconds: at their multiples since 1970, which all hosts agree on; so 60 is each full minute."""

    seconds: float

    def next_after(self, moment: float) -> float:
        """The next multiple."""
        following = (moment // self.seconds + 1) * self.seconds
        return following if following > moment else following + self.seconds


@attrs.frozen
class Cron:
    """By a cron expression of five fields, or six with seconds, in a time zone.

    When clocks are put forward, what falls into the missing hour is due at its end; when they are put back, what is to
    run at a certain hour runs once, and what runs all the time goes on in both.
    """

    expression: str
    timezone: tzinfo = UTC

    def next_after(self, moment: float) -> float:
        """The next moment that matches."""
        from cronsim import CronSim  # an extra

        return next(CronSim(self.expression, datetime.fromtimestamp(moment, self.timezone))).timestamp()


@attrs.frozen(kw_only=True)
class Job:
    """A periodic job, as registered."""

    name: str
    """The handler's: by it the fleet remembers when it last ran."""
    schedule: Schedule
    handler: HandlerPlan


def job(schedule: str | float, handler: HandlerPlan, timezone: str = "UTC") -> Job:
    """A job from what a program says.

    Raises:
        FleetMistake: it is neither a number of seconds nor a cron expression, or the zone isn't known.
    """
    where = f"@fleet.every of {handler.name}"
    if isinstance(schedule, str):
        return Job(name=handler.name, schedule=_cron(where, schedule, timezone), handler=handler)
    if type(schedule) not in (int, float) or not SHORTEST <= schedule <= LONGEST:
        raise FleetMistake(
            f"{where} takes seconds from {SHORTEST:g} to {LONGEST:.0f} (a year), or a cron expression, "
            f"not {schedule!r:.80}"
        )
    return Job(name=handler.name, schedule=Every(schedule), handler=handler)


def _cron(where: str, expression: str, timezone: str) -> Cron:
    try:
        from cronsim import CronSim, CronSimError
    except ImportError:
        raise FleetMistake(f"{where}: cron expressions need cronsim: pip install 'kombu-actors[cron]'") from None
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise FleetMistake(f"{where}: there is no time zone {timezone!r:.80}; one is 'Europe/Berlin'") from None
    try:
        next(CronSim(expression, datetime(2024, 1, 1, tzinfo=zone)))
    except CronSimError as error:
        text = f"{expression!r:.80} is no cron expression: {error}; one is '*/5 * * * *'"
        raise FleetMistake(f"{where}: {text}") from None
    except StopIteration:
        raise FleetMistake(f"{where}: {expression!r:.80} never comes") from None
    return Cron(expression, zone)


def is_ahead(settled: float, now: float) -> bool:
    """Whether ticks are settled up to so far in the future that the clock must have been set back."""
    return settled > now + SKEW
