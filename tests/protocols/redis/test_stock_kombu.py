"""Stock kombu 5.7 on the same keys: it reads what the scripts write, and they read what it writes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from typing import Any

import pytest

from kombu_actors.protocols.redis.publish_calls import Code
from kombu_actors.utils.json import dumps

from .driver import Client, Driver, body_of, to_queue

kombu: Any = import_module("kombu")  # untyped


@pytest.fixture
def stock(redis_url: str) -> Iterator[Any]:
    """A channel of stock kombu's."""
    with kombu.Connection(redis_url) as connection:
        yield connection.default_channel


def publish(stock: Any, exchange: Any, key: str, body: str, **options: Any) -> None:
    kombu.Producer(stock, exchange=exchange, serializer="json").publish(
        body, routing_key=key, declare=[exchange], **options
    )


def get(stock: Any, queue: str) -> Any:
    return kombu.Queue(queue, channel=stock).get(no_ack=False)


def test_stock_kombu_reads_what_we_publish(driver: Driver, stock: Any) -> None:
    """Body, headers, properties, where it was published, in order of priority."""
    driver.queue("q")
    driver.bind("amq.topic", "q", "k.#")
    headers = {"h": [1, None, {"x": "é"}]}
    for priority in (6, 0):
        driver.publish(
            "k.x", dumps({"n": priority}).encode(), "amq.topic", headers=headers, priority=priority,
            content_type="application/json", content_encoding="utf-8", correlation_id="c",
        )  # fmt: skip
    for priority in (0, 6):
        message = get(stock, "q")
        assert message.payload == {"n": priority}
        assert message.headers == headers
        assert message.properties["correlation_id"] == "c"
        assert message.delivery_info == {"exchange": "amq.topic", "routing_key": "k.x"}
        message.ack()
    assert get(stock, "q") is None


def test_a_lifetime_does_not_disturb_it(driver: Driver, stock: Any) -> None:
    """The note at the end is one more key, which kombu keeps and ignores; also when it puts the message back."""
    driver.queue("q")
    driver.publish("q", b'"x"', expiration="60000", content_type="application/json", content_encoding="utf-8")
    (before,) = driver.raw("q")
    message = get(stock, "q")
    assert message.payload == "x"
    message.requeue()
    (after,) = driver.raw("q")
    assert json.loads(after)["kombu_actors"] == json.loads(before)["kombu_actors"]
    assert get(stock, "q").delivery_info["redelivered"] is True


@pytest.mark.parametrize("kind", ["direct", "topic"])
def test_each_routes_by_the_others_bindings(driver: Driver, client: Client, stock: Any, kind: str) -> None:
    """The same members of the same tables, to the byte, so that either can take out what the other put in."""
    exchange = kombu.Exchange("x", kind)
    key = "a.*.b" if kind == "topic" else "a.b.b"
    kombu.Queue("theirs", exchange, key, channel=stock).declare()
    driver.exchange("x", kind)
    driver.queue("ours")
    driver.bind("x", "ours", key)
    table = client.smembers("_kombu.binding.x")
    assert len(table) == 2
    assert len({member.replace(b"theirs", b"ours") for member in table}) == 1
    assert client.smembers("_kombu.binding_permanent.x") == table

    assert driver.publish("a.b.b", b'"1"', "x", mandatory=True) == Code.ACCEPTED
    publish(stock, exchange, "a.b.b", "2")
    for queue in ("ours", "theirs"):
        assert [json.loads(body) for body in driver.bodies(queue)] == ["1", "2"]
    driver.queue("theirs")
    driver.unbind(to_queue("x", "theirs", key))
    ours = kombu.Queue("ours", exchange, key, channel=stock)
    ours.declare()
    ours.delete()
    assert client.exists("_kombu.binding.x", "_kombu.binding_permanent.x") == 0


def test_we_publish_to_what_only_stock_kombu_declared(driver: Driver, stock: Any) -> None:
    """No record of ours, yet its exchange, bindings and queues are as good as declared."""
    kombu.Queue("d", kombu.Exchange("dx", "direct"), "k", channel=stock).declare()
    kombu.Queue("t", kombu.Exchange("tx", "topic"), "k.#", channel=stock).declare()
    driver.exchange("dx", passive=True)
    assert driver.publish("k", exchange="dx", mandatory=True) == Code.ACCEPTED
    assert driver.publish("k.x", exchange="tx", mandatory=True) == Code.ACCEPTED
    assert driver.publish("x", exchange="tx") == Code.NO_ROUTE
    assert len(driver.raw("d")) == len(driver.raw("t")) == 1
    driver.queue("ours")
    driver.bind("tx", "ours", "#")
    driver.bind("dx", "ours", "#")
    publish(stock, kombu.Exchange("tx", "topic"), "anything", "m")
    publish(stock, kombu.Exchange("dx", "direct"), "anything", "m")
    assert len(driver.raw("ours")) == 1
    assert driver.publish("anything", exchange="dx") == Code.NO_ROUTE


def test_priorities_are_shared(driver: Driver, stock: Any) -> None:
    """Each puts its messages into the lists where the other looks."""
    driver.queue("q")
    for priority in range(0, 10, 2):
        publish(stock, kombu.Exchange(""), "q", f"stock {priority}", priority=priority)
        driver.publish("q", json.dumps(f"ours {priority}").encode(), priority=priority)
    bodies = [json.loads(body) for body in driver.bodies("q")]
    assert bodies == [f"{who} {priority}" for priority in range(0, 10, 2) for who in ("stock", "ours")]


def test_fanout_is_heard_by_stock_consumers(driver: Driver, stock: Any) -> None:
    """Whether we know that it's a fanout exchange or not."""
    heard: list[Any] = []
    exchange = kombu.Exchange("f", "fanout")
    queue = kombu.Queue("fq", exchange, "", channel=stock)
    consumer = kombu.Consumer(stock, [queue], callbacks=[lambda body, message: heard.append(body)], no_ack=True)
    with consumer:
        while not driver.client.pubsub_numpat() and not driver.client.pubsub_numsub("/0.f")[0][1]:
            with suppress(TimeoutError):
                stock.connection.client.drain_events(timeout=0.05)
        news = {"content_type": "application/json", "content_encoding": "utf-8"}
        assert driver.publish("", b'"undeclared"', "f", mandatory=True, **news) == Code.ACCEPTED
        driver.exchange("f", "fanout")
        assert driver.publish("", b'"declared"', "f", mandatory=True, **news) == Code.ACCEPTED
        while len(heard) < 2:
            stock.connection.client.drain_events(timeout=5)
    assert heard == ["undeclared", "declared"]


def test_stock_kombu_can_restore_our_claims(driver: Driver, client: Client, stock: Any) -> None:
    """A message that died and waits to be buried is in ``unacked``: whoever restores it puts it into its queue."""
    driver.queue("q", {"x-max-length": 0, "x-dead-letter-exchange": "dlx"})
    (death,) = driver.publish_all(driver.message("q", b"m")).deaths
    stock.qos.restore_by_tag(f"{driver.owner}:{death.claim}")
    (raw,) = driver.raw("q")
    assert body_of(raw) == b"m"
    assert client.exists("unacked", "unacked_index") == 0
    assert driver.bury(death.claim, "dead") is None
