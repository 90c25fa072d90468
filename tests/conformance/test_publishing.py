"""What became of a publish, and whom its failure concerns."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import pytest
import trio
from amqp.exceptions import NotFound, PreconditionFailed

from kombu_actors.broker import Broker, ExchangeSpec, QueueSpec
from kombu_actors.errors import PublishRefused, PublishReturned

from .native import PATIENCE, drained, fill, payloads, queue, ready, restarted, to_queue


async def outcomes(*publishes: Awaitable[None]) -> list[str]:
    """Start all publishes at once; what each came to, in their order."""
    results = ["pending"] * len(publishes)

    async def watch(index: int, publish: Awaitable[None]) -> None:
        try:
            await publish
        except Exception as error:
            results[index] = type(error).__name__
        else:
            results[index] = "confirmed"

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for index, publish in enumerate(publishes):
                nursery.start_soon(watch, index, publish)
    return results


async def test_a_confirmed_publish_is_in_the_queue(broker: Broker) -> None:
    """When ``publish`` returns, the broker has it."""
    await queue(broker, "q")
    for number in range(20):
        await fill(broker, "q", number, persistent=bool(number % 2))
        assert await ready(broker, "q") == number + 1


async def test_mandatory_without_a_queue_is_returned(broker: Broker) -> None:
    """Through every kind of exchange; the message names exchange and key."""
    kinds = ("direct", "fanout", "topic", "headers")
    await broker.declare(*(ExchangeSpec(name=f"x-{kind}", type=kind) for kind in kinds))
    for exchange in ("", "x-direct", "x-fanout", "x-topic", "x-headers", "amq.direct"):
        with pytest.raises(PublishReturned, match=f"312 NO_ROUTE.*'{exchange}'.*'nowhere'"):
            await broker.publish("m", exchange=exchange, routing_key="nowhere", mandatory=True)
    await broker.publish("m", exchange="x-direct", routing_key="nowhere")
    assert restarted(broker) == []


async def test_a_return_finds_the_publish_it_belongs_to(broker: Broker) -> None:
    """Among many under way, to the same exchange and to others."""
    await broker.declare(ExchangeSpec(name="x"))
    await queue(broker, "q")
    await broker.declare(to_queue("q", "x", "k"))

    def send(key: str, mandatory: bool = True) -> Awaitable[None]:
        return broker.publish(key, exchange="x", routing_key=key, mandatory=mandatory)

    assert await outcomes(send("k"), send("lost"), send("k"), send("lost", False), send("lost"), send("k")) == [
        "confirmed", "PublishReturned", "confirmed", "confirmed", "PublishReturned", "confirmed",
    ]  # fmt: skip
    assert await ready(broker, "q") == 3


async def test_a_refusal_finds_the_publish_it_belongs_to(broker: Broker) -> None:
    """Queues that are full, queues that are not, under way together."""
    await queue(broker, "full", {"x-max-length": 1, "x-overflow": "reject-publish"})
    await queue(broker, "q")
    await fill(broker, "full", 0)
    publishes = [broker.publish(number, routing_key="full" if number % 3 else "q") for number in range(9)]
    assert await outcomes(*publishes) == ["confirmed", "PublishRefused", "PublishRefused"] * 3
    assert sorted(await drained(broker, "q")) == [0, 3, 6]


async def test_a_refusal_says_what_to_look_at(broker: Broker) -> None:
    """PublishRefused names exchange, key and the likely reason."""
    await queue(broker, "q", {"x-max-length": 0, "x-overflow": "reject-publish"})
    with pytest.raises(PublishRefused, match=r"routing key 'q'.*x-overflow=reject-publish"):
        await fill(broker, "q", 1)


async def test_a_missing_exchange_concerns_its_own_publish_only(broker: Broker) -> None:
    """404 closes the channel under it; every other publish under way arrives, and consumers notice nothing."""
    await queue(broker, "q")
    await broker.declare(ExchangeSpec(name="there"), to_queue("q", "there", "q"))
    async with broker.subscribe("q") as messages:
        publishes = [
            broker.publish(number, exchange="missing" if number in (3, 7) else "there", routing_key="q")
            for number in range(10)
        ]
        expected = ["NotFound" if number in (3, 7) else "confirmed" for number in range(10)]
        assert await outcomes(*publishes) == expected
        got: list[Any] = []
        while len(set(got)) < 8:
            got += await payloads(messages, 1)
        assert set(got) == set(range(10)) - {3, 7}
        with pytest.raises(NotFound, match="'missing'"):
            await broker.publish("m", exchange="missing")
        await fill(broker, "q", "still here")
        while (await payloads(messages, 1)) != ["still here"]:
            pass
    assert set(restarted(broker)) <= {"channel", "consumers"}


async def test_a_declaration_that_differs_concerns_its_caller_only(broker: Broker) -> None:
    """406 with the property that differs; entity, consumers and publishers go on as before."""
    await broker.declare(ExchangeSpec(name="x", type="topic"))
    await queue(broker, "q", {"x-max-length": 10})
    await broker.declare(to_queue("q", "x", "#"))
    refused: list[tuple[ExchangeSpec | QueueSpec, str]] = [
        (ExchangeSpec(name="x", type="direct"), "'type' for exchange 'x'"),
        (ExchangeSpec(name="x", type="topic", durable=False), "'durable' for exchange 'x'"),
        (ExchangeSpec(name="x", type="topic", auto_delete=True), "'auto_delete' for exchange 'x'"),
        (QueueSpec(name="q", durable=False, arguments={"x-max-length": 10}), "'durable' for queue 'q'"),
        (QueueSpec(name="q", arguments={"x-max-length": 11}), "'x-max-length' for queue 'q'"),
        (QueueSpec(name="q"), "'x-max-length' for queue 'q'"),
        (QueueSpec(name="q", arguments={"x-max-length": 10, "x-max-priority": 1}), "'x-max-priority' for queue 'q'"),
    ]
    async with broker.subscribe("q") as messages:
        for spec, says in refused:
            with pytest.raises(PreconditionFailed, match=says):
                await broker.declare(spec)
            await broker.publish(says, exchange="x")
            assert await payloads(messages, 1) == [says]
        await queue(broker, "q", {"x-max-length": 10})
        await broker.declare(ExchangeSpec(name="x", type="topic"))
    assert restarted(broker) == []


async def test_asking_creates_nothing(broker: Broker) -> None:
    """A queue's messages and consumers, or NotFound; 404 disturbs nobody."""
    with pytest.raises(NotFound, match="'q'"):
        await broker.inspect_queue("q")
    with pytest.raises(NotFound, match="'q'"):
        await broker.inspect_queue("q")
    await queue(broker, "q", {"x-max-priority": 2})
    await fill(broker, "q", 1, 2)
    async with broker.subscribe("q", prefetch=1):
        info = await broker.inspect_queue("q")
    assert (info.name, info.messages, info.consumers) == ("q", 1, 1)


async def test_binding_what_is_not_there_is_not_found(broker: Broker) -> None:
    """Queue or exchange, by name."""
    await queue(broker, "q")
    await broker.declare(ExchangeSpec(name="x"))
    with pytest.raises(NotFound, match="exchange 'nox'"):
        await broker.declare(to_queue("q", "nox", "k"))
    with pytest.raises(NotFound, match="queue 'noq'"):
        await broker.declare(to_queue("noq", "x", "k"))
