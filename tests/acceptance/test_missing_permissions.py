"""A permission that is missing after a fault costs nobody but who needs it, and no longer than it is missing."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest

from kombu_actors import Connection, Consumer, Exchange, Message, Queue
from kombu_actors.supervisors import ChildState, ChildView
from tests.support.brokers import RabbitMQNode
from tests.support.processes import wait_until

PATIENCE = 10.0
IN_TIME = 5.0
"""Seconds from the moment that the permission is back until the consumer hears."""


def view(connection: Connection, path: str) -> ChildView | None:
    """A place in the connection's tree."""
    actor = connection.connect().actor

    async def look() -> ChildView | None:
        return actor.supervisor.snapshot().find(path)

    found: ChildView | None = connection.call(look)
    return found


def lose_session(node: RabbitMQNode, vhost: str, connection: Connection) -> None:
    """Return in the next session."""
    session = connection.connect().actor.session
    epochs = session.epochs
    node.close_all_connections(vhost=vhost)
    wait_until(lambda: session.epochs > epochs and connection.connected, timeout=PATIENCE, waiting_for="the session")


def drain_until(connection: Connection, done: Callable[[], object], within: float) -> None:
    """Drain events until a condition holds."""
    deadline = time.monotonic() + within
    while not done():
        assert time.monotonic() < deadline, f"not within {within:g} s"
        with contextlib.suppress(TimeoutError):
            connection.drain_events(timeout=0.05)


@pytest.mark.parametrize("no_ack", [False, True])
def test_a_consumer_that_may_not_read_waits_and_its_channel_serves_the_others(
    rabbitmq: RabbitMQNode, vhost: str, no_ack: bool
) -> None:
    """Both consume over one channel.  The first refusal kills it (nobody could know); from then on the subscription is
    tried on another channel, until it is granted: then it hears all that waited, once each and in order."""
    heard: dict[str, list[Any]] = {"open": [], "secret": []}

    def hear(message: Message) -> None:
        heard[message.delivery_info["routing_key"]].append(message.payload)
        if not message.acknowledged:
            message.ack_log_error(logging.getLogger(__name__), connection.connection_errors)

    with Connection(rabbitmq.url(vhost=vhost)) as connection, Connection(rabbitmq.url(vhost=vhost)) as other:
        channel = connection.channel()
        for name in heard:
            Consumer(channel, [Queue(name)], on_message=hear, no_ack=no_ack, tag_prefix=name).consume()
        rabbitmq.permit(vhost, read="^open$")
        lose_session(rabbitmq, vhost, connection)
        path = f"channels/{channel.channel_id}"
        (tag,) = [tag for tag in channel.handle.actor.consumers if tag.startswith("secret")]

        def waits() -> bool:
            found = view(connection, f"{path}/consumers/{tag}")
            return found is not None and found.attempt >= 5 and found.state is ChildState.BACKING_OFF

        wait_until(waits, timeout=PATIENCE, waiting_for="five refusals")
        alive = view(connection, f"{path}/channel")
        assert alive is not None
        assert alive.epoch == 3  # of the first session, of the second, and after the first refusal
        producer = other.Producer()
        for number in range(5):
            producer.publish(number, routing_key="secret")
        producer.publish("m", routing_key="open")
        drain_until(connection, lambda: heard["open"] == ["m"], PATIENCE)
        rabbitmq.permit(vhost)
        drain_until(connection, lambda: len(heard["secret"]) == 5, IN_TIME)
        assert heard["secret"] == list(range(5))
        alive = view(connection, f"{path}/channel")
        assert alive is not None
        assert alive.epoch == 3


def test_what_may_not_be_declared_again_is_consumed_from_as_it_is(rabbitmq: RabbitMQNode, vhost: str) -> None:
    """Queue and exchange are there; that they may not be declared any more is said, and keeps nobody from consuming."""
    heard: list[Any] = []

    def hear(body: Any, message: Message) -> None:
        heard.append(body)
        message.ack()

    with Connection(rabbitmq.url(vhost=vhost)) as connection, Connection(rabbitmq.url(vhost=vhost)) as other:
        queue = Queue("q", Exchange("x", "fanout"))
        Consumer(connection, [queue], callbacks=[hear]).consume()
        rabbitmq.permit(vhost, configure="^$")
        lose_session(rabbitmq, vhost, connection)
        other.Producer().publish("m", exchange="x", retry=True)
        drain_until(connection, lambda: heard == ["m"], IN_TIME)
        topology = view(connection, "topology")
        assert topology is not None
        assert topology.state is ChildState.DEGRADED
        assert "ACCESS_REFUSED" in (topology.degraded or "")
        rabbitmq.permit(vhost)
        wait_until(lambda: not connection.connect().waiting, timeout=IN_TIME, waiting_for="the permission's effect")
