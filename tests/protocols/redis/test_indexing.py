"""Of an exchange with many bindings those of a key are found in an index, which agrees with the table at any time."""

from __future__ import annotations

import json
import random

import pytest
import redis

from kombu_actors.protocols.redis.bindings import key_to_pattern
from kombu_actors.protocols.redis.preparing import message_arguments
from kombu_actors.protocols.redis.publish_calls import Code, publish

from .driver import Driver

SEP = "\x06\x16"
MANY = 400
"""Bindings: an index is made of more than 200."""


@pytest.fixture
def driver(client: redis.Redis) -> Driver:
    return Driver(client)


def bind_as_stock(driver: Driver, exchange: str, queue: str, key: str, *, topic: bool = False) -> str:
    member = SEP.join((key, key_to_pattern(key) if topic else "", queue))
    driver.client.sadd(f"_kombu.binding.{exchange}", member)
    return member


def agrees(pattern: list[str], words: list[str]) -> bool:
    """AMQP's rule, spelled out."""
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(agrees(pattern[1:], words[taken:]) for taken in range(len(words) + 1))
    return bool(words) and pattern[0] in ("*", words[0]) and agrees(pattern[1:], words[1:])


def topic_matches(pattern: str, key: str) -> bool:
    return agrees(pattern.split(".") if pattern else [], key.split(".") if key else [])


def reached(driver: Driver) -> set[str]:
    """The queues that have something; empties them."""
    queues = {key.decode() for key in driver.client.keys("to *")}
    if queues:
        driver.client.delete(*queues)
    return queues


WORDS = ["a", "b", "c", "", "*", "#", "ab"]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("declared", [True, False])
def test_topics_reach_by_index_whom_they_match(driver: Driver, seed: int, declared: bool) -> None:
    """Random patterns, wildcards in any place; declared by us, or known to stock kombu only."""
    dice = random.Random(seed)
    patterns = {".".join(dice.choices(WORDS, k=dice.randint(1, 4))) for _ in range(900)}
    assert len(patterns) > MANY
    if declared:
        driver.exchange("t", "topic")
    for pattern in patterns:
        bind_as_stock(driver, "t", f"to {pattern}", pattern, topic=True)
    for _ in range(40):
        key = ".".join(dice.choices(["a", "b", "c", "", "ab", "d"], k=dice.randint(1, 5)))
        driver.publish(key, exchange="t")
        expected = {f"to {pattern}" for pattern in patterns if topic_matches(pattern, key)}
        assert reached(driver) == expected, key
    assert driver.client.exists(driver.key("index.t")) == 1


@pytest.mark.parametrize("kind", ["direct", "topic"])
def test_who_binds_and_unbinds_is_served_at_once(driver: Driver, kind: str) -> None:
    """Whether stock kombu or we do it, beside the index; also one binding in place of another."""
    driver.exchange("e", kind)
    topic = kind == "topic"
    members = [bind_as_stock(driver, "e", f"to {number}", f"key.{number}", topic=topic) for number in range(MANY)]
    assert driver.publish("key.7", exchange="e") is Code.ACCEPTED
    assert reached(driver) == {"to 7"}
    driver.client.srem("_kombu.binding.e", members[7])
    assert driver.publish("key.7", exchange="e") is Code.NO_ROUTE
    bind_as_stock(driver, "e", "to new", "key.7", topic=topic)
    assert driver.publish("key.7", exchange="e") is Code.ACCEPTED
    assert reached(driver) == {"to new"}
    driver.queue("to ours")
    binding = driver.bind("e", "to ours", "key.8")
    driver.publish("key.8", exchange="e")
    assert reached(driver) == {"to 8", "to ours"}
    driver.unbind(binding)
    driver.publish("key.8", exchange="e")
    assert reached(driver) == {"to 8"}
    if kind == "direct":
        driver.client.srem("_kombu.binding.e", members[9])
        bind_as_stock(driver, "e", "to swapped", "another key")
        driver.publish("another key", exchange="e")
        assert reached(driver) == {"to swapped"}


def test_an_exchange_that_is_deleted_takes_its_index_along(driver: Driver) -> None:
    """And one with its name begins anew."""
    driver.exchange("e")
    driver.queue("to q")
    for number in range(MANY):
        driver.bind("e", "to q", f"key.{number}")
    driver.publish("key.3", exchange="e")
    driver.delete_exchange("e")
    driver.exchange("e")
    assert driver.publish("key.3", exchange="e") is Code.NO_ROUTE
    driver.delete_queue("to q")
    driver.delete_exchange("e")
    driver.finish_work()
    driver.client.delete(driver.key("beaten"), driver.key("watch"))
    assert driver.leftovers() == set()


