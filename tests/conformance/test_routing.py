"""Where messages go."""

from __future__ import annotations

from typing import Any

import pytest

from kombu_actors.broker import Broker, ExchangeSpec
from kombu_actors.errors import PublishReturned

from .native import drained, fill, queue, ready, to_exchange, to_queue


async def test_the_default_exchange_leads_to_the_queue_of_that_name(broker: Broker) -> None:
    """Every queue, without a binding; no other gets a copy."""
    await queue(broker, "a")
    await queue(broker, "b")
    await fill(broker, "a", 1)
    assert (await ready(broker, "a"), await ready(broker, "b")) == (1, 0)


async def test_direct_compares_whole_keys(broker: Broker) -> None:
    """Each queue bound with the key gets one copy; no pattern means anything."""
    await broker.declare(ExchangeSpec(name="x", type="direct"))
    for name, key in {"a": "red", "b": "red", "c": "blue", "d": "#"}.items():
        await queue(broker, name)
        await broker.declare(to_queue(name, "x", key))
    await broker.declare(to_queue("a", "x", "blue"))
    await broker.publish("m", exchange="x", routing_key="red")
    await broker.publish("n", exchange="x", routing_key="blue")
    assert [await drained(broker, name) for name in "abcd"] == [["m", "n"], ["m"], ["n"], []]


KEYS = ("stock.us.ibm", "stock", "", ".", "a.b.c.d", "stock*", "a..d", "é.ü")
PATTERNS = (
    *("", "#", "#.#", "*", "*.*", "*.*.*", ".", "stock", "stock.#", "#.stock", "stock.*.ibm", "#.ibm"),
    *("stock.#.us.#.ibm", "#.d", "a.#.d", "a.*.*.d", "a.#.b.#", "*.#.d", "é.*", "stock.us.ibm", "#.*"),
)


def matches(pattern: list[str], words: list[str]) -> bool:
    """What the specification says of topic keys (3.1.3.3)."""
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(matches(pattern[1:], words[skipped:]) for skipped in range(len(words) + 1))
    return bool(words) and pattern[0] in ("*", words[0]) and matches(pattern[1:], words[1:])


def words(key: str) -> list[str]:
    return key.split(".") if key else []


async def test_topic_compares_word_by_word(broker: Broker) -> None:
    """``*`` is one word, ``#`` any number of them, none included; an empty key is no word."""
    await broker.declare(ExchangeSpec(name="x", type="topic"))
    for pattern in PATTERNS:
        await queue(broker, f"q:{pattern}")
        await broker.declare(to_queue(f"q:{pattern}", "x", pattern))
    for key in KEYS:
        await broker.publish(key, exchange="x", routing_key=key)
        got = [pattern for pattern in PATTERNS if await drained(broker, f"q:{pattern}")]
        assert got == [pattern for pattern in PATTERNS if matches(words(pattern), words(key))], key


async def test_fanout_asks_for_no_key(broker: Broker) -> None:
    """Every bound queue, once, however often it is bound."""
    await broker.declare(ExchangeSpec(name="x", type="fanout"))
    for name in "ab":
        await queue(broker, name)
        await broker.declare(to_queue(name, "x", "k"), to_queue(name, "x", "l"))
    await queue(broker, "c")
    await broker.publish("m", exchange="x", routing_key="anything")
    assert [await drained(broker, name) for name in "abc"] == [["m"], ["m"], []]


HEADERS: list[tuple[dict[str, Any], str]] = [
    ({"colour": "red", "size": 1}, "all any"),
    ({"colour": "red", "size": 2}, "any"),
    ({"colour": "red"}, "any"),
    ({"size": 1, "more": True}, "any exists"),
    ({"colour": "blue"}, ""),
    ({"size": "1"}, ""),
    ({}, ""),
]


