"""Owning and consuming: leases, subscriptions, claims on messages and their settlement.

Channels are named by a text without slashes and spaces; one that consumes in two ways (with and without
acknowledgements) uses two names.  A channel claims for all queues it consumes from at once, under the same
name, and is then in the line of each (``Line``) or of none of those that it asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from itertools import starmap
from typing import Any, Final, NoReturn

from amqp.exceptions import AMQPError

from ..._frozen import Record
from ...utils.json import loads
from ..virtual._errors import Named, access_refused, named_method, not_found, resource_locked
from .calls import PRESENT, Call, Death, Items, read_deaths, read_timer
from .scripts import ALL_SCRIPTS

__all__ = [
    "Beaten",
    "Claimed",
    "Got",
    "Left",
    "Line",
    "Owner",
    "Released",
    "Settled",
    "Subscribed",
    "Topic",
    "beat",
    "cancel",
    "claim",
    "consume",
    "get",
    "hello",
    "leave",
    "quarantine",
    "read_topics",
    "release",
    "settle",
    "unload",
]

HOST: Final = "0"
_CONSUME: Final = (60, 20)
_GET: Final = (60, 70)


class Line(IntEnum):
    """Where a claim left its channel."""

    AWAY = 0
    """In no line: it got all it had room for, or more than it wanted at once.  Claim again when there is room."""
    SENTRY = 1
    """Waiting, and the first to hear of arrivals in some queues: have the lists of ``Claimed.sentry_for`` watched."""
    WAITING = 2
    """Waiting to be woken."""


class Owner(Record):
    """One who holds a lease."""

    owner: str
    client: int
    """CLIENT ID of its connection for commands."""
    run: str
    """``run_id`` of the server that gave this id."""
    silent: float
    """Seconds since it renewed its lease."""


class Beaten(Record):
    """What a beat did for others."""

    deaths: list[Death]
    next_timer: float | None
    """Seconds until the server's earliest timer."""
    owners: list[Owner]
    """All others, if it's the caller's turn to see whether they are still connected."""


class Left(Record):
    """What a channel had claimed when it closed."""

    returned: int
    deaths: list[Death]
    done: bool
    """False: that was a step; call it again."""


class Released(Record):
    """What an owner had claimed when it ended."""

    returned: int
    done: bool
    """False: that was a step; call it again."""


class Topic(Record):
    """A fanout binding of a queue: what its consumers subscribe to."""

    exchange: str
    key: str
    durable: bool
    """The queue's list gets these messages too; what stock publishers only broadcast is to be adopted."""


class Subscribed(Record):
    """A queue that is consumed from."""

    declaration: Mapping[str, object]
    """As it was declared; empty for a queue that only stock kombu knows."""
    topics: list[Topic]


class Claimed(Record):
    """What a claim brought."""

    line: Line
    messages: list[tuple[int, int, bytes]]
    """Which of the queues asked for, from 1; number of the claim (0 when nothing is to be settled); envelope."""
    deaths: list[Death]
    next_timer: float | None
    sentry_for: Sequence[int]
    """Which of the queues, from 1, have lists to be watched."""
    unreadable: Sequence[int]
    """Which of the queues, from 1, can't be waited for now: a key of their names holds something else."""


class Got(Record):
    """What a poll of a queue brought."""

    claim: int
    """0 when there is nothing to settle."""
    raw: bytes | None
    """None: the queue was empty."""
    remaining: int
    deaths: list[Death]
    more: bool = False
    """What was polled died, and that was enough for one call: poll again."""


class Settled(Record):
    """What a batch of settlements came to."""

    stale: Sequence[int]
    """Claims that were gone: their messages are somebody else's by now, or will be."""
    deaths: list[Death]
    done: bool
    """False: not all that was requeued is back yet; go on with ``unload``."""
    unreached: Sequence[int] = ()
    """Discards that are to be sent again: it was work enough for one call."""


