"""A fleet as an argument of a verb."""

from __future__ import annotations

import click

from ..fleet import Fleet
from .locating import WrongLocator, locate

__all__ = ["LOCATOR", "FleetLocator"]


LOCATOR = f"{__name__}.locator"
"""Under that name ``click.Context.meta`` has the argument as it was given: what worker processes are told."""


class FleetLocator(click.ParamType[Fleet]):
    """``module:attribute``; a mistake in it, or in the module, is a line and exit code 2."""

    name = "fleet"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Fleet:
        if isinstance(value, Fleet):
            return value
        try:
            found = locate(str(value))
        except WrongLocator as error:
            self.fail(str(error), param, ctx)
        if ctx is not None:
            ctx.meta[LOCATOR] = str(value)
        return found
