"""A link that has given its lease back does nothing more in its name."""

from __future__ import annotations

import redis
import trio
import trio.testing

from kombu_actors._values.endpoint import LinkOptions, parse_url
from kombu_actors.broker import open_broker
from kombu_actors.errors import ConnectionClosed
from kombu_actors.transport.redis import RedisTransport
from kombu_actors.transport.redis.link import RedisLink
from tests.support.brokers import RedisNode

PATIENCE = 10.0
PAUSE = 300
"""Milliseconds for which the server answers nothing: what is sent meanwhile queues up there."""


async def test_a_beat_that_falls_due_during_goodbye_is_no_lost_lease(redis_url: str) -> None:
    """The server would refuse it, for there is no such owner any more; the link ends as closed."""
    async with open_broker(redis_url) as broker:
        link = broker._actor.session.require_link()
        assert isinstance(link, RedisLink)
        with redis.Redis.from_url(redis_url) as operator:
            operator.client_pause(PAUSE, all=True)
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(link.aclose)
                await trio.testing.wait_all_tasks_blocked()
                link.keeper._schedule.bring_forward("beat", trio.current_time())
                reason = await link.wait_closed()
    assert isinstance(reason, ConnectionClosed), reason


async def test_a_link_that_is_closed_as_soon_as_it_is_served_gives_its_lease_back(
    redis_server: RedisNode, redis_url: str
) -> None:
    """In whatever turn that is, and whichever task trio lets begin first: its wires have tasks of their own."""
    for turns in (0, 1, 1, 1, 2, 2, 3):
        with trio.fail_after(PATIENCE):
            link = await RedisTransport().connect(parse_url(redis_url), LinkOptions())
            assert redis_server.ask("ZCARD", "_kombu_actors.owners") == 1
            async with trio.open_nursery() as nursery:
                nursery.start_soon(link.run, "keeper")
                for _ in range(turns):
                    await trio.lowlevel.checkpoint()
                await link.aclose()
        assert isinstance(link.closed, ConnectionClosed), link.closed
        assert redis_server.ask("ZCARD", "_kombu_actors.owners") == 0
