"""A channel that consumes from many queues costs the server what happens in them, not how many they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kombu_actors import Connection, Queue
from kombu_actors.message import Message
from tests.support.brokers import RedisNode

QUEUES = 200
MESSAGES = 20
PATIENCE = 10.0
COMMANDS_MAX = 150
"""The server's commands per message, those in scripts counted: it was 24 for each queue."""


def commands(node: RedisNode) -> int:
    """How many it has executed, those in scripts counted."""
    stats = str(node.ask("INFO", "commandstats"))
    return sum(int(line.partition("calls=")[2].partition(",")[0]) for line in stats.splitlines() if "calls=" in line)


def test_a_message_costs_the_same_however_many_queues_its_consumer_has(own_redis: Callable[..., RedisNode]) -> None:
    """With a prefetch of 1 and a handler that takes its time, so that room comes and goes."""
    node = own_redis()
    received: list[Any] = []
    held: list[Message] = []

    def take(body: Any, message: Message) -> None:
        received.append(body)
        held.append(message)

    with Connection(node.url()) as connection, Connection(node.url()) as other:
        queues = [Queue(f"q{number}") for number in range(QUEUES)]
        producer = other.Producer()
        producer.publish("first", routing_key="q0", declare=queues[:1])
        with connection.Consumer(queues, callbacks=[take], prefetch_count=1):
            connection.drain_events(timeout=PATIENCE)
            held.pop().ack()
            before = commands(node)
            for number in range(MESSAGES):
                producer.publish(number, routing_key=f"q{number * 7 % QUEUES}")
            while len(received) <= MESSAGES:
                connection.drain_events(timeout=PATIENCE)
                held.pop().ack()
            spent = commands(node) - before
    assert (received[0], sorted(received[1:])) == ("first", list(range(MESSAGES)))
    assert spent < COMMANDS_MAX * MESSAGES, f"{spent / MESSAGES:.0f} commands per message"


def test_a_channel_without_room_holds_up_nobody_who_waits_for_its_queues(own_redis: Callable[..., RedisNode]) -> None:
    """It is in the lines of all of them still where it was alone; who comes later gets what comes."""
    node = own_redis()
    received: list[Any] = []
    with Connection(node.url()) as busy, Connection(node.url()) as idle:
        queues = [Queue(f"q{number}") for number in range(3)]
        producer = idle.Producer()
        kept: list[Message] = []
        with busy.Consumer(queues, callbacks=[lambda _, message: kept.append(message)], prefetch_count=1):
            producer.publish("kept", routing_key="q0")
            busy.drain_events(timeout=PATIENCE)
            with idle.Consumer(queues[1:], callbacks=[lambda body, _: received.append(body)], no_ack=True):
                for number in range(10):
                    producer.publish(number, routing_key=f"q{1 + number % 2}")
                while len(received) < 10:
                    idle.drain_events(timeout=PATIENCE)
            kept[0].ack()
    assert sorted(received) == list(range(10))
