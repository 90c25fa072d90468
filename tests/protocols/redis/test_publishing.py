"""Messages into queues: every code, lifetimes, limits, deaths, and memory that has run out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from kombu_actors.protocols.redis import publish_calls
from kombu_actors.protocols.redis.layout import SEPARATOR, Layout
from kombu_actors.protocols.redis.publish_calls import Code

from .driver import Client, Driver, to_queue

DEAD = {"x-dead-letter-exchange": "dlx", "x-dead-letter-routing-key": "dead"}


def suffix_of(raw: bytes) -> Any:
    return json.loads(raw).get("kombu_actors")


def server_ms(client: Client) -> int:
    seconds, micros = client.time()
    return int(seconds * 1000 + micros // 1000)


@contextmanager
def full_memory(client: Client) -> Iterator[None]:
    """The server refuses whatever may need more memory."""
    client.config_set("maxmemory", 1)
    try:
        yield
    finally:
        client.config_set("maxmemory", 0)


# where messages go


def test_each_message_gets_its_code(driver: Driver) -> None:
    """A batch answers for every message by itself, in order."""
    driver.queue("q")
    driver.queue("full", {"x-max-length": 0, "x-overflow": "reject-publish"})
    driver.exchange("inside", internal=True)
    published = driver.publish_all(
        driver.message("q"),
        driver.message("k", exchange="amq.direct"),
        driver.message("q", exchange="nowhere"),
        driver.message("full"),
        driver.message("q", exchange="inside"),
        driver.message("nobody", mandatory=True),
        driver.message("q", mandatory=True),
    )
    assert [Code(code) for code in published.codes] == [
        Code.ACCEPTED,
        Code.NO_ROUTE,
        Code.NO_EXCHANGE,
        Code.REFUSED,
        Code.INTERNAL,
        Code.NO_ROUTE,
        Code.ACCEPTED,
    ]
    assert published.next_timer is None
    assert published.deaths == []
    assert len(driver.raw("q")) == 2
    assert driver.raw("nobody") == []


def test_an_empty_batch_is_fine(driver: Driver) -> None:
    """Nothing in, nothing out."""
    assert driver.publish_all().codes == []


def test_envelopes_arrive_to_the_byte(driver: Driver) -> None:
    """What isn't limited in time is stored as it was sent."""
    driver.queue("q")
    message = driver.message("q", bytes(range(256)), headers={"long": 2**63 - 1, "empty": [], "none": None})
    driver.publish_all(message)
    assert driver.raw("q") == [message.arguments[-1]]


def test_an_unknown_queue_gets_it_unless_mandatory(driver: Driver, client: Client) -> None:
    """A stock consumer leaves no trace while its queue is empty, so the message must not be dropped."""
    assert driver.publish("stock") == Code.ACCEPTED
    assert len(driver.raw("stock")) == 1
    assert driver.publish("stock", mandatory=True) == Code.ACCEPTED
    assert driver.publish("other", mandatory=True) == Code.NO_ROUTE
    assert driver.publish("") == Code.NO_ROUTE
    assert client.keys("other*") == []


def test_priorities_choose_the_list(driver: Driver, client: Client) -> None:
    """kombu's steps: 0, 3, 6, 9; order within one is first in, first out."""
    driver.queue("q")
    for priority in (9, 0, 4, 2, 5):
        driver.publish("q", b"%d" % priority, priority=priority)
    assert client.llen("q") == 2
    assert client.llen(f"q{SEPARATOR}3") == 2
    assert client.llen(f"q{SEPARATOR}9") == 1
    assert driver.bodies("q") == [b"0", b"2", b"4", b"5", b"9"]


def test_one_copy_whatever_the_ways(driver: Driver) -> None:
    """Several bindings, CC and BCC, exchanges on the way: a queue gets a message once."""
    driver.queue("q")
    driver.queue("r")
    for key in ("a", "a.#", "*", "#"):
        driver.bind("amq.topic", "q", key)
    driver.bind_exchange("amq.topic", "amq.direct", "a")
    driver.bind("amq.direct", "q", "a")
    driver.bind("amq.direct", "r", "b")
    driver.publish("a", b"1", "amq.topic", headers={"CC": ["a.b"], "BCC": ["a"]})
    driver.publish("a", b"2", "amq.direct", headers={"CC": ["b"], "BCC": ["b"]})
    assert driver.bodies("q") == [b"1", b"2"]
    assert driver.bodies("r") == [b"2"]


