"""A memory alarm stops what a fleet publishes, and not what it handles."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import trio

from kombu_actors.broker import QueueSpec, open_broker
from kombu_actors.fleet import Fleet, Message
from tests.fleet.support import PATIENCE, eventually, running
from tests.support.brokers import RabbitMQNode


@pytest.fixture
def node(own_rabbitmq: Callable[..., RabbitMQNode]) -> Iterator[RabbitMQNode]:
    """A node of our own, whose alarm is off again afterwards."""
    node = own_rabbitmq()
    yield node
    node.clear_memory_alarm()


async def test_acks_go_out_while_publishers_are_blocked(node: RabbitMQNode) -> None:
    """Messages that need no publish are handled, and the broker knows it; one whose receipt is blocked is done after
    the alarm."""
    fleet = Fleet(node.url(), name="alarmed")
    alarm, blocked, receipts = trio.Event(), trio.Event(), 0

    @fleet.consumer("plain", concurrency=4)
    async def plain(number: int) -> None:
        await blocked.wait()

    @fleet.consumer("receipted")
    async def receipted(number: int, message: Message) -> None:
        nonlocal receipts
        if number == 2:
            await alarm.wait()
            blocked.set()
        await message.publish("receipts", number, timeout=PATIENCE)
        receipts += 1

    def acked(queue: str) -> int:
        return next(view.count.acked for view in fleet.snapshot().consumers if view.queue == queue)

    async with open_broker(node.url()) as broker, running(fleet) as left:
        await broker.declare(QueueSpec(name="receipts"))
        await broker.publish(1, routing_key="receipted")
        await eventually(lambda: receipts == 1)
        await broker.publish_many(range(50), routing_key="plain")
        await broker.publish(2, routing_key="receipted")
        node.set_memory_alarm()
        alarm.set()
        await eventually(lambda: acked("plain") == 50)
        with trio.fail_after(PATIENCE):
            while node.list_queues()["plain"]["messages"]:  # noqa: ASYNC110  # the broker tells only who asks
                await trio.sleep(0.02)
        assert receipts == 1
        node.clear_memory_alarm()
        await eventually(lambda: receipts == 2)
    assert left.certificate.queues["receipted"].acked == 2
