"""Where a message goes: each exchange type against what the specification says."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kombu_actors._values.model import BindingKind, BindingSpec
from kombu_actors.protocols.virtual import VirtualBroker
from kombu_actors.protocols.virtual._routing import TopicTable, headers_agree

from .client import connect

WORDS = st.sampled_from(["a", "b", "", "*", "#"])
PATTERN = st.lists(WORDS, max_size=6).map(".".join)
KEY = st.lists(st.sampled_from(["a", "b", "", "c"]), max_size=7).map(".".join)


def binding(pattern: str, queue: str = "q") -> BindingSpec:
    return BindingSpec(kind=BindingKind.QUEUE, source="x", destination=queue, routing_key=pattern)


def words_match(pattern: list[str], words: list[str]) -> bool:
    """The definition, word for word; exponential."""
    if not pattern:
        return not words
    if pattern[0] == "#":
        return words_match(pattern[1:], words) or (bool(words) and words_match(pattern, words[1:]))
    return bool(words) and pattern[0] in ("*", words[0]) and words_match(pattern[1:], words[1:])


def split(key: str) -> list[str]:
    return key.split(".") if key else []


@given(st.sets(PATTERN, max_size=8), KEY)
def test_topic_patterns_match_as_defined(patterns: set[str], key: str) -> None:
    """A table of many patterns finds exactly those that match one by one."""
    table = TopicTable()
    for pattern in patterns:
        table.add(binding(pattern, pattern))
    expected = {pattern for pattern in patterns if words_match(split(pattern), split(key))}
    assert {name for _kind, name in table.match(key, {})} == expected


@given(st.lists(PATTERN, max_size=8, unique=True), st.data())
def test_unbinding_a_topic_leaves_the_others(patterns: list[str], data: st.DataObject) -> None:
    """Removing some patterns is the same as never having bound them, down to the last node."""
    table, fresh = TopicTable(), TopicTable()
    for pattern in patterns:
        table.add(binding(pattern, pattern))
    kept = data.draw(st.sets(st.sampled_from(patterns))) if patterns else set()
    for pattern in patterns:
        if pattern in kept:
            fresh.add(binding(pattern, pattern))
        else:
            table.discard(binding(pattern, pattern))
    key = data.draw(KEY)
    assert set(table.match(key, {})) == set(fresh.match(key, {}))
    if not kept:
        assert table == TopicTable() or not table._root.children


def test_hostile_patterns_cost_linear_time() -> None:
    """127 times ``#`` against a long key: the naive matcher would outlive the sun."""
    table = TopicTable()
    table.add(binding(".".join(["#"] * 127) + ".x"))
    table.add(binding(".".join(["#", "a"] * 63), "r"))
    began = time.perf_counter()
    assert list(table.match(".".join(["a"] * 127), {})) == [("queue", "r")]
    assert time.perf_counter() - began < 1.0


@pytest.mark.parametrize(
    ("arguments", "headers", "agree"),
    [
        ({"x-match": "all", "a": 1, "b": 2}, {"a": 1, "b": 2, "c": 3}, True),
        ({"x-match": "all", "a": 1, "b": 2}, {"a": 1}, False),
        ({"x-match": "any", "a": 1, "b": 2}, {"b": 2}, True),
        ({"x-match": "any", "a": 1}, {}, False),
        ({"x-match": "any"}, {"a": 1}, False),
        ({}, {"a": 1}, True),
        ({"a": None}, {"a": "anything"}, True),
        ({"a": None}, {}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 1}, {"a": "1"}, False),
        ({"x-match": "all", "x-a": 1}, {}, True),
        ({"x-match": "all-with-x", "x-a": 1}, {}, False),
        ({"x-match": "any", "x-a": 1}, {"x-a": 1}, False),
        ({"x-match": "any-with-x", "x-a": 1}, {"x-a": 1}, True),
    ],
)
def test_headers_agree(arguments: dict[str, object], headers: dict[str, object], agree: bool) -> None:
    """``x-match`` decides between all and any, and whether ``x-`` headers take part."""
    assert headers_agree(arguments, headers) is agree


def test_a_queue_bound_twice_gets_a_message_once_and_stays_bound_until_the_last_binding_goes() -> None:
    """Bindings with other arguments are other bindings, in every type."""
    for kind in ("direct", "fanout", "topic", "headers"):
        client = connect(VirtualBroker())
        client.queue("q")
        client.exchange("x", kind)
        first, second = client.bind("x", "q", "k"), client.bind("x", "q", "k", z=None)
        client.bind("x", "q", "k")
        client.publish("k", b"1", "x", headers={"z": 1})
        client.channel.queue_unbind(first)
        client.publish("k", b"2", "x", headers={"z": 1})
        client.channel.queue_unbind(second)
        client.publish("k", b"3", "x", headers={"z": 1})
        assert client.drain("q") == [b"1", b"2"], kind


def test_remembered_routes_follow_every_change() -> None:
    """A way once taken is not taken again after a bind, unbind, declaration or deletion."""
    client = connect(VirtualBroker())
    client.exchange("x", "topic")
    client.queue("q")
    client.publish("k", b"1", "x")
    client.publish("r", b"1")
    bound = client.bind("x", "q", "#")
    client.publish("k", b"2", "x")
    client.channel.queue_unbind(bound)
    client.publish("k", b"3", "x")
    client.queue("r")
    client.publish("r", b"4")
    client.channel.queue_delete("r")
    client.publish("r", b"5")
    client.queue("r")
    assert client.drain("q") == [b"2"]
    assert client.drain("r") == []
    assert client.broker.memory == 0  # a message in a queue that is gone would be here for ever


def test_a_long_chain_of_auto_delete_exchanges_falls_at_once() -> None:
    """Two thousand exchanges, each holding the next: no recursion limit in sight."""
    client = connect(VirtualBroker())
    client.queue("q")
    chain = [f"x{number}" for number in range(2000)]
    for name in chain:
        client.exchange(name, "fanout", auto_delete=True)
    for source, target in pairwise(chain):
        client.channel.exchange_bind(BindingSpec(kind=BindingKind.EXCHANGE, source=source, destination=target))
    client.bind(chain[-1], "q")
    client.publish("k", b"through", chain[0])
    assert client.drain("q") == [b"through"]
    client.channel.queue_delete("q")
    assert not any(name.startswith("x") for name in client.broker.topology.exchanges)