def test_queues_can_be_left_out(driver: Driver) -> None:
    """A dead letter on its way round in circles isn't delivered to where it came from."""
    driver.queue("q", {"x-max-length": 1, **DEAD})
    driver.queue("r")
    driver.exchange("dlx", "fanout")
    driver.bind("dlx", "q", durable=True)
    driver.bind("dlx", "r", durable=True)
    driver.publish("q")
    (death,) = driver.publish_all(driver.message("q")).deaths
    published = driver.bury(death.claim, "dead", "dlx", never_to=("q", "not here"))
    assert published is not None
    assert published.codes == [Code.ACCEPTED]
    assert (len(driver.raw("q")), len(driver.raw("r"))) == (1, 1)


def test_kombus_deadletter_queue_takes_the_rest(client: Client) -> None:
    """The option ``deadletter_queue``: what no queue took, mandatory or not, and what went to no exchange at all."""
    driver = Driver(client)
    driver.settings = publish_calls.settings("/0.", deadletter_queue="rest")
    driver.queue("q")
    driver.bind("amq.direct", "q", "k")
    assert driver.publish("k", b"1", "amq.direct") == Code.ACCEPTED
    assert driver.publish("other", b"2", "amq.direct") == Code.ACCEPTED
    assert driver.publish("unknown", b"3", mandatory=True) == Code.ACCEPTED
    assert driver.publish("k", b"4", "nowhere") == Code.ACCEPTED
    assert driver.bodies("rest") == [b"2", b"3", b"4"]


# fanout


def test_fanout_reaches_listeners_and_durable_queues(driver: Driver, client: Client) -> None:
    """Listeners hear it once with our mark, a durable binding's queue has it in its list."""
    driver.exchange("x", "fanout")
    driver.queue("kept")
    driver.bind("x", "kept", durable=True)
    driver.queue("passing")
    driver.bind("x", "passing")
    with client.pubsub(ignore_subscribe_messages=True) as heard:
        heard.psubscribe("/0.x", "/0.x/*")
        for _ in range(2):
            assert heard.get_message(timeout=1) is None
        assert driver.publish("", b"1", "x") == Code.ACCEPTED
        assert driver.publish("k", b"2", "x") == Code.ACCEPTED
        first, second = heard.get_message(timeout=1), heard.get_message(timeout=1)
    assert first is not None
    assert second is not None
    assert [first["channel"], second["channel"]] == [b"/0.x", b"/0.x/k"]
    assert suffix_of(first["data"]) == [0, 0]
    assert driver.bodies("kept") == [b"1", b"2"]
    assert driver.raw("passing") == []


def test_fanout_routes_if_somebody_may_hear(driver: Driver, client: Client) -> None:
    """Mandatory counts: listeners, durable queues, and transient bindings; with none of them it's returned."""
    driver.exchange("x", "fanout")
    assert driver.publish("", exchange="x", mandatory=True) == Code.NO_ROUTE
    with client.pubsub(ignore_subscribe_messages=True) as heard:
        heard.subscribe("/0.x")
        assert heard.get_message(timeout=1) is None
        assert driver.publish("", exchange="x", mandatory=True) == Code.ACCEPTED
    driver.queue("q")
    for durable in (True, False):
        binding = driver.bind("x", "q", durable=durable)
        assert driver.publish("", exchange="x", mandatory=True) == Code.ACCEPTED
        driver.unbind(binding)
    assert driver.publish("", exchange="x", mandatory=True) == Code.NO_ROUTE


def test_without_patterns_topics_have_no_key(client: Client) -> None:
    """``fanout_patterns=False`` is kombu 3's way; CC doesn't publish twice then."""
    driver = Driver(client)
    driver.settings = publish_calls.settings("all.", fanout_patterns=False)
    driver.exchange("x", "fanout")
    with client.pubsub(ignore_subscribe_messages=True) as heard:
        heard.psubscribe("*")
        assert heard.get_message(timeout=1) is None
        driver.publish("k", exchange="x", headers={"CC": ["l"]})
        told = heard.get_message(timeout=1)
        assert told is not None
        assert told["channel"] == b"all.x"
        assert heard.get_message() is None


