"""What ends: messages by time to live and limits, queues by disuse, entities with their owners."""

from __future__ import annotations

from datetime import datetime
from math import inf

import pytest
from amqp import exceptions as amqp_errors

from kombu_actors._values.model import BindingKind, BindingSpec
from kombu_actors.protocols.virtual import VirtualBroker

from .client import Client, connect

DEAD = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}


@pytest.fixture
def broker() -> VirtualBroker:
    return VirtualBroker(epoch=1_000_000.0)


@pytest.fixture
def client(broker: VirtualBroker) -> Client:
    client = connect(broker)
    client.queue("dead")
    return client


def test_messages_expire_on_time_and_not_before(broker: VirtualBroker, client: Client) -> None:
    """The shorter of the queue's and the message's own time to live, to the deadline announced."""
    client.queue("q", {"x-message-ttl": 5000, **DEAD})
    client.publish("q", b"own", expiration="2000")
    client.publish("q", b"queue's", expiration="9000")
    assert broker.next_deadline == 2.0
    broker.advance(1.999)
    assert client.look("q") == (2, 0)
    broker.advance(2.0)
    assert client.look("q") == (1, 0)
    assert broker.next_deadline == 5.0
    broker.advance(5.0)
    assert client.look("q") == (0, 0)
    assert broker.next_deadline == inf
    assert client.drain("dead") == [b"own", b"queue's"]
    assert broker.memory == 0


def test_expired_messages_wait_behind_living_ones(broker: VirtualBroker, client: Client) -> None:
    """As in RabbitMQ's classic queues only the head is looked at; but nothing expired is delivered."""
    client.queue("q")
    client.publish("q", b"long", expiration="9000")
    client.publish("q", b"short", expiration="1000")
    broker.advance(3.0)
    assert client.look("q") == (2, 0)
    assert client.drain("q") == [b"long"]


def test_an_immediate_expiry_needs_an_immediate_consumer(client: Client) -> None:
    """Time to live 0: to a consumer with room, or nowhere."""
    client.queue("q", {"x-message-ttl": 0})
    client.publish("q", b"lost")
    client.consume("q", prefetch=1)
    client.publish("q", b"got")
    client.publish("q", b"no room")
    assert client.bodies() == [b"got"]
    assert client.look("q") == (0, 1)


def test_requeued_messages_keep_their_expiry(broker: VirtualBroker, client: Client) -> None:
    """An unacknowledged message does not expire; once back it does."""
    client.queue("q", {"x-message-ttl": 1000, **DEAD})
    client.publish("q", b"1")
    client.consume("q")
    broker.advance(5.0)
    client.channel.cancel("t")
    client.channel.nack(1)
    assert client.drain("dead") == [b"1"]


def test_unused_queues_expire(broker: VirtualBroker, client: Client) -> None:
    """``x-expires``: declaring, polling and consuming are use; publishing is not."""
    client.queue("q", {"x-expires": 1000})
    broker.advance(0.9)
    client.get("q")
    broker.advance(1.8)
    client.queue("q", {"x-expires": 1000})
    broker.advance(2.7)
    client.consume("q")
    broker.advance(10.0)
    assert client.look("q") == (0, 1)
    client.channel.cancel("t")
    client.publish("q", b"no use")
    broker.advance(10.9)
    assert "q" in broker.topology.queues
    broker.advance(11.0)
    assert "q" not in broker.topology.queues
    assert broker.memory == 0


def test_dropping_from_the_head(client: Client) -> None:
    """``x-max-length`` and ``x-max-length-bytes`` count what waits, not what is out."""
    client.queue("q", {"x-max-length": 2, **DEAD})
    for number in range(4):
        client.publish("q", b"%d" % number)
    assert client.look("q") == (2, 0)
    assert client.drain("dead") == [b"0", b"1"]
    client.queue("b", {"x-max-length-bytes": 5})
    for body in (b"123", b"45", b"6"):
        client.publish("b", body)
    assert client.drain("b") == [b"45", b"6"]


def test_refusing_when_full(client: Client) -> None:
    """``reject-publish`` nacks; runs of one outcome are confirmed together."""
    client.queue("q", {"x-max-length": 2, "x-overflow": "reject-publish"})
    client.channel.confirm_select()
    for number in range(4):
        client.publish("q", b"%d" % number)
    client.get("q", no_ack=True)
    client.publish("q", b"4")
    assert client.heard() == [("confirm", 2, True, True), ("confirm", 4, True, False), ("confirm", 5, False, True)]
    assert client.drain("q") == [b"1", b"4"]


def test_returns_come_before_their_confirm(client: Client) -> None:
    """Mandatory and unroutable: ``basic.return``, then ``basic.ack``, in the order of publishing."""
    client.channel.confirm_select()
    client.publish("dead", b"1")
    client.publish("nowhere", b"2", mandatory=True)
    client.publish("dead", b"3")
    assert client.heard() == [("confirm", 1, False, True), ("return", 312, b"2"), ("confirm", 3, True, True)]


def test_a_dead_letter_tells_its_story(broker: VirtualBroker, client: Client) -> None:
    """``x-death`` counts per queue and reason; the first death is remembered; expiration is taken off."""
    client.queue("q", {"x-message-ttl": 1000, **DEAD})
    client.publish("q", b"1", expiration="500", delivery_mode=2, headers={"mine": 1})
    broker.advance(2.0)
    dead = client.get("dead")
    assert dead is not None
    assert dead.exchange == ""
    assert dead.routing_key == "dead"
    assert dead.properties == {
        "delivery_mode": 2,
        "headers": {
            "mine": 1,
            "x-death": [
                {
                    "count": 1,
                    "reason": "expired",
                    "queue": "q",
                    "time": datetime(1970, 1, 12, 13, 46, 42),  # noqa: DTZ001, RUF100 - naive UTC, as py-amqp decodes
                    "exchange": "",
                    "routing-keys": ["q"],
                    "original-expiration": "500",
                }
            ],
            "x-first-death-exchange": "",
            "x-first-death-queue": "q",
            "x-first-death-reason": "expired",
        },
    }


