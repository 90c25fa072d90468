"""The blocking API is never deaf either: its consumers share their channels with the mistakes made over them."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
from amqp import exceptions as amqp_errors

from kombu_actors import Connection, Consumer, Exchange, Message, Producer, Queue
from kombu_actors.common import Broadcast
from kombu_actors.supervisors import ChildState, ChildView
from tests.support.processes import wait_until

from .native import PATIENCE
from .realms import Realm

logger = logging.getLogger(__name__)
AT_ONCE = 1.0
"""Seconds in which what vanished with its channel is back: nothing is in the way."""
IN_TIME = 5.0
"""Seconds from the moment that something can be restored until it is."""


def bad_ack(channel: Any) -> None:
    """A tag that was never delivered: 406."""
    channel.basic_ack(4711)


def refused_publish(channel: Any) -> None:
    """To an exchange that isn't there: 404.  The channel's next call tells of the one before, and does nothing."""
    for _ in range(2):
        with contextlib.suppress(amqp_errors.NotFound):
            Producer(channel).publish("nobody's", exchange="nowhere", routing_key="x")
            return


MISTAKES = pytest.mark.parametrize("mistake", [bad_ack, refused_publish])
QUEUES: dict[str, Callable[[], Queue]] = {
    "auto_delete": lambda: Queue("q", Exchange("x", "fanout", auto_delete=True), auto_delete=True),
    "exclusive": lambda: Queue("q", Exchange("x", "fanout"), exclusive=True),
    "server-named": lambda: Queue("", Exchange("x", "fanout"), exclusive=True),
    "broadcast": lambda: Broadcast("x"),
    "durable": lambda: Queue("q", Exchange("x", "fanout")),
}


class Heard:
    """What a consumer heard; told late, a mistake made over its channel is raised from one of its calls."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.bodies: list[Any] = []

    def __call__(self, message: Message) -> None:
        self.bodies.append(message.payload)
        message.ack_log_error(logger, self.connection.connection_errors + self.connection.channel_errors)

    def knocking(self, publish: Callable[[], object], within: float) -> None:
        """Publish again and again until something is heard."""
        before, deadline = len(self.bodies), time.monotonic() + within
        while len(self.bodies) == before:
            assert time.monotonic() < deadline, f"deaf for {within:g} s"
            publish()
            with contextlib.suppress(TimeoutError, *self.connection.channel_errors):
                self.connection.drain_events(timeout=0.02)


@MISTAKES
@pytest.mark.parametrize("kind", sorted(QUEUES))
def test_a_queue_that_vanished_with_its_channel_is_back_within_a_second(
    realm: Realm, kind: str, mistake: Callable[[Any], None]
) -> None:
    """Whatever killed the channel: the queue is declared again with exchange and binding before it is consumed."""
    with realm.connect() as connection, realm.connect() as other:
        channel, heard = connection.channel(), Heard(connection)
        consumer = Consumer(channel, [QUEUES[kind]()], on_message=heard)
        consumer.consume()
        producer = other.Producer()

        def publish() -> None:
            with contextlib.suppress(
                *other.channel_errors
            ):  # the exchange went with the queue, and is about to be back
                producer.publish("m", exchange="x")

        heard.knocking(publish, PATIENCE)
        for _ in range(3):
            wire = channel.handle.actor.require_live().wire
            mistake(channel)
            wait_until(lambda: wire.closed is not None, timeout=PATIENCE, waiting_for="the channel's death")  # noqa: B023
            heard.knocking(publish, AT_ONCE)


@MISTAKES
def test_a_simple_queue_survives_its_channel(realm: Realm, mistake: Callable[[Any], None]) -> None:
    """Also one whose queue went with it."""
    with realm.connect() as connection, realm.connect() as other:
        made = Queue("simple", Exchange("x", "fanout"), exclusive=True)
        with connection.SimpleQueue(made) as simple:
            producer = other.Producer()
            for _ in range(2):
                wire = simple.channel.handle.actor.require_live().wire
                mistake(simple.channel)
                wait_until(lambda: wire.closed is not None, timeout=PATIENCE, waiting_for="the channel's death")  # noqa: B023
                deadline = time.monotonic() + AT_ONCE
                heard = False
                while not heard:
                    assert time.monotonic() < deadline
                    producer.publish("m", exchange="x")
                    with contextlib.suppress(simple.Empty, *connection.channel_errors, *connection.connection_errors):
                        simple.get(timeout=0.05).ack()
                        heard = True


def view(connection: Connection, path: str) -> ChildView | None:
    """A place in the connection's tree."""
    actor = connection.connect().actor

    async def look() -> ChildView | None:
        return actor.supervisor.snapshot().find(path)

    found: ChildView | None = connection.call(look)
    return found


def test_a_consumer_that_waits_leaves_its_channel_to_the_others(realm: Realm) -> None:
    """Two consumers on one channel; the queue of one is somebody else's, and is deleted: the other one's
    messages in hand stay acknowledgeable, others may join, and the waiting one says why it waits."""
    with realm.connect() as connection, realm.connect() as peer:
        channel = connection.channel()
        held: list[Message] = []
        heard = Heard(connection)
        Queue("theirs")(peer).declare()
        Consumer(channel, [Queue("ours")], on_message=held.append).consume()
        theirs = Consumer(channel, [Queue("theirs", no_declare=True)], on_message=heard, tag_prefix="t")
        theirs.consume()
        tag = theirs._active["theirs"][0]
        peer.Producer().publish("in hand", routing_key="ours")
        while not held:
            connection.drain_events(timeout=PATIENCE)
        path = f"channels/{channel.channel_id}"
        Queue("theirs")(peer).delete()

        def waits() -> bool:
            found = view(connection, f"{path}/consumers/{tag}")
            return found is not None and found.attempt >= 4 and found.state is ChildState.BACKING_OFF

        wait_until(waits, timeout=PATIENCE, waiting_for="four refusals")
        alive = view(connection, f"{path}/channel")
        assert alive is not None
        assert alive.epoch == 1
        held[0].ack()
        later = Heard(connection)
        Consumer(channel, [Queue("later")], on_message=later).consume()
        later.knocking(lambda: peer.Producer().publish("m", routing_key="later"), PATIENCE)
        Queue("theirs")(peer).declare()
        heard.knocking(lambda: peer.Producer().publish("m", routing_key="theirs"), IN_TIME)
        assert Queue("ours")(peer).queue_declare(passive=True).message_count == 0


def test_a_first_subscription_that_is_refused_is_its_callers_and_nobody_elses(realm: Realm) -> None:
    """The refusal is raised; the others on that channel consume on, and nothing is tried again."""
    with realm.connect() as connection, realm.connect() as other:
        channel, heard = connection.channel(), Heard(connection)
        Consumer(channel, [Queue("q", auto_delete=True)], on_message=heard).consume()
        with pytest.raises(amqp_errors.NotFound):
            Consumer(channel, [Queue("nowhere", no_declare=True)], on_message=heard).consume()
        heard.knocking(lambda: other.Producer().publish("m", routing_key="q"), IN_TIME)
        assert len(channel.handle.actor.consumers) == 1
