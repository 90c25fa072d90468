"""Of a headers exchange's many bindings those that a message may agree with are in an index, and looked at in steps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kombu_actors.protocols.redis.consuming_calls import beat
from kombu_actors.protocols.redis.preparing import PreparedMessage
from kombu_actors.protocols.redis.publish_calls import Code
from kombu_actors.protocols.virtual._routing import headers_agree

from .driver import FAR, Driver, headers_member, to_exchange, to_queue
from .test_routing import HEADERS, MATCH

MANY = 250
"""Bindings: an index is made of more than 200."""
VERY_MANY = 3000
"""What no call looks through."""
CROWD: Final[list[dict[str, Any]]] = [
    *({"a": 1, "b": number} for number in range(100)),
    *({"a": 1, "b": number, "x-match": "any"} for number in range(100)),
    *({"x-c": number % 3, "a": None, "x-match": "all-with-x"} for number in range(MANY - 200)),
]
"""With some texts of the index dozens of bindings begin, more than one look takes."""
ANY_A: Final[dict[str, Any]] = {"a": 1, "x-match": "any"}
ARGUMENTS = st.builds(lambda match, headers: {**match, **headers}, MATCH, HEADERS)


def crowd(driver: Driver, bindings: Sequence[Mapping[str, Any]], queue: str = "to {}") -> None:
    """Bind a queue by each, past the scripts: as processes did that knew of no index."""
    members = [headers_member(queue.format(number), arguments) for number, arguments in enumerate(bindings)]
    driver.client.hset(driver.key("bindings.e"), mapping=dict.fromkeys(members, ""))
    driver.client.sadd(driver.key("bindings_permanent.e"), *members)


def message(driver: Driver, headers: Mapping[str, Any], body: bytes = b"") -> PreparedMessage:
    prepared: PreparedMessage = driver.message("", body, "e", headers=headers)
    return prepared


def publish(driver: Driver, headers: Mapping[str, Any]) -> Code:
    """However many calls it takes."""
    return Code(driver.publish_in_steps(message(driver, headers))[-1].codes[-1])


def reached(driver: Driver) -> list[str]:
    """The queues that have something, as often as they have it; empties them."""
    queues = driver.client.keys("to *")
    found = [key.decode() for key in queues for _ in range(driver.client.llen(key))]
    if queues:
        driver.client.delete(*queues)
    return sorted(found)


def entries(driver: Driver) -> int:
    count: int = driver.client.zcard(driver.key("index.e"))
    return count


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    early=st.lists(ARGUMENTS, max_size=6),
    late=st.lists(ARGUMENTS, max_size=6),
    undone=st.sets(st.integers(0, 11)),
    sent=st.lists(HEADERS, min_size=1, max_size=6),
)
def test_the_index_finds_whom_comparing_all_finds(
    driver: Driver, early: list[Any], late: list[Any], undone: set[int], sent: list[Any]
) -> None:
    """Bound before and after the index was made, and some unbound: each queue gets what agrees with it, once."""
    for key in driver.client.scan_iter():
        if key != driver.key("owners").encode():
            driver.client.delete(key)
    driver.exchange("e", "headers")
    crowd(driver, CROWD)
    bindings = [to_queue("e", f"to q{number}", **arguments) for number, arguments in enumerate([*early, *late])]
    for number, binding in enumerate(bindings):
        if number == len(early):
            publish(driver, {})
            reached(driver)
            assert entries(driver) >= MANY
        driver.queue(binding.destination)
        driver.bind_as(binding)
    for number in undone & set(range(len(bindings))):
        driver.unbind(bindings[number])
    bound: dict[str, Mapping[str, Any]] = {f"to {number}": arguments for number, arguments in enumerate(CROWD)}
    bound |= {item.destination: item.arguments for n, item in enumerate(bindings) if n not in undone}
    for headers in sent:
        code = publish(driver, headers)
        agreed = sorted(queue for queue, arguments in bound.items() if headers_agree(arguments, headers))
        assert reached(driver) == agreed, headers
        assert code is (Code.ACCEPTED if agreed else Code.NO_ROUTE)


def test_values_that_are_alike_in_the_index_are_told_apart(driver: Driver) -> None:
    """It knows the beginning of a value only, and nothing of what is inside a table."""
    driver.exchange("e", "headers")
    values: list[Any] = ["1", 1, True, "true", "x" * 200, "x" * 201, {"n": 1}, {"n": 2}, [1], "", "{}", "a\0b", "a", 0]
    crowd(driver, [{"v": value} for value in values] + [{"w": number} for number in range(MANY)])
    for number, value in enumerate(values):
        publish(driver, {"v": value})
        assert reached(driver) == [f"to {number}"], value
    publish(driver, {"v": -0.0})
    assert reached(driver) == [f"to {values.index(0)}"]
    for value in (float("nan"), float("inf"), 2**63 - 1, "unasked"):
        assert publish(driver, {"v": value}) is Code.NO_ROUTE


def test_a_binding_is_where_fewest_others_are(driver: Driver) -> None:
    """What it asks for is common to all here, but for one part; so a message is compared with one of them."""
    driver.exchange("e", "headers")
    crowd(driver, [{"all": 1, "own": number, "too": None} for number in range(MANY)])
    assert publish(driver, {"own": 7, "all": 1, "too": 5}) is Code.ACCEPTED
    assert reached(driver) == ["to 7"]
    index = driver.key("index.e")
    assert driver.client.zlexcount(index, '[["all"', '(["all"\xff') <= 1
    assert driver.client.zlexcount(index, '[["own"', '(["own"\xff') >= MANY - 2


@pytest.mark.parametrize("match", ["all", "any"])
def test_no_call_looks_through_very_many(driver: Driver, match: str) -> None:
    """A queue gets one copy, by however many headers; an exchange among them is followed, and those behind it wait."""
    driver.exchange("e", "headers")
    driver.exchange("d", "direct")
    driver.queue("to d")
    driver.bind("d", "to d", "")
    crowd(driver, [{"a": 1, "b": 2, "x-match": match}] * VERY_MANY)
    driver.bind_as(to_exchange("e", "d", a=1, b=2, **{"x-match": match}))
    publish(driver, {})  # makes the index
    answers = driver.publish_in_steps(message(driver, {"a": 1, "b": 2, "c": 3}), message(driver, {}))
    assert len(answers) > VERY_MANY / 300
    assert max(len(answer.state) for answer in answers) < 1000
    assert [code for answer in answers for code in answer.codes] == [Code.ACCEPTED, Code.NO_ROUTE]
    assert reached(driver) == sorted([*(f"to {number}" for number in range(VERY_MANY)), "to d"])
    assert driver.client.keys(driver.key("parcel*")) == []


def test_the_alternate_exchange_gets_what_none_of_very_many_agree_with(driver: Driver) -> None:
    """It takes several calls to know; one that agreed in the first of them counts in the last."""
    driver.exchange("f", "fanout")
    driver.queue("to others")
    driver.bind("f", "to others", durable=True)
    driver.exchange("e", "headers", arguments={"alternate-exchange": "f"})
    crowd(driver, [{"a": 1, "b": None} for _ in range(VERY_MANY)])
    publish(driver, {})
    reached(driver)
    calls = len(driver.publish_in_steps(message(driver, {"a": 1})))
    assert calls > 3
    assert reached(driver) == ["to others"]
    driver.queue("to one")
    driver.bind_as(to_queue("e", "to one", **ANY_A))
    assert len(driver.publish_in_steps(message(driver, {"a": 1}))) >= calls
    assert reached(driver) == ["to one"]


def test_a_dead_letter_is_looked_for_in_steps_too(driver: Driver) -> None:
    """Its claim goes when all queues have it."""
    driver.exchange("e", "headers")
    crowd(driver, [{"a": 1}] * VERY_MANY)
    driver.queue("q", {"x-dead-letter-exchange": "e", "x-message-ttl": 1})
    driver.publish_all(driver.message("q", b"m", headers={"a": 1}))
    while not (deaths := driver.run(beat(FAR / 1000, 60, renew=False)).deaths):
        pass
    letter = message(driver, {"a": 1}).arguments
    calls = driver.bury_in_steps(deaths[0], letter)
    assert calls > 3
    assert len(reached(driver)) == VERY_MANY
    assert not driver.client.exists("unacked")


def test_processes_that_know_of_no_index_are_heeded(driver: Driver) -> None:
    """They bind in the hash alone; so it's no longer as large as the index says."""
    driver.exchange("e", "headers")
    crowd(driver, [{"w": number} for number in range(MANY)])
    publish(driver, {"w": 7})
    reached(driver)
    crowd(driver, [{"v": 1}], "to older")
    assert publish(driver, {"v": 1}) is Code.ACCEPTED
    assert reached(driver) == ["to older"]


