"""``dlq``: the dead letters of a queue."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NotRequired, TypedDict, Unpack

import click

from .asking import Asking, asks, confirm
from .messages import number
from .options import option
from .tables import age, columns

if TYPE_CHECKING:
    from ..control.answers import DropAnswer, LettersAnswer, ReplayAnswer, ShownLetter

__all__ = ["dlq"]

where = click.option(
    "-w",
    "--where",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Only those for which this holds, and all others that are said: error=CardDeclined, age>2h, reason~declined,"
    " payload.customer=alice, header.tenant!=acme, ...",
)
limit = option("--limit", type=click.IntRange(min=1), help="So many at most, the oldest first.")
dry_run = option("--dry-run", is_flag=True, help="Only tell how many it would be.")
yes = option("--yes", is_flag=True, help="Don't ask.")


class Which(TypedDict):
    """Options that say which letters are meant, and how."""

    where: tuple[str, ...]
    limit: int | None
    rate: NotRequired[float | None]
    dry_run: bool


@click.group()
def dlq() -> None:
    """The dead letters of a queue: list them, show one, replay or drop some.

    QUEUE is the queue where the messages were handled, such as orders, not that of its dead letters.

    \b
    Fields for --where, with = != ~ (contains) !~ < <= > >= between field and value:
      id  queue  error  reason  handler  content_type
      attempts  size (bytes)  age (90, 15m, 2h, 1d: since it died)
      payload  payload.NAME.NAME  header.NAME

    The fleet that runs does it; --fleet module:attribute does it from here, without one that runs.
    """


@dlq.command("list")
@click.argument("queue")
@where
@limit
@asks
def list_letters(asking: Asking, queue: str, where: tuple[str, ...], limit: int | None) -> None:
    """List the dead letters of a QUEUE, the oldest first, 100 at most unless --limit says more."""
    found: LettersAnswer = asking.ask("dlq list", queue=queue, where=list(where), limit=limit)
    asking.show(found, lambda: table(found))


@dlq.command()
@click.argument("queue")
@click.argument("id")
@asks
def show(asking: Asking, queue: str, id: str) -> None:
    """Show a dead letter of a QUEUE by its ID: why it died, the last traceback, headers, body."""
    found: ShownLetter = asking.ask("dlq show", queue=queue, id=id)
    asking.show(found, lambda: whole(found))


@dlq.command()
@click.argument("queue")
@where
@limit
@option("--rate", type=click.FloatRange(min=0, min_open=True), help="So many a second at most.")
@dry_run
@yes
@asks
def replay(asking: Asking, queue: str, yes: bool, **which: Unpack[Which]) -> None:
    """Send dead letters of a QUEUE back to their home queues, as if they had never been tried.

    Each is published and confirmed before it is taken out: interrupted or killed, this loses nothing.
    """
    verb = "dlq replay"
    given = confirmed(asking, verb, queue, yes, which, lambda count: f"Replay {count} of queue {queue!r}")
    done: ReplayAnswer = asking.ask(verb, **given)
    asking.show(done, lambda: done["text"])


@dlq.command()
@click.argument("queue")
@where
@limit
@dry_run
@yes
@asks
def drop(asking: Asking, queue: str, yes: bool, **which: Unpack[Which]) -> None:
    """Throw dead letters of a QUEUE away, for good."""
    verb = "dlq drop"
    given = confirmed(asking, verb, queue, yes, which, lambda count: f"Drop {count} of queue {queue!r}, for good")
    done: DropAnswer = asking.ask(verb, **given)
    words = "would be dropped" if done["dry_run"] else "dropped"
    asking.show(done, lambda: f"{number(done['dropped'], 'dead letter')} of queue {queue!r} {words}")


def confirmed(
    asking: Asking, verb: str, queue: str, yes: bool, which: Which, question: Callable[[str], str]
) -> dict[str, object]:
    """Count and ask; the arguments to do it to those that were counted: what dies meanwhile is not among them."""
    arguments: dict[str, object] = {**which, "where": list(which["where"]), "queue": queue}
    if not yes and not which["dry_run"]:
        found = asking.ask(verb, **{**arguments, "rate": None, "dry_run": True})
        count = found.get("replayed", found.get("dropped"))
        confirm(question(number(count, "dead letter")))
        arguments["limit"] = count
    return arguments


def table(found: LettersAnswer) -> str:
    """A listing for people."""
    letters = found["letters"]
    if not letters:
        return f"no dead letters in queue {found['queue']!r} match"
    now = time.time()
    rows = [
        (
            letter["id"],
            "-" if letter["dead_at"] is None else age(max(now - letter["dead_at"], 0)),
            letter["attempts"],
            letter["error"],
            letter["reason"].partition("\n")[0][:80],
        )
        for letter in letters
    ]
    return columns(("id", "age", "attempts", "error", "reason"), rows)


def whole(letter: ShownLetter) -> str:
    """One letter for people."""
    now = time.time()
    told = {
        "id": letter["id"],
        "queue": letter["queue"],
        "handler": letter["handler"],
        "error": letter["error"],
        "reason": letter["reason"],
        "attempts": letter["attempts"],
    }
    lines = [f"{name:13}{value}" for name, value in told.items() if value]
    lines += [
        f"{label:13}{age(max(now - moment, 0))} ago"
        for label, moment in (("first failed", letter["first_at"]), ("died", letter["dead_at"]))
        if moment is not None
    ]
    lines += [f"{'content type':13}{letter['content_type']}", f"{'size':13}{letter['size']} bytes"]
    lines += [f"{'header':13}{name}: {value}" for name, value in letter["headers"].items()]
    blocks = ["\n".join(lines), letter["body"]]
    if letter["stack"]:
        blocks.insert(1, letter["stack"].rstrip())
    return "\n\n".join(blocks)
