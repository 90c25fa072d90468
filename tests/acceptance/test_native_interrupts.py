"""Ctrl-C at random instants in trio-native programs: the short form of ``python -m soak.native_interrupts``."""

from __future__ import annotations

import signal

import pytest
import trio

from kombu_actors.broker import QueueSpec, open_broker
from soak._native_programs import PROGRAMS
from soak.native_interrupts import start_batch, unheard_goodbyes
from tests.support.brokers import RabbitMQNode, RedisNode
from tests.support.processes import wait_until

EACH = 3
"""Interrupts of each program on each transport: a torn line showed in one of three."""


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("transport", ["memory", "amqp", "redis", "-"])
def test_a_program_ends_with_the_interrupt_and_in_order(
    transport: str, times: int, rabbitmq: RabbitMQNode, redis_server: RedisNode
) -> None:
    """A bare ``KeyboardInterrupt`` soon after, children stopped in order, nothing stuck; twice, it just ends."""
    urls = {"memory": "memory://interrupted", "amqp": rabbitmq.url(), "redis": redis_server.url(), "-": "-"}
    names = ",".join(name for name in PROGRAMS if (name == "tree") == (transport == "-"))
    results = start_batch(urls[transport], names, EACH * len(names.split(",")), times, "short")
    assert [result for result in results if result["wrong"]] == []


def test_an_interrupted_program_says_goodbye(rabbitmq: RabbitMQNode) -> None:
    """The broker logs no connection that ended unexpectedly."""

    async def main() -> None:
        async with open_broker(rabbitmq.url()) as broker:
            await broker.declare(QueueSpec(name="interrupted"))
            async with broker.subscribe("interrupted"):
                signal.raise_signal(signal.SIGINT)

    log = len(rabbitmq.log)
    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    wait_until(lambda: "closing AMQP connection" in rabbitmq.log[log:], timeout=10, waiting_for="the broker's log")
    assert unheard_goodbyes(rabbitmq.log[log:]) == 0
