"""A program that keeps messages is told when they are lost with their session, once, and only then."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from kombu_actors import Connection, Consumer, Queue
from kombu_actors.connection import LAST_SESSION
from kombu_actors.errors import ConnectionLost
from tests.support.brokers import RabbitMQNode, RedisNode
from tests.support.proxy import Direction, FaultProxy

PATIENCE = 20.0


@pytest.fixture(params=["amqp", "redis"])
def proxied(
    request: pytest.FixtureRequest,
    rabbitmq: RabbitMQNode,
    vhost: str,
    redis_server: RedisNode,
    redis_url: str,
    fault_proxy: Callable[[int], FaultProxy],
) -> tuple[FaultProxy, str]:
    """A breakable way to a broker, and the URL for it."""
    proxy = fault_proxy(rabbitmq.port if request.param == "amqp" else redis_server.port)
    if request.param == "amqp":
        return proxy, rabbitmq.url(vhost=vhost, port=proxy.port)
    return proxy, redis_server.url(port=proxy.port)


class Keeper:
    """Consumes, and keeps what it gets."""

    def __init__(self, url: str, **options: Any) -> None:
        self.kept: list[Any] = []
        self.connection = Connection(url, transport_options=options)
        self.queue = Queue("kept")
        self.consumer = Consumer(self.connection, self.queue, on_message=self.kept.append, prefetch_count=10)
        self.consumer.consume()
        producer = self.connection.Producer()
        for number in range(3):
            producer.publish(number, routing_key="kept", retry=True)

    def drain_until(self, count: int) -> None:
        """Take messages until there are so many."""
        deadline = time.monotonic() + PATIENCE
        while len(self.kept) < count:
            self.connection.drain_events(timeout=deadline - time.monotonic())


def test_unsettled_messages_are_told_of_and_come_again(proxied: tuple[FaultProxy, str]) -> None:
    """``drain_events`` raises ``ConnectionLost``, once; it may go on, and gets them again."""
    proxy, url = proxied
    keeper = Keeper(url, tell_lost=True)
    with keeper.connection:
        keeper.drain_until(3)
        keeper.kept.pop(0).ack()
        keeper.connection.default_channel.queue_declare("kept", passive=True)  # the ack is there by now
        proxy.reset()
        with pytest.raises(ConnectionLost, match="2 messages that came over channel 1 were not settled"):
            keeper.drain_until(5)
        stale = keeper.kept[:]
        keeper.kept.clear()
        keeper.drain_until(2)
        assert sorted(message.payload for message in keeper.kept) == sorted(message.payload for message in stale)
        for message in keeper.kept:
            message.ack()


def test_who_holds_nothing_hears_nothing(proxied: tuple[FaultProxy, str]) -> None:
    """All settled, one by one or together: the loss is supervision's alone."""
    proxy, url = proxied
    keeper = Keeper(url, tell_lost=True)
    with keeper.connection:
        keeper.drain_until(3)
        keeper.kept[0].ack()
        keeper.kept[2].ack(multiple=True)
        keeper.connection.default_channel.queue_declare("kept", passive=True)
        keeper.kept.clear()
        proxy.reset()
        keeper.connection.Producer().publish("after", routing_key="kept", retry=True)
        keeper.drain_until(1)
        keeper.kept.pop().ack()


def test_who_does_not_ask_for_it_is_not_told(proxied: tuple[FaultProxy, str]) -> None:
    """As documented: ``drain_events`` rides out faults."""
    proxy, url = proxied
    keeper = Keeper(url)
    with keeper.connection:
        keeper.drain_until(3)
        proxy.reset()
        keeper.drain_until(6)
        for message in keeper.kept[3:]:
            message.ack()


def test_an_own_exclusive_queue_is_waited_for(proxied: tuple[FaultProxy, str]) -> None:
    """Connecting anew right after a loss, a program finds its own exclusive queue locked for a moment."""
    proxy, url = proxied
    first = Connection(url, transport_options={"tell_lost": True})
    Queue("own", exclusive=True, durable=False)(first.default_channel).declare()
    proxy.vanish()  # the broker sees it go, the client does not; or the other way round
    proxy.abandon()
    first.collect()
    proxy.heal()
    with Connection(url, transport_options={"tell_lost": True}) as second:
        Queue("own", exclusive=True, durable=False)(second.default_channel).declare()


def test_collecting_after_a_loss_waits_for_no_broker_that_is_away(proxied: tuple[FaultProxy, str]) -> None:
    """An event loop's thread collects, Celery's worker's: where dialling fails there is nothing to wait for."""
    proxy, url = proxied
    keeper = Keeper(url, tell_lost=True)
    with keeper.connection:
        keeper.drain_until(3)
        proxy.refuse()
        proxy.reset()
        with pytest.raises(ConnectionLost, match="3 messages that came over channel 1 were not settled"):
            keeper.drain_until(4)
        began = time.monotonic()
        keeper.connection.collect()
        assert time.monotonic() - began < LAST_SESSION / 4
        proxy.heal()


def test_what_is_under_way_at_a_loss_is_sent_by_collecting(
    proxied: tuple[FaultProxy, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over a last session of the connection, before the program makes another."""
    monkeypatch.setattr("kombu_actors.connection.LAST_SESSION", PATIENCE)
    proxy, url = proxied
    connection = Connection(url, transport_options={"tell_lost": True})
    Queue("results")(connection.default_channel).declare()
    proxy.discard(Direction.UP)
    connection.Producer().publish("under way", routing_key="results")
    proxy.heal()
    proxy.reset()
    connection.collect()
    results: list[Any] = []
    with connection, Consumer(connection, Queue("results"), on_message=results.append):
        connection.drain_events(timeout=PATIENCE)
        results.pop().ack()
