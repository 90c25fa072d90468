"""Dead letters: what is published in place of a message that died in a queue."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from ..virtual import new_message
from ..virtual._dead_letter import closes_cycle, dead_letter
from .calls import Death
from .envelope import body_encoding_of, decode, encode
from .layout import Layout
from .preparing import message_arguments

__all__ = ["dead_letter_arguments"]


def dead_letter_arguments(
    death: Death, *, layout: Layout, new_tag: Callable[[], str], now: float, body_encoding: str | None = "base64"
) -> tuple[bytes, ...]:
    """Write the dead letter of ``death`` as ``publish_calls.bury`` takes it; ``now`` is in seconds since 1970.

    Queues that it would go round through for ever are among those that must not get it.  It has a delivery
    tag of its own: stock kombu keeps what is unacknowledged by that name.  The letter of a message that is ``cut``
    has no body yet, and names the encoding of the one it will get.

    Raises:
        UndecodableEnvelope: what died is no message of kombu's; there is nothing to write.
    """
    found = decode(death.raw, queue=death.queue)
    headers = found.properties["headers"]
    if headers.get("redelivered") is True:  # stock kombu's mark on what it gave back; the letter is new
        del headers["redelivered"]
    letter = dead_letter(
        new_message(found.exchange, found.routing_key, found.properties, found.body),
        queue=death.queue,
        reason=death.reason,
        exchange=death.exchange,
        routing_key=death.routing_key,
        at=datetime.fromtimestamp(int(now), UTC).replace(tzinfo=None),
    )
    envelope = encode(
        None if death.cut else letter.body,
        letter.properties,
        letter.exchange,
        letter.routing_key,
        new_tag(),
        body_encoding=body_encoding_of(death.raw) if death.cut else body_encoding,
    )
    return message_arguments(
        letter.exchange,
        (letter.routing_key, *letter.extra_keys),
        envelope,
        step=layout.step(letter.properties.get("priority")),
        never_to=tuple(queue for queue in _queues(letter.headers["x-death"]) if closes_cycle(letter, queue)),
    )


def _queues(deaths: list[object]) -> list[str]:
    named = (death.get("queue") for death in deaths if isinstance(death, dict))
    return list(dict.fromkeys(queue for queue in named if isinstance(queue, str)))
