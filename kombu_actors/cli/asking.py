"""What verbs that ask a fleet have in common: how they find it, what they print, and their exit codes."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import click

from ..control.client import AmbiguousFleet, Control, NobodyAnswers, Refused, find
from ..control.wire import TIMEOUT
from .exits import FAILED, NOBODY, USAGE
from .failing import Failed
from .options import option

__all__ = ["Asking", "asks", "confirm"]


class Asking:
    """The fleet that a verb is about: one that runs, or one that is named by its place in a program."""

    def __init__(
        self, fleet: str | None, control: str | None, timeout: float, as_json: bool, locator: str | None = None
    ) -> None:
        self.as_json = as_json
        self._fleet = fleet
        self._control = control
        self._timeout = timeout
        self._locator = fleet if locator is None and fleet is not None and ":" in fleet else locator
        """The fleet's place in a program; None: it is one that runs."""

    def of(self, locator: str) -> Asking:
        """The same of a fleet by its place in a program."""
        return Asking(None, None, self._timeout, self.as_json, locator)

    def ask(self, verb: str, **arguments: object) -> Any:
        """The answer.  Raises ``Failed``; of a fleet that is a locator, the verb is done by this process."""
        given = {name: value for name, value in arguments.items() if value is not None}
        if self._locator is not None:
            from .here import do_here  # the runtime, and the program's own modules: only for who asks so

            return do_here(verb, given, self._locator)
        with self.connected() as control:
            return control.ask(verb, **given)

    def follow(self, verb: str, **arguments: object) -> Generator[Any, None, None]:
        """What the fleet tells, until it ends; None for a beat.  Raises ``Failed``."""
        with self.connected() as control:
            yield from control.follow(verb, **arguments)

    @contextmanager
    def connected(self) -> Iterator[Control]:
        """A connection to the fleet; what goes wrong is ``Failed``."""
        if self._locator is not None:
            raise click.UsageError(f"this verb asks a fleet that runs: by its name, not by {self._locator!r}")
        try:
            path = find(fleet=self._fleet, control=self._control)
            with Control(path, timeout=self._timeout) as control:
                yield control
        except NobodyAnswers as error:
            raise Failed(str(error), NOBODY) from None
        except AmbiguousFleet as error:
            raise Failed(str(error), USAGE) from None
        except Refused as error:
            raise Failed(str(error), error.exit) from None

    def show(self, value: object, text: Callable[[], str]) -> None:
        """Print an answer: as JSON where that was asked for, else as ``text()``."""
        click.echo(json.dumps(value, ensure_ascii=False, indent=2) if self.as_json else text())


def asks(function: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the options to find its fleet, and an ``Asking`` as its first argument."""

    @functools.wraps(function)
    def verb(fleet: str | None, control: str | None, timeout: float, as_json: bool, **arguments: object) -> None:
        function(Asking(fleet, control, timeout, as_json), **arguments)

    for decorate in (
        option("-j", "--json", "as_json", is_flag=True, help="The answer as JSON."),
        option(
            "--timeout",
            type=click.FloatRange(min=0, min_open=True),
            default=TIMEOUT,
            show_default=True,
            help="Seconds of silence after which nobody answers.",
        ),
        option("--control", metavar="PATH", help="The control socket of the fleet that is meant, or its directory."),
        option("-f", "--fleet", metavar="NAME", help="The name of the fleet that is meant, when several run here."),
    ):
        verb = decorate(verb)
    return verb


def confirm(what: str) -> None:
    """Ask before something that can't be undone; where nobody can be asked, refuse."""
    if not sys.stdin.isatty():
        raise click.UsageError(f"{what}: say --yes, for there is no terminal to ask at (--dry-run only tells)")
    if not click.confirm(f"{what}?", err=True):
        raise Failed("nothing was done", FAILED)
