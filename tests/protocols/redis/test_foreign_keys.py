"""A key of a queue's name that holds something else: its own callers get the error, and no message is lost for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from .member import Member, body, numbers, ours, put, seqs, stock, unacked


@pytest.fixture
def member(client: redis.Redis) -> Iterator[Member]:
    member = Member(client).join()
    for name in ("q", "r", "bad"):
        member.queue(name)
    yield member
    member.close()


@pytest.mark.parametrize("share", [False, True])
def test_what_was_taken_from_other_queues_is_handed_out(member: Member, share: bool) -> None:
    """Then the error is told, when there is nothing else to tell."""
    put(member.client, "q", stock(0))
    put(member.client, "r", stock(1))
    put(member.client, "bad", stock(2))
    member.client.set("bad\x06\x163", "somebody else's")
    claimed = member.claim("q", "bad", "r", count=5, share=share)
    assert sorted(numbers(claimed)) == ["0", "1", "2"]
    assert len(claimed.messages) <= 5
    assert sorted(unacked(member).values()) == ["0", "1", "2"]
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        member.claim("q", "bad", "r", count=5, share=share)


def test_the_count_holds_when_one_queue_fails_halfway(member: Member) -> None:
    """What it gave before it failed counts."""
    put(member.client, "bad", stock(0), stock(1))
    member.client.set("bad\x06\x163", "somebody else's")
    put(member.client, "q", *(stock(n) for n in range(2, 9)))
    assert numbers(member.claim("bad", "q", count=4)) == ["0", "1", "2", "3"]


def test_a_message_without_a_way_back_is_kept_aside(member: Member) -> None:
    """And the others of its owner, or of its batch, go where they belong."""
    put(member.client, "bad", stock(0), stock(1))
    put(member.client, "q", stock(2), stock(3))
    claims = seqs(member.claim("q", "bad", count=4))
    member.client.set("bad", "somebody else's")
    member.settle(requeued=[claims[0], claims[2]])
    assert member.release(member.owner) == 2
    assert member.bodies("q") == ["3", "2"]
    kept = member.client.lrange(member.key("undecodable"), 0, -1)
    assert [body(raw.partition(b"\x06\x16")[2]) for raw in kept] == ["1", "0"]
    assert unacked(member) == {}


def test_a_beat_goes_on(member: Member) -> None:
    """One queue's timer fails alone."""
    put(member.client, "q", ours(0, expires=1))
    member.client.set("bad", "somebody else's")
    member.client.zadd(member.key("timers"), {"ttl bad": 1, "ttl q": 2})
    assert member.beat().next_timer is None
    assert member.raw("q") == []


def test_an_unreadable_record_of_a_queue_loses_nothing_of_others(member: Member) -> None:
    """Nobody writes such, but a script that fails isn't undone: what it had taken is recorded first."""
    put(member.client, "q", stock(0))
    put(member.client, "r", stock(1))
    member.client.hset(member.key("queues"), "bad", "1{")
    assert numbers(member.claim("q", "bad", "r", count=5)) == ["0", "1"]
    with pytest.raises(redis.ResponseError):
        member.claim("q", "bad", "r", count=5)
    assert sorted(unacked(member).values()) == ["0", "1"]


def test_an_owner_that_cannot_be_ended_harms_no_other_lease(member: Member) -> None:
    """Its record of a claim was overwritten: others' beats go on, and it is ended when that is mended."""
    other = member.another().join()
    put(member.client, "q", stock(0))
    other.claim("q")
    good = member.client.hget("unacked", f"{other.owner}:1") or b""
    member.client.hset("unacked", f"{other.owner}:1", "somebody else's")
    member.client.zadd(member.key("owners"), {other.owner: 1})
    member.beat()
    member.beat()
    member.client.hset("unacked", f"{other.owner}:1", good)
    member.beat()
    assert member.bodies("q") == ["0"]
    assert unacked(member) == {}
    other.close()
