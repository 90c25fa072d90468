"""Dead letters say what RabbitMQ's say, in an envelope that stock kombu reads."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from kombu_actors.protocols.redis.calls import Death
from kombu_actors.protocols.redis.dead_letters import dead_letter_arguments
from kombu_actors.protocols.redis.envelope import Envelope, UndecodableEnvelope, decode, encode
from kombu_actors.protocols.redis.layout import Layout

from .stock import TAG, StockChannel

NOW = 1767322800.75
MOMENT = datetime.datetime(2026, 1, 2, 3, 0)


def buried(raw: bytes, **fields: Any) -> tuple[tuple[bytes, ...], Envelope]:
    """The arguments in front of the envelope, and the envelope."""
    values = {"queue": "work", "reason": "rejected", "exchange": "dlx", "routing_key": None, **fields}
    death = Death(claim=1, raw=raw, **values)
    *arguments, envelope = dead_letter_arguments(death, layout=Layout(), new_tag=lambda: TAG, now=NOW)
    return tuple(arguments), decode(envelope)


def message(headers: dict[str, Any] | None = None, **properties: Any) -> bytes:
    raw = encode(b"body", {"headers": headers or {}, **properties}, "ex", "key", "old-tag")
    return raw[:-1] + b',"kombu_actors":[3,1700000000000]}'


def test_a_dead_letter_tells_of_the_death() -> None:
    """RabbitMQ's headers, the time as py-amqp gives it: naive UTC, whole seconds."""
    arguments, letter = buried(message(priority=9, reply_to="r", content_type="text/plain"))
    assert arguments == (b"dlx", b"0", b"9", b"", b"1", b"key", b"0")
    assert letter.body == b"body"
    assert (letter.exchange, letter.routing_key, letter.delivery_tag) == ("dlx", "key", TAG)
    assert (letter.redelivered, letter.count, letter.expires) == (False, 0, 0)
    assert letter.properties == {
        "priority": 9,
        "reply_to": "r",
        "content_type": "text/plain",
        "headers": {
            "x-death": [
                {
                    "count": 1,
                    "reason": "rejected",
                    "queue": "work",
                    "time": MOMENT,
                    "exchange": "ex",
                    "routing-keys": ["key"],
                }
            ],
            "x-first-death-exchange": "ex",
            "x-first-death-queue": "work",
            "x-first-death-reason": "rejected",
        },
    }


def test_an_expired_message_does_not_expire_again() -> None:
    """Its own time to live is only remembered."""
    arguments, letter = buried(message(expiration="60"), reason="expired")
    assert arguments[3] == b""
    assert "expiration" not in letter.properties
    assert letter.properties["headers"]["x-death"][0]["original-expiration"] == "60"


def test_the_queues_key_replaces_the_messages() -> None:
    """Without one it keeps its own, those of CC included."""
    headers = {"CC": ["copy"]}
    assert buried(message(headers))[0][4:7] == (b"2", b"key", b"copy")
    arguments, letter = buried(message(headers), routing_key="dead")
    assert arguments[4:6] == (b"1", b"dead")
    assert "CC" not in letter.properties["headers"]


def test_deaths_are_counted_over_stock_kombus_hands() -> None:
    """The letter is read by us or by kombu, rejected, and dies again: one entry per queue and reason."""
    first = dead_letter_arguments(
        Death(1, "work", "rejected", "dlx", "work", message()), layout=Layout(), new_tag=lambda: TAG, now=NOW
    )[-1]
    assert StockChannel().read(first).headers["x-death"][0]["time"] == MOMENT
    _, letter = buried(first)
    (death,) = letter.properties["headers"]["x-death"]
    assert (death["count"], death["time"]) == (2, MOMENT)


def test_a_circle_that_nobody_takes_part_in_ends() -> None:
    """Expired from a to b to a: not to a again, unless a consumer rejected it in between."""
    there = message()
    first, _ = buried(there, queue="a", reason="expired", exchange="")
    # The default exchange: the key names the queue.
    assert first[-2:] == (b"1", b"a")
    raw = dead_letter_arguments(
        Death(1, "a", "expired", "", "b", there), layout=Layout(), new_tag=lambda: TAG, now=NOW
    )[-1]
    second, _ = buried(raw, queue="b", reason="expired", exchange="", routing_key="a")
    assert second[-3:] == (b"2", b"b", b"a")
    rejected, _ = buried(raw, queue="b", reason="rejected", exchange="", routing_key="a")
    assert rejected[-1:] == (b"0",)


@pytest.mark.parametrize("recorded", ["text", 7, [7, "x", {"queue": 7}, {"count": "a", "queue": "work"}]])
def test_forged_headers_do_no_harm(recorded: Any) -> None:
    """Anybody may send an ``x-death``."""
    _, letter = buried(message({"x-death": recorded}))
    assert letter.properties["headers"]["x-death"][0]["queue"] == "work"


def test_kombus_mark_on_what_it_gave_back_stays_behind() -> None:
    """A letter is a new message."""
    _, letter = buried(message({"redelivered": True}))
    assert not letter.redelivered


def test_what_cannot_be_read_cannot_be_buried() -> None:
    """The caller puts it aside."""
    with pytest.raises(UndecodableEnvelope):
        buried(b"garbage")
