"""The scripts route as ``protocols.virtual`` does, which routes as RabbitMQ does."""

from __future__ import annotations

import time
from typing import Any

import pytest
from amqp.exceptions import PreconditionFailed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kombu_actors._values.model import BindingKind, BindingSpec
from kombu_actors.protocols.redis import publish_calls
from kombu_actors.protocols.redis.publish_calls import Code
from kombu_actors.protocols.redis.scripts import ALL_SCRIPTS, Script
from kombu_actors.protocols.virtual import VirtualBroker
from tests.protocols.virtual.client import Client as Model
from tests.protocols.virtual.client import connect

from .driver import Client, Driver, to_queue

EXCHANGES = {"d": "direct", "t": "topic", "f": "fanout", "h": "headers", "u": "topic"}
QUEUES = ["q1", "q2", "q3"]
WORDS = st.sampled_from(["a", "b", "", "*", "#"])
PATTERN = st.lists(WORDS, max_size=4).map(".".join)
KEY = st.lists(st.sampled_from(["a", "b", "", "c"]), max_size=4).map(".".join)
VALUE = st.sampled_from([1, 1.0, True, False, 0, "1", None, [1, []], {"n": [1]}, ""])
"""Not ``{}`` beside ``[]``: to the scripts, as to Lua, they are the same."""
HEADERS = st.dictionaries(st.sampled_from(["a", "b", "x-c"]), VALUE, max_size=3)
MATCH = st.sampled_from([{}, *({"x-match": word} for word in ("all", "any", "all-with-x", "any-with-x"))])
TO_QUEUE = st.builds(
    BindingSpec,
    kind=st.just(BindingKind.QUEUE),
    source=st.sampled_from([*EXCHANGES]),
    destination=st.sampled_from(QUEUES),
    routing_key=PATTERN,
    arguments=st.builds(lambda match, headers: {**match, **headers}, MATCH, HEADERS),
)
TO_EXCHANGE = st.builds(
    BindingSpec,
    kind=st.just(BindingKind.EXCHANGE),
    source=st.sampled_from([*EXCHANGES]),
    destination=st.sampled_from([*EXCHANGES]),
    routing_key=PATTERN,
    arguments=MATCH,
)
PUBLISH = st.tuples(
    st.sampled_from(["", *EXCHANGES]), KEY | st.sampled_from(QUEUES), HEADERS, st.lists(KEY, max_size=2)
)
ALTERNATES = st.dictionaries(st.sampled_from([*EXCHANGES]), st.sampled_from(["", "gone", *EXCHANGES]), max_size=2)


def declare(who: Driver | Model, alternates: dict[str, str]) -> None:
    for queue in QUEUES:
        who.queue(queue)
    for name, kind in EXCHANGES.items():
        arguments = {"alternate-exchange": alternates[name]} if name in alternates else {}
        who.exchange(name, kind, arguments=arguments)


