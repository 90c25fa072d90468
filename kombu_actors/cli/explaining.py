"""``explain``."""

from __future__ import annotations

import click

from .asking import Asking, asks

__all__ = ["explain"]


@click.command()
@click.argument("locator", metavar="[FLEET]", required=False)
@asks
def explain(asking: Asking, locator: str | None) -> None:
    """Say in words what becomes of a message in each case; lines with ! point at what doesn't go together.

    FLEET is module:attribute; without one, the fleet that runs explains itself.
    """
    found = (asking if locator is None else asking.of(locator)).ask("explain")
    asking.show(found, lambda: str(found["text"]))
