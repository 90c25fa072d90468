"""With ``maxmemory`` reached Redis takes nothing in: what is there must be got out all the same, none of it lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis

from kombu_actors.protocols.redis.consuming_calls import Line
from tests.support.brokers import RedisNode

from .member import Member, numbers, ours, put, reasons, seqs, stock, unacked


@pytest.fixture
def member(own_redis: Callable[..., RedisNode]) -> Iterator[Member]:
    """On a server of its own, which the test fills."""
    with redis.Redis.from_url(own_redis().url(), protocol=3) as client:
        member = Member(client).join()
        member.queue("q")
        member.queue("mortal", {"x-dead-letter-exchange": "dlx"})
        put(client, "q", *(stock(n) for n in range(20)))
        put(client, "mortal", ours(100, expires=1), ours(101, expires=1), stock(102))
        member.consume("q")
        member.beat()
        yield member
        member.close()


def fill(member: Member) -> None:
    member.client.config_set("maxmemory", "1")
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        member.client.lpush("q", b"refused")
    with pytest.raises(redis.exceptions.ResponseError, match="maxmemory"):  # 6.2 has a script's errors in others
        member.publish("q", b"refused")


def test_a_full_server_serves_its_consumers(member: Member) -> None:
    """Claims, polls, settlements, deaths, beats, arrivals and departures: every script but those that publish."""
    early = seqs(member.claim("q", count=4))
    other = member.another()
    fill(member)
    other.join()
    other.consume("q")
    member.beat()
    member.settle(acked=early[:1], requeued=early[1:2], discarded=early[2:3])
    assert numbers(other.claim("q", count=3)) == ["1", "4", "5"]
    assert member.get("q").remaining == 13
    claimed = member.claim("mortal", count=5)
    assert (numbers(claimed), reasons(claimed.deaths)) == (["102"], [("100", "expired"), ("101", "expired")])
    assert claimed.line is Line.SENTRY
    assert member.quarantine(seqs(claimed)[0])
    assert member.release(other.owner) == 3
    assert member.leave().returned == 2
    other.close()
    assert member.bodies("q") == ["3", "6", "1", "4", "5", *map(str, range(7, 20))]
    assert sorted(unacked(member).values()) == ["100", "101"]


def test_what_may_be_the_first_write_is_allowed(member: Member) -> None:
    """A death that is recorded, a timer that is set: before anything was taken out."""
    member.queue("idle", {"x-expires": 10**6})
    member.queue("limited", {"x-queue-type": "quorum", "x-delivery-limit": 1, "x-dead-letter-exchange": "dlx"})
    put(member.client, "limited", ours(0, returns=1), ours(1, returns=1))
    claims = [*seqs(member.claim("mortal")), *seqs(member.claim("limited"))]
    member.claim("limited", channel="2")
    member.consume("idle")
    fill(member)
    assert reasons(member.settle(discarded=claims[:1]).deaths) == [("102", "rejected")]
    assert reasons(member.settle(requeued=claims[1:]).deaths) == [("0", "delivery_limit")]
    assert reasons(member.leave("2").deaths) == [("1", "delivery_limit")]
    assert member.get("idle").raw is None
    member.claim("idle")
    member.cancel("idle")
    assert member.release(member.owner) == 5


def test_who_waits_is_served_on_a_full_server(member: Member) -> None:
    """Lines form and move on, on queues that are empty, too."""
    fill(member)
    member.client.delete("q")
    assert [member.claim("q", channel=channel).line for channel in "abc"] == [Line.SENTRY, Line.SENTRY, Line.WAITING]
    member.leave("a")
    assert member.hear() == ["w c"]


def test_messages_expire_and_come_back_on_a_full_server(member: Member) -> None:
    """An overdue owner's, stock kombu's, and those whose time is over."""
    other = member.another().join()
    other.claim("q", count=5)
    member.client.zadd(member.key("owners"), {other.owner: 1})
    member.client.zadd(member.key("timers"), {"ttl mortal": 1})
    member.client.hset("unacked", "tag", b"[" + stock("stock") + b', "", "q"]')
    member.client.zadd("unacked_index", {"tag": 1})
    fill(member)
    assert reasons(member.beat().deaths) == [("100", "expired"), ("101", "expired")]
    assert member.bodies("q") == ["stock", *map(str, range(20))]
    other.close()
