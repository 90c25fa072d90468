"""Queues with ``x-expires``: their lists live as long as they do, so nothing stays when nobody is left to end them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from .member import Member, numbers, put, seqs, server_ms, stock, wait_for_server

LIMIT = 60_000
LISTS = ("q", "q\x06\x163", "q\x06\x166", "q\x06\x169")


@pytest.fixture
def member(client: redis.Redis) -> Iterator[Member]:
    member = Member(client).join()
    member.queue("q", {"x-expires": LIMIT})
    yield member
    member.close()


def lives(member: Member, *, shorten: bool = False) -> list[int]:
    """How long the lists live that are there, in ms; shortened, the next look tells if they were renewed."""
    left = [life for life in map(member.client.pttl, LISTS) if life != -2]
    for name in LISTS if shorten else ():
        member.client.pexpire(name, LIMIT // 3)
    return left


def is_renewed(member: Member, lists: int = len(LISTS)) -> None:
    left = lives(member, shorten=True)
    assert len(left) == lists
    assert all(LIMIT / 2 < life <= LIMIT for life in left)


def fill(member: Member) -> None:
    for priority in (0, 3, 6, 9):
        member.publish("q", b"first", priority=priority)
        member.publish("q", b"second", priority=priority)


def test_publishing_getting_and_declaring_renew_the_lists_of_all_priorities(member: Member) -> None:
    """As kombu does; a look at the queue does not."""
    fill(member)
    is_renewed(member)
    member.publish("q", b"third", priority=9)
    is_renewed(member)
    member.get("q", no_ack=True)
    is_renewed(member)
    member.queue("q", {"x-expires": LIMIT})
    is_renewed(member)
    member.queue("q", passive=True)
    assert max(lives(member)) < LIMIT / 2


def test_a_message_that_goes_back_to_an_empty_queue_lives_as_long_as_it(member: Member) -> None:
    """Requeued, or left behind by an owner that died: its list is a new one."""
    member.publish("q", b"m")
    member.settle(requeued=seqs(member.claim("q")))
    is_renewed(member, lists=1)
    heir = member.another().join()
    heir.claim("q")
    assert lives(member) == []
    member.release(heir.owner)
    is_renewed(member, lists=1)
    heir.close()


def test_a_consumer_keeps_what_waits_however_long_it_is_busy(member: Member) -> None:
    """Its queue's lists live far longer, and are seen to by beats, though a stock kombu has shortened their lives."""
    member.consume("q")
    fill(member)
    assert min(lives(member, shorten=True)) > LIMIT
    (due,) = (score for timer, score in member.client.zrange(member.key("timers"), 0, -1, withscores=True))
    assert due <= server_ms(member.client) + LIMIT / 2
    member.client.zadd(member.key("timers"), {"idle q": 1})
    member.beat()
    assert min(lives(member)) > LIMIT
    member.cancel("q")
    is_renewed(member)


def test_a_short_limit_makes_no_haste_while_there_are_consumers(member: Member) -> None:
    """The next beat is seconds away, whatever the limit."""
    member.queue("short", {"x-expires": 10})
    member.consume("short")
    next_timer = member.beat().next_timer
    assert next_timer is not None
    assert next_timer > 1


def test_nothing_is_left_when_nobody_is(member: Member) -> None:
    """Nobody beats: the server ends the lists by itself."""
    member.queue("short", {"x-expires": 30})
    for priority in (0, 3, 6, 9):
        member.publish("short", b"m", priority=priority)
    member.release(member.owner)
    wait_for_server(member.client, server_ms(member.client) + 35)
    assert [name for name in member.client.scan_iter("short*") if member.client.exists(name)] == []


def test_a_queue_without_a_limit_lives_for_ever(member: Member) -> None:
    """No key of its own ever gets a life."""
    member.queue("ever")
    put(member.client, "ever", stock(0), stock(1))
    assert numbers(member.claim("ever")) == ["0"]
    member.publish("ever", b"m")
    assert member.client.pttl("ever") == -1