@pytest.mark.parametrize("forged", ["text", [1, {}], [{"queue": "q", "reason": "rejected", "count": "many"}]])
def test_forged_deaths_do_no_harm(client: Client, forged: object) -> None:
    """``x-death`` comes from clients too; whatever they write there, the letter arrives."""
    client.queue("q", DEAD)
    client.publish("q", b"1", headers={"x-death": forged})
    client.get("q")
    client.channel.reject(1)
    dead = client.get("dead")
    assert dead is not None
    assert dead.properties["headers"]["x-death"][0]["count"] == 1


def test_letters_that_go_round_by_themselves_are_dropped(broker: VirtualBroker, client: Client) -> None:
    """A circle of expiries ends after one round; one with a rejection in it goes on."""
    client.queue("x", {"x-message-ttl": 0, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "y"})
    client.queue("y", {"x-message-ttl": 0, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "x"})
    client.publish("x", b"1")
    assert broker.memory == 0
    client.queue("wait", {"x-message-ttl": 1000, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "work"})
    client.queue("work", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "wait"})
    client.publish("work", b"2")
    for attempt in range(1, 4):
        delivery = client.get("work")
        assert delivery is not None
        client.channel.reject(delivery.delivery_tag)
        broker.advance(float(attempt))
    last = client.get("work")
    assert last is not None
    assert [(death["reason"], death["count"]) for death in last.properties["headers"]["x-death"]] == [
        ("expired", 3),
        ("rejected", 3),
    ]


def test_a_thousand_dead_letter_queues_in_a_row(broker: VirtualBroker, client: Client) -> None:
    """Each passes on to the next at once: a queue of work, not a stack."""
    for number in range(1500):
        arguments = {"x-message-ttl": 0, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"q{number + 1}"}
        client.queue(f"q{number}", arguments)
    client.queue("q1500")
    client.publish("q0", b"far")
    assert client.drain("q1500") == [b"far"]


def test_exclusive_queues_belong_to_their_session(broker: VirtualBroker, client: Client) -> None:
    """405 for others, gone with the owner, bindings included; anybody may publish to it."""
    other = connect(broker)
    name = client.queue("", exclusive=True).name
    assert name == "amq.gen-fresh"
    client.bind("amq.fanout", name)
    with pytest.raises(amqp_errors.ResourceLocked):
        other.look(name)
    assert other.heard() == [("ChannelClosed", 405)]
    client.session.close()
    assert name not in broker.topology.queues
    assert not broker.topology.exchanges["amq.fanout"].bindings


def test_auto_delete_goes_with_the_last_user(broker: VirtualBroker, client: Client) -> None:
    """Queues with their last consumer, exchanges with their last binding; never before the first."""
    client.queue("q", auto_delete=True)
    client.exchange("x", auto_delete=True)
    client.exchange("y", auto_delete=True)
    client.bind("y", "q", "k")
    client.channel.exchange_bind(BindingSpec(kind=BindingKind.EXCHANGE, source="x", destination="y"))
    client.consume("q")
    client.channel.close()
    assert not {"q"} & set(broker.topology.queues)
    assert not {"x", "y"} & set(broker.topology.exchanges)


def test_a_restart_keeps_what_is_durable_and_persistent(broker: VirtualBroker, client: Client) -> None:
    """Connections end with 320; transient queues, exchanges and messages are gone; order stays."""
    client.queue("kept", durable=True)
    client.queue("lost", durable=False)
    client.exchange("x", durable=False)
    client.bind("x", "kept", "k")
    for number in range(3):
        client.publish("kept", b"%d" % number, delivery_mode=2)
    client.publish("kept", b"transient", delivery_mode=1)
    client.get("kept")
    broker.restart(5.0)
    assert client.heard() == [("SessionClosed", 320)]
    after = connect(broker)
    assert "lost" not in broker.topology.queues
    assert "x" not in broker.topology.exchanges
    assert after.drain("kept") == [b"0", b"1", b"2"]


def test_too_much_memory_stops_publishers_only(broker: VirtualBroker) -> None:
    """The one who publishes during the alarm is blocked, after that message; draining ends it."""
    broker = VirtualBroker(memory_limit=10_000)
    publisher, consumer = connect(broker), connect(broker)
    publisher.queue("q")
    for _ in range(3):
        publisher.publish("q", b"x" * 4000)
    assert publisher.heard() == [("blocked", "low on memory")]
    assert publisher.session.blocked
    consumer.consume("q")
    assert len(consumer.read()) == 3
    assert publisher.heard() == []
    consumer.channel.ack(2, multiple=True)
    assert publisher.heard() == [("blocked", None)]
    assert not consumer.session.blocked


def test_stale_timers_do_not_pile_up(broker: VirtualBroker, client: Client) -> None:
    """A hundred thousand earlier and earlier expiries leave a handful of timers."""
    client.queue("q")
    for number in range(5_000):
        client.publish("q", expiration=str(10_000_000 - number))
        client.get("q", no_ack=True)
    assert len(broker.upkeep.timers._heap) < 200