# leases; times in seconds


def hello(client: int, run: str, lease: float, predecessor: str = "") -> Call[float | None]:
    """Register the caller for ``lease`` seconds, and release the predecessor; returns seconds until the next timer.

    Raises 403, naming the commands, if the scripts may not use all that they need.
    """

    def parse(_word: bytes, said: int | list[bytes]) -> float | None:
        if isinstance(said, list):
            commands = [command.decode() for command in said]
            raise access_refused(
                f"Redis lets our scripts not use {', '.join(map(str.upper, commands))}: its ACL must allow"
                f" {' '.join('+' + command for command in commands)}, and no rename-command may hide them"
            )
        return read_timer(said)

    arguments = (b"%d" % client, run.encode(), _milliseconds(lease), predecessor.encode())
    return Call(ALL_SCRIPTS["hello"], arguments, parse)


def beat(lease: float, visibility_timeout: float, *, renew: bool, queues: Iterable[str] = ()) -> Call[Beaten]:
    """Renew the lease, and do what is due on the server.

    ``renew`` also keeps stock kombus from restoring the caller's claims, and restores theirs, from ``queues`` (those
    that the caller consumes from), that are older than the longest ``visibility_timeout`` of any owner: to be set
    several times in that time.
    """
    names = [queue.encode() for queue in queues]
    arguments = (_milliseconds(lease), _milliseconds(visibility_timeout), PRESENT[renew], *names)
    return Call(_BEAT, arguments, _read_beaten)


def release(owner: str) -> Call[Released]:
    """End an owner that is known to be dead, or the caller itself.

    Done once or more often, it's the same.
    """
    return Call(ALL_SCRIPTS["release"], (owner.encode(),), lambda returned, done: Released(returned, bool(done)))


def leave(channel: str) -> Call[Left]:
    """End what one channel of the caller holds: claims, subscriptions, its places in line."""

    return Call(ALL_SCRIPTS["leave"], (channel.encode(),), _read_left)


# subscriptions


def consume(
    channel: str, tag: str, queue: str, *, sep: str, exclusive: bool = False, virtual_host: str = HOST
) -> Call[Subscribed]:
    """Subscribe to a queue; raises 404, 405 for somebody else's exclusive queue, 403 for an exclusive consumer."""

    def parse(word: bytes, declaration: bytes = b"", topics: Sequence[bytes] = ()) -> Subscribed:
        if word != b"ok":
            _refuse(_CONSUME, word, Named("queue", queue, virtual_host))
        return Subscribed(loads(declaration[1:]) if declaration else {}, read_topics(topics, sep))

    arguments = (channel.encode(), tag.encode(), queue.encode(), PRESENT[exclusive])
    return Call(ALL_SCRIPTS["consume"], arguments, parse)


def cancel(channel: str, tag: str, queue: str) -> Call[None]:
    """End a subscription; what it has unacknowledged stays so."""
    return Call(ALL_SCRIPTS["cancel"], (channel.encode(), tag.encode(), queue.encode()), lambda *_: None)


# messages


def claim(
    channel: str,
    queues: Sequence[bytes],
    count: int,
    *,
    limit: int,
    no_ack: bool = False,
    share: bool = False,
) -> Call[Claimed]:
    """Take up to ``count`` messages, fewer once they exceed ``limit`` bytes, or get in line for more.

    ``queues`` are those of the channel where there may be something, in the order they are to be served; with
    ``share`` each gets an equal part of ``count`` first.  ``count`` 0 leaves their lines, where others may wait.
    """
    arguments = (
        channel.encode(),
        b"%d" % count,
        b"%d" % limit,
        PRESENT[no_ack],
        PRESENT[share],
        b"%d" % len(queues),
        *queues,
    )
    return Call(_CLAIM, arguments, _read_claimed)


