"""``run``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from ..fleet import Fleet
from ..fleet.processes import Task
from .companions import companions
from .locators import LOCATOR, FleetLocator
from .logs import LEVELS, set_up_logging
from .options import option
from .page import PageFlags
from .running import run_program
from .workers import WorkerFlags, program_of, worker_options

__all__ = ["run"]


@click.command()
@click.argument("fleet", type=FleetLocator())
@option("--url", help="Another broker than the fleet's own; several with ';' between them.")
@option("-Q", "--queues", help="Only the consumers of these queues, with ',' between them.")
@option("--drain-timeout", type=click.FloatRange(min=0), help="Seconds that handlers have to finish at the end.")
@option("--burst", is_flag=True, help="Handle what is in the queues, and end; what waits for its retry stays.")
@worker_options
@option("--certificate", type=click.Path(dir_okay=False, path_type=Path), help="Where the drain certificate goes.")
@option(
    "--http", metavar="[HOST:]PORT", help="Serve status there, or at unix:PATH; a port alone is this machine's only."
)
@option("--health-file", type=click.Path(dir_okay=False, path_type=Path), help="Is there, and fresh, while ready.")
@option("--allow-actions", is_flag=True, help="Let who knows the token pause, restart and replay from the page.")
@option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the token is, or is put when there is none; or set KOMBU_ACTORS_TOKEN.",
)
@option("--allow-host", multiple=True, metavar="NAME", help="A host name of page and status besides localhost.")
@option(
    "--control",
    metavar="PATH",
    help="Where the control socket goes (a directory will do); '' for none. Without this other verbs find it anyway.",
)
@option("-l", "--log-level", type=click.Choice(LEVELS), default="info", show_default=True)
@option("--log-json", is_flag=True, help="Logs as JSON, an object a line.")
def run(
    fleet: Fleet,
    url: str | None,
    queues: str | None,
    drain_timeout: float | None,
    burst: bool,
    certificate: Path | None,
    http: str | None,
    health_file: Path | None,
    allow_actions: bool,
    token_file: Path | None,
    allow_host: tuple[str, ...],
    control: str | None,
    log_level: str,
    log_json: bool,
    **workers: Any,
) -> None:
    """Handle a fleet's messages until TERM or INT.

    \b
    The first signal drains: no more messages are taken, handlers finish.
    The second ends it at once: handlers are cancelled, their messages go back.
    The third leaves the process.
    HUP, with --processes, replaces each worker by a new one that is READY before the old one drains.

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
    task = Task(
        fleet=click.get_current_context().meta[LOCATOR],
        url=url,
        queues=None if wanted is None else tuple(wanted),
        changes=changes,
        log_level=log_level,
        log_json=log_json,
    )
    running = program_of(chosen, task, WorkerFlags(**workers))
    page = PageFlags(fleet=chosen.name, allow_actions=allow_actions, token_file=token_file, names=allow_host)
    beside = list(companions(control=control, http=http, page=page, health_file=health_file, burst=burst))
    sys.exit(run_program(running, certificate, beside))