def test_a_message_for_many_queues_reaches_all_of_them_once(driver: Driver) -> None:
    """In as many steps as it takes, between which the server serves others; those behind it follow."""
    driver.exchange("e")
    with driver.client.pipeline(transaction=False) as pipe:
        for number in range(2500):
            pipe.sadd("_kombu.binding.e", SEP.join(("key", "", f"to {number}")))
        pipe.execute()
    messages = [driver.message(key, str(place).encode(), "e") for place, key in enumerate(("key", "none", "key"))]
    answers = driver.publish_in_steps(*messages)
    assert len(answers) > 4
    assert [code for answer in answers for code in answer.codes] == [Code.ACCEPTED, Code.NO_ROUTE, Code.ACCEPTED]
    for number in range(0, 2500, 100):
        assert driver.bodies(f"to {number}") == [b"0", b"2"]
    assert len(driver.client.keys("to *")) == 2500
    assert driver.client.keys(driver.key("parcel*")) == []


def bind_very_many(driver: Driver, kind: str, count: int) -> None:
    """The queues ``to 0``, ``to 1``, ... to the exchange ``e``, those of a topic exchange by three bindings each."""
    if kind == "fanout":
        members = [json.dumps(["queue", f"to {n}", "", "{}"], separators=(",", ":")) for n in range(count)]
        driver.client.hset(driver.key("bindings.e"), mapping=dict.fromkeys(members, ""))
        driver.exchange("f", "direct")
        driver.queue("to f")
        driver.bind("f", "to f", "key")
        driver.bind_exchange("e", "f")
        return
    keys = ["key"] if kind == "direct" else ["key", "*", "#"]
    for key in keys:
        pattern = "" if kind == "direct" else key_to_pattern(key)
        driver.client.sadd("_kombu.binding.e", *(SEP.join((key, pattern, f"to {n}")) for n in range(count)))
    for n in range(MANY):  # which go elsewhere
        bind_as_stock(driver, "e", "from here", f"other.{n}", topic=kind != "direct")


@pytest.mark.parametrize("kind", ["direct", "topic", "stock", "fanout"])
def test_very_many_destinations_are_looked_for_in_steps(driver: Driver, kind: str) -> None:
    """However many bindings agree with a key, no call reads them all; a queue gets one copy, by however many."""
    if kind != "stock":
        driver.exchange("e", kind)
    bind_very_many(driver, kind, 3000)
    message = message_arguments("e", ("key",), b'{"body": "0"}', step=0, never_to=("to 7",))
    found: list[int] = []
    codes: list[int] = []
    state = b""
    while not codes:
        answer = driver.run(publish(driver.settings, [message], state))
        codes, state = list(answer.codes), answer.state
        found += [driver.client.scard(key) for key in driver.client.keys(driver.key("parcel*"))]
    assert codes == [Code.ACCEPTED]
    assert found[0] <= 1000
    assert {driver.client.llen(key) for key in driver.client.keys("to *")} == {1}
    expected = {f"to {n}" for n in range(3000)} - {"to 7"}
    assert reached(driver) == (expected | {"to f"} if kind == "fanout" else expected)


def test_of_a_fanout_exchange_with_many_queues_none_is_read(driver: Driver) -> None:
    """They listen to its topic, and one message is published on that."""
    driver.exchange("e", "fanout")
    driver.client.sadd("_kombu.binding.e", *(SEP.join(("", "", f"to {n}")) for n in range(MANY)))
    assert driver.publish("", exchange="e") is Code.ACCEPTED
    assert reached(driver) == set()


def test_bindings_that_stock_kombu_exchanged_count_soon(driver: Driver) -> None:
    """One made and one removed between two publishes: nothing shows that, and they are compared in a moment."""
    driver.exchange("e", "topic")
    members = [bind_as_stock(driver, "e", f"to {n}", f"key.{n}", topic=True) for n in range(MANY)]
    driver.publish("key.7", exchange="e")
    driver.client.srem("_kombu.binding.e", members[9])
    bind_as_stock(driver, "e", "to too", "key.#", topic=True)
    while "to too" not in reached(driver):
        driver.publish("key.7", exchange="e")
    driver.publish("key.9", exchange="e")
    assert reached(driver) == {"to too"}