def test_an_exchange_nobody_declared(driver: Driver, client: Client) -> None:
    """A fanout if somebody listens, by kombu's table if there is one, and otherwise missing."""
    client.sadd("_kombu.binding.d", f"k{SEPARATOR}{SEPARATOR}q", f"{SEPARATOR}{SEPARATOR}r")
    client.sadd(
        "_kombu.binding.t", f"k.*{SEPARATOR}^k\\.[^\\.]+${SEPARATOR}q", "broken", f"#{SEPARATOR}^.*?${SEPARATOR}r"
    )
    assert driver.publish("k", b"1", "d") == Code.ACCEPTED
    assert driver.publish("k.x", b"2", "t") == Code.ACCEPTED
    assert driver.publish("l", b"3", "d") == Code.NO_ROUTE
    assert driver.publish("", b"4", "d") == Code.ACCEPTED
    assert driver.bodies("q") == [b"1", b"2"]
    assert driver.bodies("r") == [b"2", b"4"]
    with client.pubsub(ignore_subscribe_messages=True) as heard:
        heard.subscribe("/0.d", "/0.f")
        assert heard.get_message(timeout=1) is None
        assert heard.get_message(timeout=1) is None
        assert driver.publish("", b"5", "d") == Code.ACCEPTED
        assert driver.publish("", b"6", "f") == Code.ACCEPTED
        for body in (b"5", b"6"):
            told = heard.get_message(timeout=1)
            assert told is not None
            assert json.loads(told["data"])["body"] == json.loads(driver.message("", body).arguments[-1])["body"]
    assert driver.bodies("r") == [b"2", b"4"]
    assert driver.publish("", exchange="f") == Code.NO_EXCHANGE


def test_adopted_once(driver: Driver) -> None:
    """A stock broadcast goes into a durable fanout queue once, however many links heard it; if it's there."""
    driver.queue("q", {"x-message-ttl": 60_000})
    envelope = driver.message("", b"news", "x").arguments[-1]
    first = driver.run(publish_calls.adopt("q", "tag", envelope, step=3))
    again = driver.another().run(publish_calls.adopt("q", "tag", envelope, step=3))
    assert (first.codes, again.codes) == ([Code.ACCEPTED], [Code.NO_ROUTE])
    assert first.next_timer is not None
    assert driver.bodies("q") == [b"news"]
    driver.delete_queue("q")
    assert driver.run(publish_calls.adopt("q", "another", envelope)).codes == [Code.NO_ROUTE]
    assert driver.raw("q") == []


# lifetimes


@pytest.mark.parametrize(
    ("arguments", "expiration", "lifetime"),
    [
        ({"x-message-ttl": 60_000}, None, 60_000),
        ({}, "50000", 50_000),
        ({"x-message-ttl": 60_000}, "50000", 50_000),
        ({"x-message-ttl": 40_000}, "50000", 40_000),
    ],
)
def test_the_shorter_lifetime_counts(
    driver: Driver, client: Client, arguments: dict[str, Any], expiration: str | None, lifetime: int
) -> None:
    """The queue's or the message's, by the server's clock, in the suffix and on the timer."""
    driver.queue("q", arguments)
    properties: dict[str, Any] = {"expiration": expiration} if expiration else {}
    message = driver.message("q", b"m", **properties)
    before = server_ms(client)
    published = driver.publish_all(message)
    after = server_ms(client)
    count, expires = suffix_of(driver.raw("q")[0])
    assert count == 0
    assert before + lifetime <= expires <= after + lifetime
    assert client.zrange(driver.key("timers"), 0, -1, withscores=True) == [[b"ttl q", expires]]
    assert published.next_timer == pytest.approx(lifetime / 1000, abs=1)
    assert driver.raw("q")[0].startswith(message.arguments[-1][:-1])


def test_timers_are_never_put_off(driver: Driver, client: Client) -> None:
    """The earliest expiry decides when to look."""
    driver.queue("q")
    for expiration in ("60000", "90000", "30000", "80000"):
        driver.publish("q", expiration=expiration)
    assert client.zscore(driver.key("timers"), "ttl q") == min(suffix_of(raw)[1] for raw in driver.raw("q"))


def test_a_lifetime_of_zero(driver: Driver, client: Client) -> None:
    """Without anybody waiting it dies on arrival, dead letter and all; a waiter gets a second to fetch it."""
    driver.queue("q", {"x-message-ttl": 0, **DEAD})
    published = driver.publish_all(driver.message("q"))
    assert published.codes == [Code.ACCEPTED]
    assert [(death.queue, death.reason) for death in published.deaths] == [("q", "expired")]
    client.zadd(driver.key("waiting.q"), {f"{driver.owner}/1": 1})
    assert driver.publish_all(driver.message("q")).deaths == []
    (raw,) = driver.raw("q")
    assert 0 < suffix_of(raw)[1] - server_ms(client) <= 1000


