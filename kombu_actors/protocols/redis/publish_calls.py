"""Publishing: messages into queues, dead letters in exchange for the dead, and what stock kombu only broadcasts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from itertools import chain
from typing import Any, Final

from ..._frozen import Record
from .calls import PRESENT, Call, Death, Items, read_deaths, read_timer
from .scripts import ALL_SCRIPTS

__all__ = ["Code", "Published", "Settings", "adopt", "bury", "publish", "settings"]

Settings = tuple[bytes, bytes, bytes]
"""``fanout_prefix fanout_patterns deadletter_queue`` as the scripts take them."""

_PUBLISH: Final = ALL_SCRIPTS["publish"]
_BURY: Final = ALL_SCRIPTS["bury"]
_ADOPT: Final = ALL_SCRIPTS["adopt"]


class Code(IntEnum):
    """What became of one message."""

    ACCEPTED = 0
    """At least one queue has it, or subscribers of a fanout exchange heard it."""
    NO_ROUTE = 1
    """No queue took it; a mandatory one goes back to its sender."""
    NO_EXCHANGE = 2
    REFUSED = 3
    """A queue is full and refuses it (``x-overflow``); other queues may have it all the same."""
    INTERNAL = 4
    """The exchange takes messages from other exchanges only."""


class Published(Record):
    """What a batch came to."""

    codes: Sequence[int]
    """``Code`` of each message, in order; of the first ones, when that was work enough for one call."""
    errors: Mapping[int, str]
    """What the server said of messages that it could not store, by their place in the batch; their code is REFUSED."""
    next_timer: float | None
    """Seconds until the server's earliest timer."""
    deaths: list[Death]
    state: bytes = b""
    """To be sent with the messages that have no code yet: what is known of the first of them."""


def settings(fanout_prefix: str, *, fanout_patterns: bool = True, deadletter_queue: str | None = None) -> Settings:
    """What the scripts must know of the options; ``fanout_prefix`` with the database's number filled in."""
    return fanout_prefix.encode(), PRESENT[fanout_patterns], (deadletter_queue or "").encode()


def publish(settings: Settings, messages: Iterable[tuple[bytes, ...]], state: bytes = b"") -> Call[Published]:
    """Publish a batch in order; each message is ``preparing.PreparedMessage.arguments``.

    One step, mostly: what the answer has no code for is to be sent again, with its ``state``.

    Refused as a whole, and with nothing done, when maxmemory is reached (error ``OOM``).
    """
    return Call(_PUBLISH, [*settings, state, *chain.from_iterable(messages)], _read_published)


def bury(death: Death, settings: Settings, message: tuple[bytes, ...], state: bytes = b"") -> Call[Published | None]:
    """Put a dead letter where it belongs and drop the claim on what died, in one step.

    ``message`` is what ``dead_letters.dead_letter_arguments`` makes.  None: that claim is gone, and nothing was done.
    Without a code it is to be called again, with the answer's ``state``.
    """
    return Call(_BURY, (b"%d" % death.claim, PRESENT[death.cut], *settings, state, *message), _read_buried)


def adopt(queue: str, delivery_tag: str, envelope: bytes, *, step: int = 0, expiration: str = "") -> Call[Published]:
    """Put what a stock publisher broadcast into the list of a durable fanout queue.

    Done once per message (``delivery_tag``, kombu's id), whoever asks; the code is NO_ROUTE for those who come later.
    """
    arguments = (queue.encode(), delivery_tag.encode(), b"%d" % step, expiration.encode(), envelope)
    return Call(_ADOPT, arguments, _read_adopted)


def _read_published(codes: list[Any], timer: int, deaths: Sequence[Items], state: bytes) -> Published:
    errors: dict[int, str] = {}
    for index, code in enumerate(codes):
        if type(code) is bytes:
            errors[index] = code.decode(errors="replace")
            codes[index] = Code.REFUSED
    return Published(codes, errors, read_timer(timer), read_deaths(deaths) if deaths else [], state)


def _read_buried(
    codes: bytes | list[int | bytes], timer: int = -1, deaths: Sequence[Items] = (), state: bytes = b""
) -> Published | None:
    return None if isinstance(codes, bytes) else _read_published(codes, timer, deaths, state)


def _read_adopted(done: int, timer: int, deaths: Sequence[Items]) -> Published:
    code = Code.ACCEPTED if done else Code.NO_ROUTE
    return Published([code], {}, read_timer(timer), read_deaths(deaths))