async def test_headers_compares_values(broker: Broker) -> None:
    """All of them or any of them, types included; a void value asks only whether the header is there."""
    await broker.declare(ExchangeSpec(name="x", type="headers"))
    wanted = {"colour": "red", "size": 1}
    bindings: dict[str, dict[str, Any]] = {
        "all": {"x-match": "all", **wanted},
        "any": {"x-match": "any", **wanted},
        "exists": {"more": None},
    }
    for name, arguments in bindings.items():
        await queue(broker, name)
        await broker.declare(to_queue(name, "x", **arguments))
    for headers, expected in HEADERS:
        await broker.publish("m", exchange="x", headers=headers)
        got = [name for name in bindings if await drained(broker, name)]
        assert " ".join(got) == expected, headers


async def test_exchanges_lead_to_exchanges(broker: Broker) -> None:
    """Each hop applies its own rule, a queue reached twice gets one copy, and a circle ends."""
    await broker.declare(
        ExchangeSpec(name="in", type="topic"),
        ExchangeSpec(name="mid", type="fanout"),
        ExchangeSpec(name="out", type="direct"),
        to_exchange("mid", "in", "order.#"),
        to_exchange("out", "mid"),
        to_exchange("out", "in", "#"),
        to_exchange("in", "out", "order.new"),
    )
    await queue(broker, "q")
    await broker.declare(to_queue("q", "out", "order.new"), to_queue("q", "mid"))
    await broker.publish("both ways", exchange="in", routing_key="order.new")
    await broker.publish("one way", exchange="in", routing_key="order.old")
    assert await drained(broker, "q") == ["both ways", "one way"]
    await broker.unbind(to_exchange("mid", "in", "order.#"))
    await broker.publish("direct", exchange="in", routing_key="order.new")
    await broker.publish("nowhere", exchange="in", routing_key="order.old")
    assert await drained(broker, "q") == ["direct"]


async def test_an_unbound_queue_gets_nothing_more(broker: Broker) -> None:
    """Only the binding with that key and those arguments goes; unbinding twice is no error."""
    await broker.declare(ExchangeSpec(name="x"))
    await queue(broker, "q")
    await broker.declare(to_queue("q", "x", "k"), to_queue("q", "x", "l"), to_queue("q", "x", "l"))
    await broker.unbind(to_queue("q", "x", "k"))
    await broker.unbind(to_queue("q", "x", "k"))
    with pytest.raises(PublishReturned):
        await broker.publish("m", exchange="x", routing_key="k", mandatory=True)
    await broker.publish("n", exchange="x", routing_key="l", mandatory=True)
    await broker.unbind(to_queue("q", "x", "l"))
    with pytest.raises(PublishReturned):
        await broker.publish("o", exchange="x", routing_key="l", mandatory=True)
    assert await drained(broker, "q") == ["n"]


async def test_an_alternate_exchange_takes_what_is_not_routed(broker: Broker) -> None:
    """And then the message counts as routed: nothing is returned."""
    await broker.declare(
        ExchangeSpec(name="rest", type="fanout"),
        ExchangeSpec(name="x", arguments={"alternate-exchange": "rest"}),
    )
    await queue(broker, "q")
    await queue(broker, "leftovers")
    await broker.declare(to_queue("q", "x", "k"), to_queue("leftovers", "rest"))
    await broker.publish("m", exchange="x", routing_key="k", mandatory=True)
    await broker.publish("n", exchange="x", routing_key="other", mandatory=True)
    assert (await drained(broker, "q"), await drained(broker, "leftovers")) == (["m"], ["n"])


async def test_cc_and_bcc_are_more_keys(broker: Broker) -> None:
    """RabbitMQ's sender-selected distribution: receivers see CC and never BCC."""
    for name in "abc":
        await queue(broker, name)
    await broker.publish("m", routing_key="a", headers={"CC": ["b"], "BCC": ["c"]})
    seen = []
    for name in "abc":
        async with broker.subscribe(name, no_ack=True) as messages:
            message = await anext(messages)
            seen.append((message.payload, dict(message.headers), message.routing_key))
    assert seen == [("m", {"CC": ["b"]}, "a")] * 3
