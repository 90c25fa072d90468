"""What is measured on Redis, beside stock kombu.  Both have hiredis."""

from __future__ import annotations

from .cases import PREFETCH, Broker, Case, Contender, Goal, Start

IDLE_CONSUMERS = 200
IDLE_SECONDS = 10
IDLE_CONNECTIONS = 500
QUEUES = 1_000


def _both(program: str) -> tuple[Contender, Contender]:
    return Contender("kombu", program, "kombu"), Contender("kombu_actors", program, "kombu_actors")


REDIS_CASES = (
    Case(
        name="redis-publish",
        title="publish; ours until all are confirmed, kombu's one by one",
        contenders=_both("on_redis:publish"),
        start=Start.EMPTY,
        messages=10_000,
        goals=(Goal("cpu", 0.20), Goal("rate"), Goal("server")),
        broker=Broker.REDIS,
    ),
    Case(
        name="redis-publish-batched",
        title="the same, kombu's in batches of its own (Producer.batch)",
        contenders=(
            Contender("kombu", "on_redis:publish_batched", "kombu"),
            Contender("kombu_actors", "on_redis:publish", "kombu_actors"),
        ),
        start=Start.EMPTY,
        messages=10_000,
        goals=(Goal("cpu"), Goal("rate"), Goal("server")),
        broker=Broker.REDIS,
    ),
    Case(
        name="redis-consume",
        title=f"consume, decode and acknowledge, prefetch {PREFETCH}",
        contenders=_both("on_redis:consume"),
        start=Start.FULL,
        messages=10_000,
        goals=(Goal("cpu", 0.20), Goal("rate", 5.0, at_least=True), Goal("server")),
        broker=Broker.REDIS,
    ),
    Case(
        name="redis-connect",
        title="connect, publish one message, release",
        contenders=_both("on_redis:connect"),
        start=Start.EMPTY,
        messages=200,
        goals=(Goal("p50", 2.0), Goal("cpu")),
        broker=Broker.REDIS,
    ),
    Case(
        name="redis-idle",
        title=f"a consumer of an empty queue, for {IDLE_SECONDS} s",
        contenders=_both("on_redis:idle"),
        start=Start.PRIVATE,
        messages=0,
        goals=(Goal("idle", 1.0, of_ours=True),),
        broker=Broker.REDIS,
        lengthy=True,
    ),
    Case(
        name="redis-idle-connections",
        title=f"{IDLE_CONNECTIONS} connections, each with a consumer of one empty queue, for {IDLE_SECONDS} s",
        contenders=_both("redis_many:idle_connections"),
        start=Start.PRIVATE,
        messages=0,
        sizes=(IDLE_CONNECTIONS,),
        goals=(Goal("idle"), Goal("server")),
        broker=Broker.REDIS,
        lengthy=True,
    ),
    Case(
        name="redis-queues",
        title=f"a consumer of {QUEUES:,} queues on one channel; publish to receipt of a lone message",
        contenders=_both("redis_many:queues"),
        start=Start.PRIVATE,
        messages=300,
        sizes=(QUEUES,),
        goals=(Goal("subscribed", 2.0, of_ours=True), Goal("p50", 3.0), Goal("server")),
        broker=Broker.REDIS,
        lengthy=True,
    ),
    Case(
        name="redis-latency",
        title="publish to receipt of a lone message by another process, its only consumer",
        contenders=_both("redis_fleet:one"),
        start=Start.PRIVATE,
        messages=300,
        goals=(Goal("p50"), Goal("p99")),
        broker=Broker.REDIS,
        lengthy=True,
    ),
    Case(
        name="redis-latency-channels",
        title=f"the same with {IDLE_CONSUMERS} idle consumers on the queue: 50 channels on a connection, 4 processes",
        contenders=_both("redis_fleet:channels"),
        start=Start.PRIVATE,
        messages=300,
        goals=(Goal("p50"), Goal("p99")),
        broker=Broker.REDIS,
        lengthy=True,
    ),
    Case(
        name="redis-latency-links",
        title=f"the same with {IDLE_CONSUMERS} connections of a channel each, 4 processes",
        contenders=_both("redis_fleet:links"),
        start=Start.PRIVATE,
        messages=300,
        goals=(Goal("p50"), Goal("p99")),
        broker=Broker.REDIS,
        lengthy=True,
    ),
    Case(
        name="redis-fleet",
        title=f"publish to {IDLE_CONSUMERS} consumers of one queue; channels as above, CPU of all",
        contenders=_both("redis_fleet:busy_channels"),
        start=Start.PRIVATE,
        messages=5_000,
        goals=(Goal("cpu"), Goal("rate"), Goal("server")),
        broker=Broker.REDIS,
        lengthy=True,
    ),
    Case(
        name="redis-fleet-links",
        title=f"the same with {IDLE_CONSUMERS} connections",
        contenders=_both("redis_fleet:busy_links"),
        start=Start.PRIVATE,
        messages=5_000,
        goals=(Goal("cpu"), Goal("rate"), Goal("server")),
        broker=Broker.REDIS,
        lengthy=True,
    ),
)
