"""Of an exchange with many bindings those of a key are found in an index, which agrees with the table at any time."""

from __future__ import annotations

import random

import pytest
import redis

from kombu_actors.protocols.redis.bindings import key_to_pattern
from kombu_actors.protocols.redis.consuming_calls import beat
from kombu_actors.protocols.redis.publish_calls import Code, publish

from .driver import FAR, Driver

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
    while driver.run(beat(FAR / 1000, 60, renew=False)).next_timer == 0:
        pass
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
    codes: list[int] = []
    state, calls = b"", 0
    while len(codes) < len(messages):
        call = publish(driver.settings, [message.arguments for message in messages[len(codes) :]], state)
        answer = driver.run(call)
        codes += answer.codes
        state = answer.state
        calls += 1
    assert calls > 4
    assert codes == [Code.ACCEPTED, Code.NO_ROUTE, Code.ACCEPTED]
    for number in range(0, 2500, 100):
        assert driver.bodies(f"to {number}") == [b"0", b"2"]
    assert len(driver.client.keys("to *")) == 2500
    assert driver.client.keys(driver.key("parcel*")) == []


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