def get(channel: str, queue: str, *, no_ack: bool = False, virtual_host: str = HOST) -> Call[Got]:
    """Poll a queue; raises 404, 405 for somebody else's exclusive queue."""

    def parse(word: bytes, *said: object) -> Got:
        match said:
            case (int(claim), bytes(raw), int(remaining), list(deaths)):
                return Got(claim, raw, remaining, read_deaths(deaths))
            case (list(deaths),):
                return Got(0, None, 0, read_deaths(deaths), more=word == b"more")
        _refuse(_GET, word, Named("queue", queue, virtual_host))

    return Call(ALL_SCRIPTS["get"], (channel.encode(), queue.encode(), PRESENT[no_ack]), parse)


def settle(acked: Sequence[int] = (), requeued: Sequence[int] = (), discarded: Sequence[int] = ()) -> Call[Settled]:
    """Settle claims by their numbers, each once: done with, back to the heads of their queues, or dead."""
    arguments: list[bytes] = []
    for claims in (acked, requeued, discarded):
        arguments.append(b"%d" % len(claims))
        arguments += [b"%d" % claim for claim in claims]
    return Call(_SETTLE, arguments, _read_settled)


def unload() -> Call[Settled]:
    """Go on with what ``settle`` left to do."""
    return Call(ALL_SCRIPTS["unload"], (), _read_unloaded)


def quarantine(claim: int) -> Call[bool]:
    """Put a claimed message that can't be decoded aside; False if the claim was gone."""
    return Call(ALL_SCRIPTS["quarantine"], (b"%d" % claim,), bool)


# replies

_BEAT: Final = ALL_SCRIPTS["beat"]
_CLAIM: Final = ALL_SCRIPTS["claim"]
_SETTLE: Final = ALL_SCRIPTS["settle"]
_LINES: Final = tuple(Line)


def _milliseconds(seconds: float) -> bytes:
    return b"%d" % (seconds * 1000)


def _read_beaten(deaths: Sequence[Items], timer: int, owners: Sequence[Items]) -> Beaten:
    return Beaten(read_deaths(deaths), read_timer(timer), list(starmap(_owner, owners)))


def _owner(owner: bytes, client: bytes, run: bytes, silent: int) -> Owner:
    return Owner(owner.decode(), int(client or 0), run.decode(), silent / 1000)


def _read_left(returned: int, deaths: Sequence[Items], done: int) -> Left:
    return Left(returned, read_deaths(deaths), bool(done))


def _read_claimed(
    line: int, flat: list[Any], deaths: Sequence[Items], timer: int, sentries: Sequence[int], unreadable: Sequence[int]
) -> Claimed:
    each = iter(flat)
    messages = list(zip(each, each, each, strict=True))
    dead = read_deaths(deaths) if deaths else []
    return Claimed(_LINES[line], messages, dead, read_timer(timer), sentries, unreadable)


def _read_settled(stale: Sequence[int], deaths: Sequence[Items], done: int, unreached: Sequence[int]) -> Settled:
    return Settled(stale, read_deaths(deaths) if deaths else [], bool(done), unreached)


def _read_unloaded(deaths: Sequence[Items], done: int) -> Settled:
    return Settled((), read_deaths(deaths), bool(done))


def read_topics(entries: Iterable[bytes], sep: str) -> list[Topic]:
    """The fanout bindings of a queue, as its set of them has them."""
    topics = []
    for entry in entries:
        exchange, _, key = entry[1:].decode().partition(sep)
        topics.append(Topic(exchange, key, entry[:1] == b"d"))
    return topics


def _refuse(method: tuple[int, int], word: bytes, what: Named) -> NoReturn:
    raise named_method(_REFUSALS[word](what), *method)


_REFUSALS: Final[Mapping[bytes, Callable[[Named], AMQPError]]] = {
    b"missing": not_found,
    b"locked": resource_locked,
    b"refused": lambda what: access_refused(f"{what} in exclusive use"),
}
