"""``publish`` and ``purge``."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from .asking import Asking, asks, confirm
from .options import option

if TYPE_CHECKING:
    from ..control.answers import PublishAnswer, PurgeAnswer

__all__ = ["publish", "purge"]


@click.command()
@click.argument("queue")
@click.argument("payload")
@click.option("--text", is_flag=True, help="PAYLOAD is text, not JSON.")
@click.option("--delay", type=click.FloatRange(min=0), help="Seconds before it comes to the queue, up to 30 days.")
@click.option("--exchange", help="Another exchange than the default; QUEUE is the routing key then.")
@click.option("-H", "--header", "headers", multiple=True, metavar="NAME=VALUE", help="A header; may be repeated.")
@click.option("--message-id", help="Its id; one is made up when it isn't said.")
@click.option("--priority", type=click.IntRange(0, 255))
@click.option("--expiration", type=click.FloatRange(min=0), help="Seconds after which the broker throws it away.")
@asks
def publish(
    asking: Asking, queue: str, payload: str, text: bool, headers: tuple[str, ...], **properties: object
) -> None:
    """Publish a message with a JSON PAYLOAD to a QUEUE, and wait until the broker has confirmed it.

    PAYLOAD - is read from standard input.  The fleet that runs publishes it; --fleet module:attribute does it from
    here, without one that runs.

    \b
    kombu-actors publish orders '{"id": "1", "customer": "alice"}'
    kombu-actors publish letters --text 'Dear Alice' --delay 60
    """
    given = sys.stdin.read() if payload == "-" else payload
    body = given if text else json_of(given)
    named = dict(header(one) for one in headers)
    done: PublishAnswer = asking.ask("publish", queue=queue, body=body, headers=named or None, **properties)
    asking.show(done, lambda: done["id"])


@click.command()
@click.argument("queue")
@option("--dry-run", is_flag=True, help="Only tell how many there are.")
@option("--yes", is_flag=True, help="Don't ask.")
@asks
def purge(asking: Asking, queue: str, dry_run: bool, yes: bool) -> None:
    """Throw away, for good, the messages that wait in a QUEUE.

    Those that handlers have in hand stay, and so do those that wait for their next attempt.  --fleet module:attribute
    does it from here, without a fleet that runs.
    """
    if not dry_run and not yes:
        waiting = asking.ask("purge", queue=queue, dry_run=True)["purged"]
        confirm(f"Throw away {number(waiting, 'message')} of queue {queue!r}, for good")
    done: PurgeAnswer = asking.ask("purge", queue=queue, dry_run=dry_run)
    words = "would be thrown away" if dry_run else "thrown away"
    asking.show(done, lambda: f"{number(done['purged'], 'message')} of queue {queue!r} {words}")


def json_of(text: str) -> object:
    """The value that a JSON text is."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"PAYLOAD is no JSON ({error}); --text publishes it as text") from None


def header(text: str) -> tuple[str, str]:
    """One header of ``-H``."""
    name, found, value = text.partition("=")
    if not found or not name:
        raise click.UsageError(f"--header takes NAME=VALUE, not {text!r}")
    return name, value


def number(count: int, thing: str) -> str:
    """``1 message``, ``2 messages``."""
    return f"{count} {thing}{'s' * (count != 1)}"
