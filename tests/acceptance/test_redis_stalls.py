"""A server that stands still is no reason to take anybody's messages away."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from kombu_actors.broker import QueueSpec, open_broker
from tests.support.brokers import RedisNode

LEASE = 1.0
STALL = 3.0
"""Seconds: three leases."""
PATIENCE = 10.0


@pytest.mark.slow
async def test_a_server_that_stood_still_fences_nobody(own_redis: Callable[..., RedisNode]) -> None:
    """Nobody could renew a lease meanwhile, so overdue leases mean nothing: whoever comes back first must not take
    the others for dead, and every message stays with its consumer."""
    node = own_redis()
    options = {"lease": LEASE}
    async with (
        open_broker(node.url(), transport_options=options) as one,
        open_broker(node.url(), transport_options=options) as other,
    ):
        await one.declare(QueueSpec(name="q"))
        async with one.subscribe("q", prefetch=1) as ones, other.subscribe("q", prefetch=1) as others:
            for number in range(2):
                await one.publish(number, routing_key="q")
            with trio.fail_after(PATIENCE):
                taken = [await anext(ones), await anext(others)]
            node.sigstop()
            await trio.sleep(STALL)
            node.sigcont()
            with trio.fail_after(PATIENCE):
                for message in taken:
                    message.ack()
                for broker in (one, other):
                    await broker.publish("after", routing_key="q")
                again = [await anext(ones), await anext(others)]
            assert [message.payload for message in again] == ["after", "after"]
            for message in again:
                message.ack()
        assert (await one.inspect_queue("q")).messages == 0
    assert node.ask("HLEN", "unacked") == 0
