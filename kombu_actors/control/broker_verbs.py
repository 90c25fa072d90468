"""Verbs about what is at the broker: the running process does them for whoever asks, or a command by itself."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import trio

from ..errors import NotFound
from ..fleet import DeadLetters, Fleet, FleetError
from ..fleet.dead_letters import LIST_LIMIT, Matching
from ..fleet.documents import DepthsDocument
from ._where import condition, holds
from .answers import DropAnswer, ExplainAnswer, LettersAnswer, PublishAnswer, PurgeAnswer, ReplayAnswer, ShownLetter
from .requests import Arguments

__all__ = ["BROKER_VERBS", "BrokerVerb"]

T = TypeVar("T")
Plain = str | int | float | bool | None
BrokerVerb = Callable[[Fleet, Arguments], Awaitable[object]]

SHOWN_MAX = 64 * 1024
"""Bytes of a dead letter's body that are shown: some screens."""
PROPERTIES = ("message_id", "priority", "expiration", "correlation_id", "reply_to", "type", "app_id")
_WARNING = re.compile(r"^( *)! (.*(?:\n\1  \S.*)*)", re.MULTILINE)
WITHIN = 30.0
"""Seconds for one question to the broker, connecting included: longer than a failover takes."""


async def queues(fleet: Fleet, _: Arguments) -> DepthsDocument:
    """Count what is in them: ``FleetDepths.to_dict()``."""
    with trio.fail_after(WITHIN):
        async with fleet.depths() as depths:
            return (await depths.look()).to_dict()


async def publish(fleet: Fleet, arguments: Arguments) -> PublishAnswer:
    """Publish a message, and have it confirmed."""
    properties = {name: value for name in PROPERTIES if (value := arguments.get(name)) is not None}
    headers = arguments.get("headers")
    async with fleet.open() as client:
        id = await client.publish(
            arguments.text("queue"),
            arguments.get("body"),
            delay=arguments.number("delay"),
            exchange=arguments.get("exchange") or "",
            headers=headers if isinstance(headers, Mapping) else None,
            **properties,
        )
    return {"id": id}


async def purge(fleet: Fleet, arguments: Arguments) -> PurgeAnswer:
    """Remove a queue's ready messages, or only count them."""
    queue, dry_run = arguments.text("queue"), arguments.flag("dry_run")
    with trio.fail_after(WITHIN):
        async with fleet.open() as client:
            count = await client.purge(queue, dry_run=dry_run)
    return {"queue": queue, "purged": count, "dry_run": dry_run}


async def list_letters(fleet: Fleet, arguments: Arguments) -> LettersAnswer:
    """The oldest dead letters that match."""

    async def look(dead: DeadLetters) -> LettersAnswer:
        letters = await dead.list(arguments.count("limit") or LIST_LIMIT, **matching(arguments))
        return {"queue": dead.name, "letters": [letter.to_dict() for letter in letters]}

    return await with_letters(fleet, arguments, look)


async def show_letter(fleet: Fleet, arguments: Arguments) -> ShownLetter:
    """One dead letter, with its body, headers and stack."""
    id = arguments.text("id")

    async def look(dead: DeadLetters) -> ShownLetter:
        letter = await dead.show(id)
        if letter is None:
            raise FleetError(f"queue {dead.name!r} has no dead letter {id!r}")
        body = letter.body[:SHOWN_MAX].decode(errors="replace")
        headers = {name: shown(value) for name, value in letter.headers.items()}
        return {**letter.to_dict(), "body": body, "headers": headers}

    return await with_letters(fleet, arguments, look)


async def replay_letters(fleet: Fleet, arguments: Arguments) -> ReplayAnswer:
    """Send those that match home."""

    async def replay(dead: DeadLetters) -> ReplayAnswer:
        done = await dead.replay(
            limit=arguments.count("limit", least=0),
            rate=arguments.number("rate"),
            dry_run=arguments.flag("dry_run"),
            **matching(arguments),
        )
        return {
            "queue": dead.name,
            "replayed": done.replayed,
            "homeless": dict(done.homeless),
            "looked_at": done.looked_at,
            "left": done.left,
            "dry_run": done.dry_run,
            "text": str(done),
        }

    return await with_letters(fleet, arguments, replay)


async def drop_letters(fleet: Fleet, arguments: Arguments) -> DropAnswer:
    """Throw those that match away."""

    async def drop(dead: DeadLetters) -> DropAnswer:
        dry_run = arguments.flag("dry_run")
        count = await dead.drop(limit=arguments.count("limit", least=0), dry_run=dry_run, **matching(arguments))
        return {"queue": dead.name, "dropped": count, "dry_run": dry_run}

    return await with_letters(fleet, arguments, drop)


async def explain(fleet: Fleet, _: Arguments) -> ExplainAnswer:
    """``Fleet.explain``, and apart the lines that warn."""
    text = fleet.explain()
    return {"fleet": fleet.name, "text": text, "warnings": warnings(text)}


BROKER_VERBS: Mapping[str, BrokerVerb] = {
    "queues": queues,
    "publish": publish,
    "purge": purge,
    "dlq list": list_letters,
    "dlq show": show_letter,
    "dlq replay": replay_letters,
    "dlq drop": drop_letters,
    "explain": explain,
}


async def with_letters(fleet: Fleet, arguments: Arguments, act: Callable[[DeadLetters], Awaitable[T]]) -> T:
    """Connect to the dead letters of the queue that is asked for."""
    queue = arguments.text("queue")
    async with fleet.dead_letters(queue) as dead:
        try:
            return await act(dead)
        except NotFound:
            raise FleetError(
                f"there is no queue {dead.name!r}, where the dead letters of {queue!r} would be: is that the queue's"
                " name, and has a fleet that consumes it run there?"
            ) from None


def matching(arguments: Arguments) -> Matching:
    """The criteria of a request."""
    conditions = [condition(text) for text in arguments.texts("where")]
    if not conditions:
        return {}
    return {"where": lambda letter: holds(conditions, letter, time.time())}


def shown(value: object) -> Plain:
    """A header's value as JSON has it."""
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def warnings(text: str) -> list[str]:
    """The lines of an explanation that begin with ``!``, each in one."""
    return [" ".join(found.split()) for _, found in _WARNING.findall(text)]