# limits


def test_a_full_queue_drops_its_head(driver: Driver) -> None:
    """The oldest of the first list served goes; the new one stays."""
    driver.queue("q", {"x-max-length": 2, **DEAD})
    messages = [driver.message("q", b"%d" % n) for n in range(4)]
    published = driver.publish_all(*messages)
    assert published.codes == [Code.ACCEPTED] * 4
    assert [death.raw for death in published.deaths] == [message.arguments[-1] for message in messages[:2]]
    assert {(death.reason, death.exchange, death.routing_key) for death in published.deaths} == {
        ("maxlen", "dlx", "dead")
    }
    assert driver.bodies("q") == [b"2", b"3"]


def test_the_limit_counts_all_priorities(driver: Driver) -> None:
    """And drops in serving order, without a dead letter exchange for good."""
    driver.queue("q", {"x-max-length": 2})
    for priority in (9, 3, 0, 6):
        driver.publish("q", b"%d" % priority, priority=priority)
    assert driver.bodies("q") == [b"6", b"9"]
    assert driver.client.keys("unacked*") == []


def test_a_queue_of_length_zero_keeps_nothing(driver: Driver) -> None:
    """Nor does it loop."""
    driver.queue("q", {"x-max-length": 0})
    assert driver.publish("q") == Code.ACCEPTED
    assert driver.raw("q") == []


def test_what_stock_publishers_put_in_too_much_goes_in_steps(driver: Driver, client: Client) -> None:
    """They know no limit; a script drops some hundred at most, the next one goes on."""
    driver.queue("q", {"x-max-length": 1})
    client.lpush("q", *(b"{}" for _ in range(400)))
    driver.publish("q")
    assert 1 < client.llen("q") < 300
    driver.publish("q")
    assert client.llen("q") == 1


@pytest.mark.parametrize("overflow", ["reject-publish", "reject-publish-dlx"])
def test_a_full_queue_may_refuse(driver: Driver, overflow: str) -> None:
    """The publisher hears of it, other queues have the message; with -dlx it's a death besides."""
    driver.queue("q", {"x-max-length": 1, "x-overflow": overflow, **DEAD})
    driver.queue("r")
    for name in ("q", "r"):
        driver.bind("amq.direct", name, "k")
    published = driver.publish_all(*(driver.message("k", b"%d" % n, "amq.direct") for n in range(2)))
    assert published.codes == [Code.ACCEPTED, Code.REFUSED]
    assert driver.bodies("q") == [b"0"]
    assert driver.bodies("r") == [b"0", b"1"]
    assert [death.reason for death in published.deaths] == (["maxlen"] if overflow == "reject-publish-dlx" else [])


# the dead


def test_a_death_is_a_claim_until_it_is_buried(driver: Driver, client: Client) -> None:
    """What died is the caller's, where stock kombu would find it again; burying swaps it for the letter, once."""
    driver.queue("q", {"x-max-length": 1, **DEAD})
    driver.queue("dead")
    driver.exchange("dlx", "direct", internal=True)
    driver.bind("dlx", "dead", "dead")
    driver.publish("q", b"1")
    (death,) = driver.publish_all(driver.message("q", b"2")).deaths
    field = f"{driver.owner}:{death.claim}".encode()
    message, exchange, key = json.loads(client.hget("unacked", field) or "")
    assert (message, exchange, key) == (json.loads(death.raw), "", "q")
    assert client.zscore("unacked_index", field) == pytest.approx(client.time()[0], abs=5)
    published = driver.bury(death.claim, "dead", "dlx")
    assert published is not None
    assert published.codes == [Code.ACCEPTED]
    assert driver.bury(death.claim, "dead", "dlx") is None
    assert driver.bodies("dead") == ["letter"]
    assert client.keys("unacked*") == []
    assert client.keys(driver.key("claims.*")) == []


def test_a_letter_to_nowhere_ends(driver: Driver, client: Client) -> None:
    """As in RabbitMQ: a dead letter exchange that doesn't exist drops."""
    driver.queue("q", {"x-max-length": 0, **DEAD})
    (death,) = driver.publish_all(driver.message("q")).deaths
    published = driver.bury(death.claim, "dead", "dlx")
    assert published is not None
    assert published.codes == [Code.NO_EXCHANGE]
    assert client.keys("unacked*") == []