@pytest.mark.parametrize("lost", ["index.e", "indexes", "bindings.e"])
def test_what_is_lost_is_made_anew(driver: Driver, lost: str) -> None:
    """Evicted, or deleted by somebody."""
    driver.exchange("e", "headers")
    crowd(driver, [{"w": number} for number in range(MANY)])
    publish(driver, {"w": 7})
    driver.client.delete(driver.key(lost))
    publish(driver, {"w": 7})
    assert reached(driver) == ["to 7", "to 7"]
    driver.queue("to new")
    driver.bind("e", "to new", w=7)
    publish(driver, {"w": 7})
    assert reached(driver) == ["to 7", "to new"]


def test_a_table_that_is_lost_is_filled_in_steps(driver: Driver) -> None:
    """Nobody goes by half of it, whoever fills it; who binds and unbinds meanwhile, or before, is heeded."""
    driver.exchange("e", "headers")
    crowd(driver, [{"w": number} for number in range(VERY_MANY)])
    hash_, kept = driver.key("bindings.e"), driver.key("bindings_permanent.e")
    driver.client.delete(hash_)
    driver.queue("to new")
    undone = driver.bind("e", "to new", w=8)
    driver.bind("e", "to new", w=7)
    assert driver.publish_all(message(driver, {"w": 7})).codes == []
    assert 0 < driver.client.hlen(hash_) < VERY_MANY
    driver.unbind(undone)
    answers = driver.another().publish_in_steps(message(driver, {"w": 7}), message(driver, {"w": VERY_MANY - 1}))
    assert len(answers) > 2
    assert reached(driver) == [f"to {VERY_MANY - 1}", "to 7", "to new"]
    assert set(driver.client.hkeys(hash_)) == driver.client.smembers(kept)
    publish(driver, {"w": 8})
    assert reached(driver) == ["to 8"]
    assert not driver.client.exists(driver.key("refilling"))
    driver.client.delete(hash_)
    driver.publish_all(message(driver, {"w": 7}))
    driver.delete_exchange("e")
    assert not driver.client.exists(driver.key("refilling"))


