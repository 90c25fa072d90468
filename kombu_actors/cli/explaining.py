"""``explain``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .asking import Asking, asks

if TYPE_CHECKING:
    from ..control.answers import ExplainAnswer

__all__ = ["explain"]


@click.command()
@click.argument("locator", metavar="[FLEET]", required=False)
@asks
def explain(asking: Asking, locator: str | None) -> None:
    """Say in words what becomes of a message in each case; lines with ! point at what doesn't go together.

    FLEET is module:attribute; without one, the fleet that runs explains itself.
    """
    found: ExplainAnswer = (asking if locator is None else asking.of(locator)).ask("explain")
    asking.show(found, lambda: found["text"])
