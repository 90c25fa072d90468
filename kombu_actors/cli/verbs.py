"""``kombu-actors`` and its verbs, each imported when it is asked for: a probe doesn't pay for what runs fleets."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from .. import __version__
from .exits import INTERRUPTED, USAGE
from .failing import Failed

__all__ = ["program"]

VERBS = {
    "run": ("commands:run", "Handle a fleet's messages until TERM or INT."),
    "explain": ("explaining:explain", "Say what becomes of a message in each case."),
    "status": ("seeing:status", "How a fleet is: READY or why not, processes, messages."),
    "top": ("top:top", "Watch a fleet as it goes."),
    "health": ("seeing:health", "Whether a fleet is READY, for probes."),
    "inspect": ("inspecting:inspect", "Look closely: tree, queues, consumers, budgets."),
    "events": ("seeing:events", "Follow what happens."),
    "pause": ("steering:pause", "Take no more messages of a queue."),
    "resume": ("steering:resume", "Go on with a queue."),
    "restart": ("steering:restart", "Restart an actor of the tree."),
    "reload": ("steering:reload", "Replace the processes, one after the other."),
    "stop": ("steering:stop", "Have a fleet end in order."),
    "publish": ("messages:publish", "Publish a message to a queue."),
    "purge": ("messages:purge", "Throw away what waits in a queue."),
    "dlq": ("dead_letters:dlq", "List, show, replay or drop dead letters."),
    "doctor": ("doctor:doctor", "Find out why a broker can't be used."),
}
"""Where each verb is, and what it does, in the order of the help."""


class Verbs(click.Group):
    """A group that imports a command when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All verbs."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One verb; None when there is none of that name."""
        if cmd_name not in VERBS:
            return None
        module, _, name = VERBS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(f".{module}", __package__), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs, without importing them."""
        with formatter.section("Verbs"):
            formatter.write_dl([(name, words) for name, (_, words) in VERBS.items()])

    # It is called in one way, by ``cli.main`` and by click's own runner for tests.
    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> Any:  # type: ignore[override]
        """Run a verb, and leave with its exit code; a mistake is one line."""
        extra["standalone_mode"] = False
        try:
            sys.exit(super().main(args, prog_name, **extra) or 0)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(USAGE)
        except click.UsageError as error:
            where = f"; {error.ctx.command_path} --help tells more" if error.ctx is not None else ""
            _end(f"{error.format_message().rstrip('.')}{where}", error.exit_code)
        except click.ClickException as error:
            _end(error.format_message(), error.code if isinstance(error, Failed) else error.exit_code)
        except click.Abort:
            sys.exit(INTERRUPTED)


def _end(text: str, code: int) -> NoReturn:
    click.echo(f"Error: {' '.join(text.split())}", err=True)
    sys.exit(code)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="kombu-actors")
def program() -> None:
    """Run fleets of supervised consumers, see how they are, and steer them.

    `run` and `explain` take a FLEET as module:attribute, such as shop:fleet, looked for in the present directory first.

    The other verbs ask a fleet that runs, over its control socket: the only one of this user on this machine, or the
    one that --fleet NAME or --control PATH says.  Those about messages (publish, purge, dlq, inspect queues) can do
    without one: --fleet module:attribute has them done from here.

    Each option may be given as an environment variable, too: --drain-timeout as KOMBU_ACTORS_DRAIN_TIMEOUT.

    \b
    Exit codes:
      0   done; of health: READY
      1   refused, or failed; of health: not READY
      2   wrong usage
      3   no broker
      69  nobody answers

    \b
    Completion of verbs and options in bash (or zsh, fish):
      eval "$(_KOMBU_ACTORS_COMPLETE=bash_source kombu-actors)"
    """
