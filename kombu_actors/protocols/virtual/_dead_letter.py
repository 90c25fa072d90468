"""What becomes of a message that a queue gives up.

The headers are RabbitMQ's: ``x-death`` counts per queue and reason, newest first, and the
``x-first-death-*`` trio stays as first written.
"""

from __future__ import annotations

from datetime import datetime

from ._message import Message, new_message


def dead_letter(
    message: Message,
    *,
    queue: str,
    reason: str,
    exchange: str,
    routing_key: str | None,
    at: datetime,
) -> Message:
    """Write the message that goes to the dead letter ``exchange``, having died of ``reason``:
    ``rejected``, ``expired``, ``maxlen`` or ``delivery_limit``.

    Its own expiration is taken off, or it would expire again where it is kept to be looked at.
    Without a ``routing_key`` of the queue's it keeps its own keys, those in ``CC`` included.
    """
    properties = dict(message.properties)
    headers = dict(message.headers)
    death = {
        "count": 1,
        "reason": reason,
        "queue": queue,
        "time": at,
        "exchange": message.exchange,
        "routing-keys": [message.routing_key, *(key for key in message.extra_keys if key in headers.get("CC", ()))],
    }
    expiration = properties.pop("expiration", None)
    if expiration is not None:
        death["original-expiration"] = expiration
    headers["x-death"] = _with_death(headers.get("x-death"), death)
    headers.setdefault("x-first-death-exchange", message.exchange)
    headers.setdefault("x-first-death-queue", queue)
    headers.setdefault("x-first-death-reason", reason)
    if routing_key is not None:
        headers.pop("CC", None)
    properties["headers"] = headers
    return new_message(exchange, message.routing_key if routing_key is None else routing_key, properties, message.body)


def _with_death(recorded: object, death: dict[str, object]) -> list[object]:
    deaths = recorded if isinstance(recorded, list) else []
    others = []
    for earlier in deaths:
        if not isinstance(earlier, dict) or any(earlier.get(key) != death[key] for key in ("queue", "reason")):
            others.append(earlier)
        else:
            count = earlier.get("count")
            death = {**earlier, "count": count + 1 if isinstance(count, int) else 1}
    return [death, *others]


def closes_cycle(letter: Message, queue: str) -> bool:
    """Whether delivering to ``queue`` would go round for ever.

    It would when the message died in that queue before and was never rejected since: only a
    consumer's rejection shows that somebody takes part in the circle.  The latest death comes first.
    """
    since = []
    for death in letter.headers["x-death"]:
        since.append(death)
        if isinstance(death, dict) and death.get("queue") == queue:
            return all(isinstance(item, dict) and item.get("reason") != "rejected" for item in since)
    return False
