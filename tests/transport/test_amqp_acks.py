"""Acks that leave together: one frame where everything before them is settled, and never a delivery too many."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial

import trio

from kombu_actors._values.endpoint import LinkOptions, parse_url
from kombu_actors._values.model import ConsumerSpec, Delivery, QueueSpec, Sent
from kombu_actors.transport.amqp import AMQPTransport
from kombu_actors.transport.amqp.channel import AMQPChannel
from kombu_actors.transport.amqp.link import AMQPLink
from tests.support_amqp_server import served

transport = AMQPTransport()
SEEDS = 40
COUNT = 24
"""Messages of one draw."""


async def connect(url: str) -> AMQPLink:
    return await transport.connect(parse_url(url), LinkOptions(connect_timeout=20))


async def deliver(channel: AMQPChannel, queue: str) -> None:
    """Have messages 1 to COUNT delivered, with these tags."""
    await channel.queue_declare(QueueSpec(name=queue))
    await channel.queue_purge(queue)
    properties = {"delivery_mode": 1, "headers": {}}
    for number in range(1, COUNT + 1):
        channel.publish(
            transport.prepare(b"%d" % number, exchange="", routing_key=queue, properties=properties, mandatory=False)
        )
    await receive(channel, queue, COUNT)


async def receive(channel: AMQPChannel, queue: str, count: int) -> list[Delivery]:
    """Consume until so many have come."""
    deliveries: list[Delivery] = []
    complete = trio.Event()

    def sink(batch: Sequence[Delivery]) -> None:
        deliveries.extend(batch)
        if len(deliveries) >= count:
            complete.set()

    await channel.consume(ConsumerSpec(tag="c", queue=queue), sink, lambda: None)
    with trio.fail_after(10):
        await complete.wait()
    return deliveries


def ack_now(channel: AMQPChannel, tag: int) -> None:
    """As a thread does, past what waits if nothing does."""
    if channel.ack_now(tag) is Sent.NOTHING:
        channel.ack(tag)


def settle_at_random(rng: random.Random, channel: AMQPChannel) -> set[int]:
    """Settle some of what was delivered, each once, in some order, by whatever method; returns what is gone then."""
    left, done = list(range(1, COUNT + 1)), set[int]()
    if rng.random() < 0.5:
        rng.shuffle(left)

    def take(count: int) -> list[int]:
        taken, left[:count] = left[:count], []
        return taken

    while left and rng.random() < 0.93:
        many = take(rng.randint(1, 6))
        how = rng.choice(["each", "each", "one by one", "one by one", "now", "reject", "requeue", "multiple"])
        if how == "each":
            channel.ack_each(many)
        elif how == "multiple":
            up_to = max(many)
            channel.ack(up_to, multiple=True)
            many += [tag for tag in left if tag < up_to]
            left[:] = [tag for tag in left if tag > up_to]
        else:
            acts: dict[str, Callable[[int], object]] = {
                "one by one": channel.ack,
                "now": partial(ack_now, channel),
                "reject": channel.reject,
                "requeue": lambda tag: channel.reject(tag, requeue=True),
            }
            for tag in many:
                acts[how](tag)
        if how != "requeue":
            done.update(many)
    return done


async def test_what_was_acknowledged_and_nothing_else_is_gone(amqp_url: str) -> None:
    """Whatever the order, and whatever else is settled between: the rest is in the queue when the channel is closed."""
    async with served(await connect(amqp_url)) as link:
        for seed in range(SEEDS):
            channel = await link.open_channel()
            await deliver(channel, "acks")
            done = settle_at_random(random.Random(seed), channel)
            await channel.aclose()
            other = await link.open_channel()
            left = set(range(1, COUNT + 1)) - done
            back = await receive(other, "acks", len(left)) if left else []
            assert {int(delivery.body) for delivery in back} == left, f"seed {seed}"
            assert (await other.queue_declare(QueueSpec(name="acks"), passive=True)).messages == 0, f"seed {seed}"
            await other.aclose()


async def test_acks_of_all_there_is_are_one_frame(amqp_url: str) -> None:
    """In order or not, as long as nothing before them is left; else each is a frame of its own."""
    async with served(await connect(amqp_url)) as link:
        channel = await link.open_channel()
        await deliver(channel, "acks")
        waiting = link.engine.sender._waiting
        frames: list[int] = []
        for tags in ([1, 2, 3], [5, 4, 6], [8, 9], [7], [10, 11]):
            channel.ack_each(tags)
            frames.append(len(waiting))
            waiting.clear()
        assert frames == [1, 1, 2, 1, 2]


async def test_acks_in_order_are_one_frame_until_it_leaves(amqp_url: str) -> None:
    """Also one by one; what is sent between them stays where it is, and what has left stays said."""
    async with served(await connect(amqp_url)) as link:
        channel = await link.open_channel()
        await deliver(channel, "acks")
        waiting = link.engine.sender._waiting
        for tag in (1, 2, 3):
            channel.ack(tag)
        assert len(waiting) == 1
        channel.reject(4)
        channel.ack(5)
        channel.ack(6)
        assert len(waiting) == 3
        link.flush()
        assert not waiting
        channel.ack(7)
        assert len(waiting) == 1
        await channel.aclose()
        assert (await (await link.open_channel()).queue_declare(QueueSpec(name="acks"), passive=True)).messages == (
            COUNT - 7
        )