@pytest.fixture(params=["", "a step at a time"])
def steps(request: pytest.FixtureRequest, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts as they are, and such as walk an exchange in each call, and have an index and pages for few bindings."""
    if request.param:
        text = ALL_SCRIPTS["publish"].text
        for usual, tiny in (("STEP = 300", "1"), ("FEW = 200", "2"), ("MANY = 500", "1"), ("PAGE = 200", "1")):
            assert usual in text
            text = text.replace(usual, f"{usual.split()[0]} = {tiny}")
        script = Script("publish", text)
        client.script_load(script.text)
        monkeypatch.setattr(publish_calls, "_PUBLISH", script)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    alternates=ALTERNATES,
    bindings=st.lists(TO_QUEUE | TO_EXCHANGE, max_size=10),
    undone=st.sets(st.integers(0, 9)),
    publishes=st.lists(PUBLISH, min_size=1, max_size=6),
)
@pytest.mark.usefixtures("steps")
def test_routing_is_that_of_the_virtual_broker(
    driver: Driver, alternates: dict[str, str], bindings: list[BindingSpec], undone: set[int], publishes: list[Any]
) -> None:
    """The same topology and publishes end in the same queues, and are unroutable for both or neither.

    Bindings of queues to direct, topic and fanout exchanges are told apart without their arguments here, as kombu's
    tables have no place for them.  Kombu's default exchange takes what is for unknown queues; here nothing is.
    """
    for key in driver.client.scan_iter():
        if key != driver.key("owners").encode():
            driver.client.delete(key)
    model = connect(VirtualBroker())
    declare(driver, alternates)
    declare(model, alternates)
    plain = [
        to_queue(binding.source, binding.destination, binding.routing_key)
        if binding.kind is BindingKind.QUEUE and binding.source != "h"
        else binding
        for binding in bindings
    ]
    for binding in plain:
        driver.bind_as(binding, durable=True)
        if binding.kind is BindingKind.QUEUE:
            model.channel.queue_bind(binding)
        else:
            model.channel.exchange_bind(binding)
    for index in undone:
        if index < len(plain):
            driver.unbind(plain[index])
            if plain[index].kind is BindingKind.QUEUE:
                model.channel.queue_unbind(plain[index])
            else:
                model.channel.exchange_unbind(plain[index])
    model.channel.confirm_select()
    messages = []
    for number, (exchange, key, headers, copies) in enumerate(publishes):
        body = b"%d" % number
        properties = {"headers": {**headers, **({"CC": copies} if copies else {})}}
        messages.append(driver.message(key, body, exchange, True, **properties))
        model.publish(key, body, exchange, True, **properties)
    codes = [code for message in messages for answer in driver.publish_in_steps(message) for code in answer.codes]
    returned = {int(item[2]) for item in model.heard() if item[0] == "return"}
    assert {queue: driver.bodies(queue) for queue in QUEUES} == {queue: model.drain(queue) for queue in QUEUES}
    assert {number for number, code in enumerate(codes) if code == Code.NO_ROUTE} == returned


def test_a_batch_routes_as_single_publishes_do(driver: Driver) -> None:
    """Ways are remembered within a call; headers are looked at for every message."""
    declare(driver, {})
    driver.bind("h", "q1", a=1)
    driver.bind_exchange("t", "h", "#")
    driver.bind("t", "q2", "a.*")
    published = driver.publish_all(
        *(driver.message("a.b", b"%d" % n, "t", True, headers={"a": n % 2}) for n in range(4)),
        driver.message("a", b"4", "t", True),
    )
    assert published.codes == [0, 0, 0, 0, Code.NO_ROUTE]
    assert driver.bodies("q1") == [b"1", b"3"]
    assert driver.bodies("q2") == [b"0", b"1", b"2", b"3"]


@pytest.mark.parametrize("pattern", [".".join(["#"] * 127) + ".x", ".".join(["#", "a"] * 63) + ".x", "#.a.#.a.#.b"])
def test_hostile_patterns_cost_little(driver: Driver, client: Client, pattern: str) -> None:
    """A script that thinks long stops the server for all."""
    driver.queue("q")
    driver.bind("amq.topic", "q", pattern)
    began = time.perf_counter()
    assert driver.publish(".".join(["a"] * 127), exchange="amq.topic", mandatory=True) == Code.NO_ROUTE
    assert time.perf_counter() - began < 0.5


def test_circles_of_exchanges_end(driver: Driver) -> None:
    """Bindings and alternate exchanges that lead back are followed once."""
    declare(driver, {"d": "t", "t": "d"})
    for source, destination in (("f", "t"), ("t", "f"), ("f", "f")):
        driver.bind_exchange(source, destination, "#")
    driver.bind("f", "q1", durable=True)
    assert driver.publish("x", b"m", "d", mandatory=True) == Code.ACCEPTED
    assert driver.bodies("q1") == [b"m"]


def test_broken_json_has_no_headers(driver: Driver) -> None:
    """Nothing that is published can make the script fail halfway."""
    driver.queue("q")
    driver.bind("amq.headers", "q", a=1)
    driver.bind_as(to_queue("amq.match", "q", **{"x-match": "all"}))
    for envelope in (b"", b"{", b"[]", b"null", b'{"headers": 5}', b'{"headers": null}', b"\xff\x00"):
        for exchange, code in (("amq.headers", Code.NO_ROUTE), ("amq.match", Code.ACCEPTED)):
            message = driver.message("", exchange=exchange)
            published = driver.publish_all(message.but(arguments=(*message.arguments[:-1], envelope)))
            assert published.codes == [code]


def test_direct_keys_are_taken_letter_by_letter(driver: Driver) -> None:
    """The server is asked for one key's bindings by a pattern; what would be wild in it isn't."""
    keys = ["*", "?", "[ab]", "[^a]", "a", "aa", "\\", "\\*", "a*", "", "**", "k[", "]", "-", "a\0b", "é"]
    for key in keys:
        driver.queue(f"of {key!r}")
        driver.bind("amq.direct", f"of {key!r}", key)
    for crowd in range(300):
        driver.queue("crowd")
        driver.bind("amq.direct", "crowd", f"other {crowd}")
    for key in keys:  # one by one, and below many in one call: two ways to the same bindings
        assert driver.publish(key, b"1", "amq.direct", mandatory=True) == Code.ACCEPTED
    assert driver.publish("none of them", exchange="amq.direct", mandatory=True) == Code.NO_ROUTE
    driver.publish_all(*(driver.message(key, b"2", "amq.direct") for key in keys))
    assert {key: driver.bodies(f"of {key!r}") for key in keys} == {key: [b"1", b"2"] for key in keys}
    assert driver.bodies("crowd") == []


def test_a_table_that_vanished_is_put_back(driver: Driver, client: Client) -> None:
    """Evicted or deleted by hand: what is to be routed by it finds kombu's second record, and mends the first."""
    driver.queue("q")
    for source in ("amq.direct", "amq.topic"):
        driver.bind(source, "q", "k")
        client.delete(f"_kombu.binding.{source}")
        assert driver.publish("k", exchange=source, mandatory=True) == Code.ACCEPTED
        assert client.smembers(f"_kombu.binding.{source}") == client.smembers(f"_kombu.binding_permanent.{source}")
    assert driver.publish("k", exchange="amq.match", mandatory=True) == Code.NO_ROUTE
    driver.exchange("x")
    driver.bind("x", "q", "k")
    client.delete("_kombu.binding.x")
    with pytest.raises(PreconditionFailed, match="in use"):
        driver.delete_exchange("x", if_unused=True)


@pytest.mark.parametrize("source", ["d", "t", "f"])
def test_exchanges_lead_to_exchanges(driver: Driver, source: str) -> None:
    """By their own rules, to queues of every other kind."""
    declare(driver, {})
    for number, destination in enumerate(sorted({"d", "t", "f"} - {source}), 1):
        driver.bind_exchange(source, destination, "k")
        driver.bind(destination, f"q{number}", "k", durable=True)
    assert driver.publish("k", b"m", source, mandatory=True) == Code.ACCEPTED
    assert driver.bodies("q1") == driver.bodies("q2") == [b"m"]
