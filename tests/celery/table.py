"""The table of scenarios: what each is called, what it needs, and what it does to a ground."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from .ground import PATIENCE, Ground

__all__ = ["SCENARIOS", "Scenario", "applicable", "got", "scenario"]

Story = Callable[[Ground, str], None]
"""What is done; the text is the scenario's name, for names of tasks."""


@attrs.frozen
class Scenario:
    """One row."""

    name: str
    story: Story
    pools: frozenset[str]
    """The pools that can do it; none: all."""
    brokers: frozenset[str]
    results: frozenset[str]
    lengthy: bool
    """Takes seconds: left to ``make celery``."""
    kills: bool
    """Kills the broker: needs a ground with a node of its own."""

    def fits(self, ground: Ground) -> bool:
        """Whether it can be asked of a ground."""
        return all(
            not wanted or there in wanted
            for wanted, there in (
                (self.pools, ground.pool),
                (self.brokers, ground.broker),
                (self.results, ground.results),
            )
        ) and (not self.kills or ground.node is not None)


SCENARIOS: dict[str, Scenario] = {}
"""In the order in which they run: what breaks things comes last."""


def scenario(
    *, pools: str = "", brokers: str = "", results: str = "", lengthy: bool = False, kills: bool = False
) -> Callable[[Story], Story]:
    """Put a function into the table, under its own name."""

    def enter(story: Story) -> Story:
        SCENARIOS[story.__name__] = Scenario(
            story.__name__,
            story,
            frozenset(pools.split()),
            frozenset(brokers.split()),
            frozenset(results.split()),
            lengthy,
            kills,
        )
        return story

    return enter


def applicable(ground: Ground, *, lengthy: bool, names: list[str]) -> list[Scenario]:
    """What is to run there: those named, or all; the long ones only when asked for."""
    return [
        one
        for one in SCENARIOS.values()
        if one.fits(ground) and (one.name in names if names else lengthy or not one.lengthy)
    ]


def got(result: Any, timeout: float = PATIENCE) -> Any:
    """A result's value."""
    return result.get(timeout=timeout)