def test_a_letter_may_die_in_turn(driver: Driver) -> None:
    """Its queue can be bounded too, and the deaths come back with the reply."""
    driver.queue("q", {"x-max-length": 0, "x-dead-letter-exchange": ""})
    driver.queue("r", {"x-max-length": 0, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": ""})
    (death,) = driver.publish_all(driver.message("q")).deaths
    assert (death.exchange, death.routing_key) == ("", None)
    published = driver.bury(death.claim, "r")
    assert published is not None
    ((_, queue, reason, exchange, key, *_),) = published.deaths
    assert (queue, reason, exchange, key) == ("r", "maxlen", "", "")


# keys that hold something else


def test_a_queue_that_cannot_store_it_costs_no_other(driver: Driver, client: Client) -> None:
    """A foreign key of a queue's name: that message is refused with the reason, the rest of the call goes on."""
    client.set("bad", "something else")
    for queue in ("a", "bad", "q", "z"):
        client.sadd("_kombu.binding.amq.direct", f"k{SEPARATOR}{SEPARATOR}{queue}")
    published = driver.publish_all(driver.message("k", b"1", "amq.direct"), driver.message("bad"), driver.message("q"))
    assert published.codes == [Code.REFUSED, Code.REFUSED, Code.ACCEPTED]
    assert all("WRONGTYPE" in error for error in published.errors.values())
    assert [len(driver.raw(queue)) for queue in ("a", "z", "q")] == [1, 1, 2]
    assert client.get("bad") == b"something else"


def test_a_letter_that_cannot_be_stored_stays_a_claim(driver: Driver, client: Client) -> None:
    """Rather than being lost; it goes back to its queue when its owner goes."""
    driver.queue("q", {"x-max-length": 0, "x-dead-letter-exchange": ""})
    (death,) = driver.publish_all(driver.message("q")).deaths
    client.set("bad", "something else")
    published = driver.bury(death.claim, "bad")
    assert published is not None
    assert published.codes == [Code.REFUSED]
    assert client.hlen("unacked") == 1
    published = driver.bury(death.claim, "good")
    assert published is not None
    assert published.codes == [Code.ACCEPTED]
    assert client.exists("unacked") == 0


# memory


def test_full_memory_refuses_a_publish_whole(driver: Driver, client: Client) -> None:
    """Nothing is changed and nobody hears anything, so the batch can be sent again."""
    driver.queue("q", {"x-max-length": 1, "x-message-ttl": 1000, **DEAD})
    driver.exchange("x", "fanout")
    driver.publish("q")
    batch = (driver.message("", exchange="x"), driver.message("q", expiration="0"), driver.message("q"))
    publishes: list[Callable[[], Any]] = [
        lambda: driver.publish_all(*batch),
        lambda: driver.publish_all(*reversed(batch)),
        lambda: driver.run(publish_calls.adopt("q", "tag", b"{}")),
    ]
    before = driver.everything()
    with client.pubsub(ignore_subscribe_messages=True) as heard:
        heard.subscribe("/0.x")
        assert heard.get_message(timeout=1) is None
        with full_memory(client):
            for publish in publishes:
                with pytest.raises(redis.exceptions.ResponseError, match="maxmemory"):
                    publish()
            assert driver.everything() == before
            assert heard.get_message() is None
        assert driver.publish_all(*batch).codes == [Code.ACCEPTED] * 3
        assert heard.get_message(timeout=1) is not None


def test_full_memory_lets_the_rest_go_on(driver: Driver, client: Client) -> None:
    """A consumer that reconnects must be able to replay its topology, or the memory would stay full for ever."""
    driver.queue("q", {"x-max-length": 0, **DEAD})
    (death,) = driver.publish_all(driver.message("q")).deaths
    with full_memory(client):
        driver.queue("r", {"x-expires": 60_000})
        driver.queue("r", {"x-expires": 60_000})
        driver.exchange("x", "topic", auto_delete=True)
        driver.bind("x", "r", "#")
        driver.bind("amq.fanout", "r", durable=True)
        assert driver.bury(death.claim, "r") is not None
        driver.unbind(to_queue("amq.fanout", "r"))
        assert driver.purge("r") == 1
        assert driver.delete_queue("r") == 0


def test_priority_order_turns_the_serving_round(client: Client) -> None:
    """With ``priority_order="amqp"`` the head is the highest priority's."""
    driver = Driver(client, Layout(priority_order="amqp"))
    driver.queue("q", {"x-max-length": 1})
    driver.publish("q", b"high", priority=9)
    driver.publish("q", b"low", priority=0)
    assert driver.bodies("q") == [b"low"]
