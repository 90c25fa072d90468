"""One prefix for everything: databases are shared by it, and a hash tag in it puts all keys into one slot."""

from __future__ import annotations

import trio

from kombu_actors.broker import BindingKind, BindingSpec, ExchangeSpec, QueueSpec, open_broker
from tests.support.brokers import RedisNode

PATIENCE = 10.0


async def test_every_key_has_the_prefix(redis_server: RedisNode, redis_url: str) -> None:
    """Lists, claims, leases, tables, timers: whatever is there while messages are queued, claimed and expiring."""
    options = {"global_keyprefix": "{orders}.", "durable_fanout": True}
    async with open_broker(redis_url, transport_options=options) as broker:
        await broker.declare(
            ExchangeSpec(name="news", type="fanout"),
            ExchangeSpec(name="topics", type="topic"),
            ExchangeSpec(name="labels", type="headers"),
            QueueSpec(name="q", arguments={"x-dead-letter-exchange": "news", "x-expires": 60_000}),
            QueueSpec(name="dead", exclusive=True),
            BindingSpec(kind=BindingKind.QUEUE, source="news", destination="dead"),
            BindingSpec(kind=BindingKind.QUEUE, source="topics", destination="q", routing_key="a.#"),
            BindingSpec(kind=BindingKind.QUEUE, source="labels", destination="q", arguments={"colour": "red"}),
            BindingSpec(kind=BindingKind.EXCHANGE, source="topics", destination="labels", routing_key="b"),
        )
        async with broker.subscribe("q", prefetch=2) as messages, broker.subscribe("dead") as dead:
            for priority in (0, 5, 9):
                await broker.publish("m", exchange="topics", routing_key="a.b", priority=priority, expiration=60)
            with trio.fail_after(PATIENCE):
                (await anext(messages)).reject()
                await anext(messages)
                await anext(dead)
            keys = redis_server.ask("KEYS", "*")
    assert len(keys) > 15
    assert [key for key in keys if not key.startswith(b"{orders}.")] == []
