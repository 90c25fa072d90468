"""Who gets what, when, how often: turns, prefetch, acknowledgement, redelivery."""

from __future__ import annotations

import time

import pytest
from amqp import exceptions as amqp_errors

from kombu_actors._values.model import ConsumerSpec
from kombu_actors.protocols.virtual import VirtualBroker
from kombu_actors.protocols.virtual._session import OUTGOING_BYTES, OUTGOING_LIMIT

from .client import Client, connect


@pytest.fixture
def broker() -> VirtualBroker:
    return VirtualBroker()


@pytest.fixture
def client(broker: VirtualBroker) -> Client:
    client = connect(broker)
    client.queue("q")
    return client


def fill(client: Client, count: int, queue: str = "q") -> list[bytes]:
    bodies = [b"%d" % number for number in range(count)]
    for body in bodies:
        client.publish(queue, body)
    return bodies


def test_consumers_take_turns(broker: VirtualBroker, client: Client) -> None:
    """Round robin over connections."""
    other = connect(broker)
    client.consume("q")
    other.consume("q")
    fill(client, 6)
    assert client.bodies() == [b"0", b"2", b"4"]
    assert other.bodies() == [b"1", b"3", b"5"]


def test_prefetch_bounds_what_is_unacknowledged(client: Client) -> None:
    """Never more than the limit, and one more for each acknowledged."""
    client.consume("q", prefetch=2)
    fill(client, 5)
    assert client.bodies() == [b"0", b"1"]
    client.channel.ack(1)
    assert client.bodies() == [b"2"]
    client.channel.ack(3, multiple=True)
    assert client.bodies() == [b"3", b"4"]


def test_a_client_that_does_not_read_gets_no_more_than_its_share(broker: VirtualBroker, client: Client) -> None:
    """What waits for a stuck connection is bounded; the rest stays in the queue, for others too."""
    client.consume("q", no_ack=True)
    fill(client, OUTGOING_LIMIT + 500)
    assert client.look("q") == (500, 1)
    other = connect(broker)
    other.consume("q", "u")
    assert len(other.bodies()) == 500
    fill(client, 10)
    other.session.close()
    assert len(client.bodies()) == OUTGOING_LIMIT
    assert len(client.bodies()) == 510