def test_what_never_agrees_needs_no_second_index(driver: Driver) -> None:
    """A binding that asks for any of nothing."""
    driver.exchange("e", "headers")
    crowd(driver, [{"x-match": "any"}] * VERY_MANY)
    answers = driver.publish_in_steps(message(driver, {"a": 1}))
    assert answers[-1].codes == [Code.NO_ROUTE]
    assert len(driver.publish_in_steps(message(driver, {"a": 1}))) == 1


def test_bindings_take_their_entries_along(driver: Driver) -> None:
    """One that is unbound, those of a queue that is deleted, and the exchange with all."""
    driver.exchange("e", "headers")
    for queue in ("to ours", "to others"):
        driver.queue(queue)
    kept = [driver.bind("e", "to ours", n=number, all=1) for number in range(MANY)]
    for number in range(20):
        driver.bind_as(to_queue("e", "to others", b=number, **ANY_A))
    publish(driver, {"n": 7})
    assert entries(driver) == MANY + 40
    driver.unbind(kept[0])
    assert entries(driver) == MANY + 39
    driver.delete_queue("to others")
    driver.finish_work()
    assert entries(driver) == MANY - 1
    assert int(driver.client.hget(driver.key("indexes"), "e")) == MANY - 1
    driver.delete_queue("to ours")
    driver.delete_exchange("e")
    driver.finish_work()
    driver.client.delete(driver.key("beaten"), driver.key("watch"))
    assert driver.leftovers() == set()


def test_a_call_compares_no_more_of_few_bindings_than_a_step(driver: Driver) -> None:
    """All of them are looked at for each message; those behind it are left for the next call."""
    driver.exchange("e", "headers")
    crowd(driver, [{"k": number} for number in range(200)])
    answer = driver.publish_all(*(message(driver, {"k": 7}) for _ in range(50)))
    assert 0 < len(answer.codes) < 10
    assert set(answer.codes) == {Code.ACCEPTED}
    assert entries(driver) == 0


def test_the_headers_of_a_large_message_are_found_without_its_body(driver: Driver) -> None:
    """Whatever is written in it."""
    driver.exchange("e", "headers")
    crowd(driver, [{"w": number} for number in range(MANY)])
    body = json.dumps({"headers": {"w": 1}}).encode() * 40_000
    driver.publish_in_steps(message(driver, {"w": 7}, body))
    assert reached(driver) == ["to 7"]
