"""A message that comes to very many exchanges walks its way in steps, and arrives where a short one would."""

from __future__ import annotations

from itertools import pairwise

import pytest
import redis

from kombu_actors.protocols.redis.publish_calls import Code, publish

from .driver import Driver, to_exchange

SEP = "\x06\x16"
MANY = 1500
"""What no call goes through."""
NAMES = [f"x{number}" for number in range(MANY)]


@pytest.fixture
def driver(client: redis.Redis) -> Driver:
    return Driver(client)


def declare(driver: Driver, kind: str = "direct") -> None:
    """The exchange ``e``, and many, each with a queue; past the scripts."""
    with driver.client.pipeline(transaction=False) as pipe:
        pipe.hset(driver.key("exchanges"), mapping=dict.fromkeys(["e", *NAMES], f'{{"type":"{kind}"}}'))
        for name in NAMES:
            pipe.sadd(f"_kombu.binding.{name}", SEP.join(("key", "", f"to {name}")))
        pipe.execute()


def lead(driver: Driver, *ways: tuple[str, str], key: str = "key") -> None:
    """Bind exchanges to exchanges, past the scripts."""
    with driver.client.pipeline(transaction=False) as pipe:
        for source, destination in ways:
            member = f'["exchange","{destination}","{key}","{{}}"]'
            pipe.hset(driver.key(f"bindings.{source}"), member, "")
            pipe.sadd(driver.key(f"bindings_permanent.{source}"), member)
        pipe.execute()


def reached(driver: Driver) -> list[str]:
    """The queues that have something, as often as they have it; empties them."""
    queues = driver.client.keys("to *")
    found = [key.decode() for key in queues for _ in range(driver.client.llen(key))]
    if queues:
        driver.client.delete(*queues)
    return sorted(found)


def nothing_is_left(driver: Driver) -> bool:
    return not any(driver.client.keys(driver.key(f"{what}*")) for what in ("parcel", "way", "told"))


WAYS = {
    "fan": [("e", name) for name in NAMES],
    "chain": [*pairwise(["e", *NAMES])],
    "tree": [("e", NAMES[0]), *((NAMES[(number - 1) // 5], NAMES[number]) for number in range(1, MANY))],
    "circle": [*pairwise(["e", *NAMES, "e"])],
}


@pytest.mark.parametrize("way", WAYS)
def test_no_call_follows_very_many_exchanges(driver: Driver, way: str) -> None:
    """Each gets it once, and those behind it wait; the state that goes to and fro stays small."""
    declare(driver)
    lead(driver, *WAYS[way])
    message = driver.message("key", b"1", "e")
    first = driver.run(publish(driver.settings, [message.arguments]))
    assert first.codes == []
    assert len(driver.client.keys("to *")) + driver.client.scard(driver.key(f"parcel.{driver.owner}:")) < 500
    answers = driver.publish_in_steps(message, driver.message("none", b"2", "e"), driver.message("key", b"3", "e"))
    assert len(answers) > MANY / 300
    assert max(len(answer.state) for answer in answers) < 1000
    assert [code for answer in answers for code in answer.codes] == [Code.ACCEPTED, Code.NO_ROUTE, Code.ACCEPTED]
    for name in NAMES[::100]:
        assert driver.bodies(f"to {name}") == [b"1", b"3"]
    assert reached(driver) == sorted(2 * [f"to {name}" for name in NAMES])
    assert nothing_is_left(driver)


@pytest.mark.parametrize("kind", ["direct", "topic"])
def test_few_of_very_many_bindings_to_exchanges_are_found(driver: Driver, kind: str) -> None:
    """Whatever is in the key; to the alternate exchange goes what none agrees with."""
    declare(driver)
    driver.client.hset(driver.key("exchanges"), "e", f'{{"type":"{kind}","arguments":{{"alternate-exchange":"x7"}}}}')
    keys = (
        ["a.*", "#.b", "a.b", "a", "key"] if kind == "topic" else ['say "a"', "a*b", "[x]", "back\\slash", "a/b", "key"]
    )
    for number, name in enumerate(NAMES):
        lead(driver, ("e", name), key=f"other.{number}")
    for number, key in enumerate(keys):
        driver.bind_as(to_exchange("e", f"x{number}", key))
        driver.queue(f"to {number}")
        for sent in ("a.b", key):
            driver.bind(f"x{number}", f"to {number}", sent)
    if kind == "direct":
        for number, key in enumerate(keys[:-1]):
            driver.publish_in_steps(driver.message(key, b"", "e"))
            assert reached(driver) == [f"to {number}"]
    else:
        driver.publish_in_steps(driver.message("a.b", b"", "e"))
        assert reached(driver) == ["to 0", "to 1", "to 2"]
    driver.queue("to others")
    driver.bind("x7", "to others", "nobody's")
    driver.publish_in_steps(driver.message("nobody's", b"", "e"))
    assert reached(driver) == ["to others"]
    assert nothing_is_left(driver)


def test_who_listens_to_very_many_exchanges_hears_each_once(driver: Driver) -> None:
    """By however many keys a message comes there; a queue of what is no fanout exchange gets it if nobody does."""
    declare(driver, "fanout")
    lead(driver, *WAYS["fan"])
    lead(driver, ("x1", "stock"))
    driver.client.sadd("_kombu.binding.stock", SEP.join(("key", "", "to stock")))
    with driver.client.pubsub() as ear:
        ear.psubscribe("/0.x*")
        ear.get_message(timeout=10)
        message = driver.message("key", b"", "e", headers={"CC": ["other"]})
        answers = driver.publish_in_steps(message)
        heard = []
        while said := ear.get_message(timeout=1):
            heard.append(said["channel"].decode())
    assert len(answers) > MANY / 300
    assert answers[-1].codes == [Code.ACCEPTED]
    assert sorted(heard) == sorted(f"/0.{name}/{key}" for name in NAMES for key in ("key", "other"))
    assert reached(driver) == ["to stock"]
    assert nothing_is_left(driver)


def test_a_large_message_is_told_to_one_exchange_after_the_other(driver: Driver) -> None:
    """A step is bounded by bytes as well."""
    declare(driver, "fanout")
    lead(driver, *WAYS["fan"][:5])
    answers = driver.publish_in_steps(driver.message("key", b"x" * 1_000_000, "e"))
    assert len(answers) >= 5
    assert nothing_is_left(driver)


def test_what_is_bound_while_a_message_is_on_its_way_may_count(driver: Driver) -> None:
    """What was bound all the time does; what is deleted meanwhile does no harm."""
    declare(driver)
    lead(driver, *WAYS["chain"])
    message = driver.message("key", b"", "e").arguments
    answer = driver.run(publish(driver.settings, [message]))
    answer = driver.run(publish(driver.settings, [message], answer.state))
    driver.client.delete("_kombu.binding.x0", f"_kombu.binding.{NAMES[-1]}")
    driver.queue("to new")
    driver.bind(NAMES[-2], "to new", "key")
    driver.delete_exchange(NAMES[-1])
    while not answer.codes:
        answer = driver.run(publish(driver.settings, [message], answer.state))
    assert answer.codes == [Code.ACCEPTED]
    assert reached(driver) == sorted(["to new", *(f"to {name}" for name in NAMES[:-1])])
