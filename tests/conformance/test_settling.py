"""Delivering, and what a consumer decides about a delivery."""

from __future__ import annotations

from itertools import chain

import pytest
import trio

from kombu_actors.broker import Broker
from kombu_actors.errors import MessageStateError

from .native import PATIENCE, fill, payloads, queue, ready, restarted, take
from .realms import Realm


async def test_prefetch_bounds_what_is_unsettled(broker: Broker) -> None:
    """No more than that are delivered; each settled one, whichever way, makes room for one."""
    await queue(broker, "q")
    await fill(broker, "q", *range(6))
    async with broker.subscribe("q", prefetch=2) as messages:
        first, second = await take(messages, 2)
        assert await ready(broker, "q") == 4
        second.ack()
        (third,) = await take(messages, 1)
        assert (third.payload, await ready(broker, "q")) == (2, 3)
        first.reject()
        third.reject()
        assert [message.payload for message in await take(messages, 2)] == [3, 4]
        assert await ready(broker, "q") == 1


async def test_prefetch_is_each_consumers_own(broker: Broker) -> None:
    """One that is full leaves the rest to the others."""
    await queue(broker, "q")
    async with broker.subscribe("q", prefetch=1) as slow, broker.subscribe("q", prefetch=3) as quick:
        await fill(broker, "q", *range(5))
        assert len(await take(slow, 1) + await take(quick, 3)) == 4
        assert await ready(broker, "q") == 1


async def test_an_acknowledged_message_is_gone(broker: Broker) -> None:
    """Closing the subscription brings back what was not acknowledged, and only that."""
    await queue(broker, "q")
    await fill(broker, "q", *range(4))
    async with broker.subscribe("q") as messages:
        taken = await take(messages, 4)
        for message in taken[1:3]:
            message.ack()
    assert await ready(broker, "q") == 2
    async with broker.subscribe("q") as messages:
        assert await payloads(messages, 2) == [0, 3]


async def test_a_rejected_message_is_dropped(broker: Broker) -> None:
    """Without a dead-letter exchange nobody sees it again."""
    await queue(broker, "q")
    await fill(broker, "q", 1)
    async with broker.subscribe("q") as messages:
        (message,) = await take(messages, 1)
        message.reject()
    assert await ready(broker, "q") == 0


async def test_a_requeued_message_comes_again_marked(broker: Broker) -> None:
    """Before what was published after it, and with ``redelivered`` set; fresh ones don't have it."""
    await queue(broker, "q")
    await fill(broker, "q", 1, 2)
    async with broker.subscribe("q", prefetch=1) as messages:
        (first,) = await take(messages, 1)
        assert not first.redelivered
        first.requeue()
        (again,) = await take(messages, 1)
        assert (again.payload, again.redelivered) == (1, True)
        again.ack()
        (second,) = await take(messages, 1)
        assert (second.payload, second.redelivered) == (2, False)
        second.ack()


async def test_no_ack_is_gone_once_sent(broker: Broker) -> None:
    """The broker bounds nothing and keeps nothing; there is nothing to decide."""
    await queue(broker, "q")
    await fill(broker, "q", *range(3))
    async with broker.subscribe("q", prefetch=1, no_ack=True) as messages:
        taken = await take(messages, 3)
        taken[0].ack()
        with pytest.raises(MessageStateError, match="no_ack"):
            taken[1].reject()
    assert await ready(broker, "q") == 0


async def test_a_message_is_decided_once(broker: Broker) -> None:
    """The second decision raises and sends nothing: the subscription goes on."""
    await queue(broker, "q")
    await fill(broker, "q", 1, 2, 3)
    async with broker.subscribe("q", prefetch=1) as messages:
        for decide in ("ack", "reject", "requeue"):
            (message,) = await take(messages, 1)
            message.ack()
            with pytest.raises(MessageStateError):
                getattr(message, decide)()
    assert await ready(broker, "q") == 0
    assert restarted(broker) == []


async def test_order_is_kept(broker: Broker) -> None:
    """One publisher, one queue, one consumer: as published, over many frames and bodies of all sizes."""
    await queue(broker, "q")
    texts = [str(number) * (1 + 37 * number % 500) for number in range(400)]
    async with broker.subscribe("q", prefetch=7) as messages, trio.open_nursery() as nursery:
        nursery.start_soon(fill, broker, "q", *texts)
        with trio.fail_after(PATIENCE):
            for text in texts:
                assert await payloads(messages, 1) == [text]


async def test_consumers_share_a_queue_in_order(broker: Broker) -> None:
    """Every message goes to one of them; each sees its own in the order published."""
    await queue(broker, "q")
    seen: list[list[int]] = [[], [], []]

    async def consume(index: int, task_status: trio.TaskStatus[None]) -> None:
        async with broker.subscribe("q", prefetch=1) as messages:
            task_status.started()
            async for message in messages:
                seen[index].append(message.payload_as(int))
                message.ack()
                if sum(map(len, seen)) == 60:
                    everything.set()

    everything = trio.Event()
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for index in range(3):
                await nursery.start(consume, index)
            await fill(broker, "q", *range(60))
            await everything.wait()
            nursery.cancel_scope.cancel()
    assert sorted(chain.from_iterable(seen)) == list(range(60))
    assert all(numbers and numbers == sorted(numbers) for numbers in seen)


async def test_a_closed_connection_gives_its_messages_back(realm: Realm, broker: Broker) -> None:
    """In their old order, ahead of the rest, marked."""
    await queue(broker, "q")
    await fill(broker, "q", *range(5))
    async with realm.open_broker() as other, other.subscribe("q", prefetch=3) as messages:
        await take(messages, 3)
    async with broker.subscribe("q") as messages:
        taken = [(message.payload, message.redelivered) for message in await take(messages, 5)]
    assert taken == [(0, True), (1, True), (2, True), (3, False), (4, False)]
