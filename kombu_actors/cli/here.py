"""Doing a verb about messages in this process, for a fleet that is named by its place in a program."""

from __future__ import annotations

from collections.abc import Mapping

import click
import trio

from ..control.broker_verbs import BROKER_VERBS
from ..control.requests import Arguments, refusal
from .failing import Failed
from .locating import WrongLocator, locate

__all__ = ["do_here"]


def do_here(verb: str, arguments: Mapping[str, object], locator: str) -> object:
    """What the running fleet would answer; raises ``click.UsageError``, ``Failed``."""
    act = BROKER_VERBS.get(verb)
    if act is None:
        raise click.UsageError(f"this verb asks a fleet that runs: by its name, not by {locator!r}")
    try:
        fleet = locate(locator)
    except WrongLocator as error:
        raise click.UsageError(str(error)) from None
    try:
        return trio.run(act, fleet, Arguments(arguments))
    except Exception as error:
        said = refusal(error)
        raise Failed(said["error"], said["exit"]) from None