def test_the_share_of_a_client_that_does_not_read_is_bounded_in_bytes(client: Client) -> None:
    """Few large messages weigh as much as many small ones."""
    client.consume("q", no_ack=True)
    large = b"x" * (OUTGOING_BYTES // 4)
    for _ in range(10):
        client.publish("q", large)
    assert client.look("q") == (6, 1)
    assert len(client.bodies()) == 4
    assert client.look("q") == (2, 1)
    assert len(client.bodies()) == 4
    assert len(client.bodies()) == 2


def test_messages_return_to_their_place(client: Client) -> None:
    """Requeued in any order, redelivered in the first, marked as redelivered."""
    fill(client, 4)
    tags = {}
    for _ in range(3):
        delivery = client.get("q")
        assert delivery is not None
        assert not delivery.redelivered
        tags[delivery.body] = delivery.delivery_tag
    for body in (b"2", b"0", b"1"):
        client.channel.reject(tags[body], requeue=True)
    again = [client.get("q") for _ in range(4)]
    assert [(each.body, each.redelivered) for each in again if each] == [
        (b"0", True),
        (b"1", True),
        (b"2", True),
        (b"3", False),
    ]


def test_closing_gives_back_everything_once(broker: VirtualBroker, client: Client) -> None:
    """A dead connection's deliveries are redelivered, whether it had read them or not."""
    client.consume("q", prefetch=3)
    bodies = fill(client, 5)
    client.bodies()
    client.channel.ack(2)
    client.session.close()
    other = connect(broker)
    other.consume("q")
    seen = other.read()
    assert [each.body for each in seen] == [bodies[0], *bodies[2:]]
    assert [each.redelivered for each in seen] == [True, True, True, False]


def test_an_unknown_tag_closes_the_channel_and_only_that(broker: VirtualBroker, client: Client) -> None:
    """406, told as an effect because acks have no reply."""
    other = client.session.open_channel(2)
    fill(client, 1)
    client.consume("q")
    client.channel.ack(1)
    client.channel.ack(1)
    assert client.heard() == [("ChannelClosed", 406)]
    assert "unknown delivery tag 1" in str(client.channel.closed)
    assert other.closed is None
    client.channel.ack(7)
    client.publish("q", b"ignored")
    assert client.heard() == []
    with pytest.raises(amqp_errors.PreconditionFailed):
        client.look("q")


@pytest.mark.parametrize("multiple", [False, True])
def test_many_unacknowledged_are_settled_in_linear_time(client: Client, multiple: bool) -> None:
    """Forty thousand deliveries, half settled one by one, then the others."""
    client.consume("q")
    for _ in range(40):
        fill(client, 1000)
        client.read()
    began = time.perf_counter()
    for tag in range(1, 40_001, 2):
        client.channel.ack(tag)
    for tag in range(2, 40_001, 2):
        client.channel.ack(tag, multiple=multiple)
    assert time.perf_counter() - began < 3.0  # linear takes 0.05 s, quadratic 40 s
    assert client.channel.closed is None
    assert not client.channel.unacked.entries
    assert client.broker.memory == 0


def test_global_prefetch_counts_the_whole_channel(client: Client) -> None:
    """``basic.qos`` with global=true, polls not counted."""
    client.queue("r")
    client.channel.qos(prefetch_count=2, apply_global=True)
    client.channel.consume(ConsumerSpec(tag="a", queue="q"), None)
    client.channel.consume(ConsumerSpec(tag="b", queue="r"), None)
    client.publish("q", b"1")
    client.publish("r", b"2")
    client.publish("q", b"3")
    assert client.bodies() == [b"1", b"2"]
    client.channel.ack(1)
    assert client.bodies() == [b"3"]
    client.publish("r", b"4")
    assert client.bodies() == []
    client.channel.qos(prefetch_count=3, apply_global=True)
    assert client.bodies() == [b"4"]


def test_priority_consumers_come_first_while_they_have_room(broker: VirtualBroker, client: Client) -> None:
    """``x-priority``: higher first; lower ones when the higher are full."""
    other = connect(broker)
    client.consume("q", prefetch=0)
    other.consume("q", prefetch=2, arguments={"x-priority": 10})
    fill(client, 4)
    assert other.bodies() == [b"0", b"1"]
    assert client.bodies() == [b"2", b"3"]


def test_one_active_consumer_until_it_goes(broker: VirtualBroker, client: Client) -> None:
    """``x-single-active-consumer``: others stand by, also through a dead connection."""
    client.queue("s", {"x-single-active-consumer": True})
    standby = connect(broker)
    client.consume("s", prefetch=1)
    standby.consume("s")
    fill(client, 3, "s")
    assert client.bodies() == [b"0"]
    assert standby.bodies() == []
    client.session.close()
    assert standby.bodies() == [b"0", b"1", b"2"]


def test_a_cancelled_consumer_may_still_acknowledge(client: Client) -> None:
    """What it has stays with the channel, and its acks move nobody."""
    client.consume("q", prefetch=1)
    fill(client, 2)
    assert client.bodies() == [b"0"]
    client.channel.cancel("t")
    client.channel.ack(1)
    assert client.channel.closed is None
    assert client.drain("q") == [b"1"]


def test_deleting_a_queue_tells_its_consumers(broker: VirtualBroker, client: Client) -> None:
    """``basic.cancel`` to each; what is unacknowledged can be acknowledged in vain."""
    other = connect(broker)
    client.consume("q")
    fill(client, 1)
    assert client.bodies() == [b"0"]
    assert other.channel.queue_delete("q") == 0
    assert client.heard() == [("cancelled", "t")]
    client.channel.nack(1)
    assert client.channel.closed is None
    assert broker.memory == 0


def test_recover_redelivers_to_whoever_consumes(client: Client) -> None:
    """``basic.recover`` with requeue; without it the connection ends, as RabbitMQ's does."""
    client.consume("q", prefetch=2)
    fill(client, 2)
    client.read()
    client.channel.recover(requeue=True)
    assert [(each.body, each.redelivered) for each in client.read()] == [(b"0", True), (b"1", True)]
    with pytest.raises(amqp_errors.AMQPNotImplementedError):
        client.channel.recover(requeue=False)
    assert client.heard() == [("SessionClosed", 540)]
    assert client.broker.sessions == {}


def test_quorum_queues_count_deliveries_and_give_up() -> None:
    """``x-delivery-count`` from the second delivery on; beyond ``x-delivery-limit`` it is a dead letter."""
    client = connect(VirtualBroker())
    client.queue("dead")
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": 2, "x-dead-letter-exchange": ""}
    client.queue("q", {**arguments, "x-dead-letter-routing-key": "dead"})
    client.publish("q", b"poison")
    counts = []
    for _ in range(3):
        delivery = client.get("q")
        assert delivery is not None
        counts.append((delivery.properties.get("headers") or {}).get("x-delivery-count"))
        client.channel.nack(delivery.delivery_tag)
    assert counts == [None, 1, 2]
    dead = client.get("dead")
    assert dead is not None
    assert dead.properties["headers"]["x-first-death-reason"] == "delivery_limit"
