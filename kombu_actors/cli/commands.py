"""The verbs of ``kombu-actors``."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import click

from .. import __version__
from ..fleet import Fleet, FleetMistake
from .locating import WrongLocator, locate
from .logs import LEVELS, set_up_logging
from .running import run_fleet

__all__ = ["program"]

PREFIX = "KOMBU_ACTORS"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kombu-actors")
def program() -> None:
    """Run fleets of supervised consumers.

    A FLEET is named as module:attribute, such as shop:fleet, looked for in the present directory first.

    Each option may be given as an environment variable, too: --drain-timeout as KOMBU_ACTORS_DRAIN_TIMEOUT.
    """


class Variable(click.Option):
    """An option with its twin in the environment, named after the flag alone."""

    def __init__(self, declarations: list[str], **attributes: object) -> None:
        flag = next(part for part in declarations if part.startswith("--")).split("/")[0]
        name = flag.removeprefix("--").replace("-", "_").upper()
        given = {"envvar": f"{PREFIX}_{name}", "show_envvar": True, **attributes}
        super().__init__(declarations, **given)  # type: ignore[arg-type]  # click types each by itself


option = partial(click.option, cls=Variable)


class FleetLocator(click.ParamType[Fleet]):
    """``module:attribute``."""

    name = "fleet"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Fleet:
        if isinstance(value, Fleet):
            return value
        try:
            return locate(str(value))
        except WrongLocator as error:
            self.fail(str(error), param, ctx)


@program.command()
@click.argument("fleet", type=FleetLocator())
@option("--url", help="Another broker than the fleet's own; several with ';' between them.")
@option("-Q", "--queues", help="Only the consumers of these queues, with ',' between them.")
@option("--drain-timeout", type=click.FloatRange(min=0), help="Seconds that handlers have to finish at the end.")
@option("--certificate", type=click.Path(dir_okay=False, path_type=Path), help="Where the drain certificate goes.")
@option("-l", "--log-level", type=click.Choice(LEVELS), default="info", show_default=True)
@option("--log-json", is_flag=True, help="Logs as JSON, an object a line.")
def run(
    fleet: Fleet,
    url: str | None,
    queues: str | None,
    drain_timeout: float | None,
    certificate: Path | None,
    log_level: str,
    log_json: bool,
) -> None:
    """Handle a fleet's messages until TERM or INT.

    \b
    The first signal drains: no more messages are taken, handlers finish.
    The second ends it at once: handlers are cancelled, their messages go back.
    The third leaves the process.

    \b
    Exit codes:
      0   drained
      1   cold: handlers were cancelled
      2   wrong usage, or an import failed
      3   no broker at the start (later it is waited for)
      70  supervision gave up
    """
    set_up_logging(log_level, as_json=log_json)
    changes: dict[str, float] = {} if drain_timeout is None else {"drain_timeout": drain_timeout}
    wanted = None if queues is None else [name.strip() for name in queues.split(",")]
    try:
        chosen = fleet.on(url, queues=wanted, **changes)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    sys.exit(run_fleet(chosen, certificate))


@program.command()
@click.argument("fleet", type=FleetLocator())
def explain(fleet: Fleet) -> None:
    """Say in words what becomes of a message in each case; lines with ! point at what doesn't go together."""
    try:
        click.echo(fleet.explain())
    except FleetMistake as error:
        raise click.UsageError(str(error)) from None
