"""A link that flaps is taken up again at once; a broker that accepts and drops is left alone for longer and longer."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

import pytest
import trio

from kombu_actors.actors.connection import CONNECTION_BACKOFF
from kombu_actors.broker import QueueSpec, open_broker
from kombu_actors.supervisors import Event
from kombu_actors.supervisors.events import ChildReady
from tests.support.proxy import FaultProxy

UPTIME = 1.0
"""Seconds from one reset to the next."""
FLAPS = 6
PROMPT = 0.5
"""Seconds from a reset until a consumer hears again: 0.1 s of waiting at most, and a session on a busy machine."""
WATCHED = 5.0
"""Seconds that a broker which drops its clients is watched."""


@pytest.mark.parametrize("kind", ["amqp", "redis"])
async def test_a_link_that_is_reset_once_a_second_is_back_at_once_each_time(
    kind: str, request: pytest.FixtureRequest, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    """The broker is well, the link isn't: however often it has been reset, the consumer hears again within half a
    second.  Supervision's delays used to grow to 3 s."""
    direct, proxied, proxy = behind_proxy(kind, request, fault_proxy)
    recoveries: list[float] = []
    async with open_broker(proxied) as broker, open_broker(direct) as other:
        await broker.declare(QueueSpec(name="q"))
        async with broker.subscribe("q") as messages:
            for flap in range(FLAPS):
                await trio.sleep(UPTIME)
                proxy.reset()
                began = trio.current_time()
                await other.publish(flap, routing_key="q")
                with trio.fail_after(10):
                    while (message := await anext(messages)).payload != flap:
                        pass
                message.ack()
                recoveries.append(trio.current_time() - began)
    assert max(recoveries) < PROMPT, recoveries


@pytest.mark.parametrize("kind", ["amqp", "redis"])
async def test_a_broker_that_accepts_and_drops_is_not_dialled_in_a_loop(
    kind: str, request: pytest.FixtureRequest, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    """The handshake succeeds and the connection is closed at once: no session comes sooner than the growing delays
    allow, whatever the dice take off them, which is eight in five seconds at most; and when the broker lets its client
    stay it is connected within the cap of 3 s."""
    _, proxied, proxy = behind_proxy(kind, request, fault_proxy)
    dropping = True
    sessions: list[float] = []

    def drop(event: Event) -> None:
        if event.path == "session" and isinstance(event, ChildReady):
            sessions.append(trio.current_time())
            if dropping:
                proxy.reset()

    async with open_broker(proxied, wait=False, listener=drop) as broker:
        await trio.sleep(WATCHED)
        since_first = [at - sessions[0] for at in sessions]
        delays = (CONNECTION_BACKOFF.delay(streak, 1.0) for streak in range(len(sessions) - 1))
        shortest = accumulate(delays, initial=0.0)
        assert all(at >= least for at, least in zip(since_first, shortest, strict=True)), since_first
        assert len(sessions) >= 3
        dropping = False
        with trio.fail_after(3.5):
            await broker.wait_ready()
            await broker.declare(QueueSpec(name="q"))


def behind_proxy(
    kind: str, request: pytest.FixtureRequest, fault_proxy: Callable[[int], FaultProxy]
) -> tuple[str, str, FaultProxy]:
    """The URL of the run's broker, that of a proxy before it, and the proxy."""
    if kind == "amqp":
        node = request.getfixturevalue("rabbitmq")
        vhost: str = request.getfixturevalue("vhost")
        proxy = fault_proxy(node.port)
        return node.url(vhost=vhost), node.url(vhost=vhost, port=proxy.port), proxy
    server = request.getfixturevalue("redis_server")
    proxy = fault_proxy(server.port)
    return request.getfixturevalue("redis_url"), server.url(port=proxy.port), proxy
