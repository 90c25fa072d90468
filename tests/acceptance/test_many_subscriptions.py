"""Many subscriptions of one native broker: they begin in turns, which is for them alone to know (P6, P8)."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from kombu_actors._native.intake import AT_ONCE
from kombu_actors.broker import Broker, QueueSpec, open_broker
from kombu_actors.errors import DeadlineExceeded
from tests.support.processes import free_port

MANY = 2 * AT_ONCE + AT_ONCE // 2


async def subscribe_in_vain(broker: Broker, queue: str, timeout: float) -> None:
    async with broker.subscribe(queue, timeout=timeout):
        raise AssertionError("nobody has granted it")


async def test_more_than_begin_at_a_time_all_get_their_messages() -> None:
    names = [f"q{number}" for number in range(MANY)]
    got: set[str] = set()
    async with open_broker("memory://many-subscriptions") as broker:

        async def serve(name: str) -> None:
            async with broker.subscribe(name) as messages:
                async for message in messages:
                    message.ack()
                    got.add(message.routing_key)
                    return

        for name in names:
            await broker.declare(QueueSpec(name=name))
            await broker.publish(None, routing_key=name)
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for name in names:
                    nursery.start_soon(serve, name)
    assert got == set(names)


@pytest.mark.parametrize("cancelled", [False, True])
async def test_who_waits_for_its_turn_keeps_its_deadline_and_leaves_nothing(*, cancelled: bool) -> None:
    """There is no broker, so none of those before it is granted either."""
    url = f"amqp://127.0.0.1:{free_port()}"
    async with open_broker(url, wait=False, keep_dialling=True) as broker, trio.open_nursery() as nursery:
        for number in range(AT_ONCE):
            nursery.start_soon(subscribe_in_vain, broker, f"q{number}", 60.0)
        await trio.testing.wait_all_tasks_blocked()
        channels = len(broker._actor.channels)
        began = trio.current_time()
        with trio.move_on_after(0.1 if cancelled else 10.0):
            with pytest.raises(DeadlineExceeded, match="last"):
                await subscribe_in_vain(broker, "last", 60.0 if cancelled else 0.1)
        assert trio.current_time() - began < 5
        assert len(broker._actor.channels) == channels == AT_ONCE
        nursery.cancel_scope.cancel()
