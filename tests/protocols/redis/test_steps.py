"""No script does more than a step of work, however much there is to do; what is left, anybody goes on with."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis

from kombu_actors.protocols.redis import consuming_calls as calls
from kombu_actors.protocols.redis.consuming_calls import Line

from .member import Member, numbers, put, seqs, server_ms, stock, unacked

MANY = 2500
"""Small messages: more than two steps of them."""
STEPS_MAX = 1000
HALF_A_MEGABYTE = "x" * 500_000


@pytest.fixture
def member(client: redis.Redis) -> Iterator[Member]:
    member = Member(client).join()
    member.queue("q")
    yield member
    member.close()


@pytest.fixture
def other(member: Member) -> Iterator[Member]:
    other = member.another().join()
    yield other
    other.close()


def fill(member: Member, count: int = MANY) -> list[str]:
    with member.client.pipeline(transaction=False) as pipe:
        for number in range(count):
            pipe.lpush("q", stock(number))
        pipe.execute()
    return [str(number) for number in range(count)]


def take_all(member: Member, channel: str = "1") -> list[int]:
    taken: list[int] = []
    while claims := seqs(member.claim("q", count=500, channel=channel)):
        taken += claims
    return taken


def until_done(step: Callable[[], bool]) -> int:
    """How many steps it took."""
    for taken in range(1, STEPS_MAX):
        if step():
            return taken
    raise AssertionError(f"not done after {STEPS_MAX} steps")


def test_what_an_owner_held_goes_back_in_steps_and_in_order(member: Member, other: Member) -> None:
    """Begun by one, gone on with by whoever beats; from the first step on the owner is fenced."""
    expected = fill(member)
    take_all(other)
    assert not member.run(calls.release(other.owner)).done
    assert len(member.raw("q")) < MANY / 2
    with pytest.raises(redis.ResponseError, match=f"FENCED {other.owner}"):
        other.settle(acked=[1])
    third = member.another().join()
    assert until_done(lambda: third.beat().next_timer != 0) >= 2
    assert member.bodies("q") == expected
    assert unacked(member) == {}
    assert not member.client.keys(f"*{other.owner}*")
    third.close()


def test_large_messages_go_back_one_by_one(member: Member, other: Member) -> None:
    """A step is bounded by bytes as well."""
    put(member.client, "q", *(stock(HALF_A_MEGABYTE + str(number)) for number in range(4)))
    other.claim("q", count=4, limit=2**30)
    assert until_done(lambda: member.run(calls.release(other.owner)).done) >= 4
    assert [body[-1:] for body in member.bodies("q")] == ["0", "1", "2", "3"]


def test_nobody_is_given_the_later_ones_before_the_earlier_ones_are_back(member: Member, other: Member) -> None:
    """Who waits for the queue is told at the end; other queues go on."""
    expected = fill(member)
    take_all(other)
    member.queue("r")
    assert not member.run(calls.release(other.owner)).done
    put(member.client, "r", stock("else"))
    claimed = member.claim("q", "r", count=2)
    assert (numbers(claimed), claimed.line) == (["else"], Line.SENTRY)
    assert [int(index) for index in claimed.sentry_for] == [2]
    assert member.hear() == []
    until_done(lambda: member.run(calls.release(other.owner)).done)
    assert member.hear() == ["w 1"]
    assert numbers(member.claim("q", "r", count=3)) == expected[:3]


def test_a_channel_leaves_in_steps(member: Member) -> None:
    """Another channel's claims stay."""
    expected = fill(member)
    kept = seqs(member.claim("q", count=2, channel="2"))
    take_all(member)
    assert until_done(lambda: member.run(calls.leave("1")).done) >= 3
    assert member.bodies("q") == expected[2:]
    assert {seq for _, seq in unacked(member)} == set(kept)


def test_requeues_go_back_in_steps_and_discards_are_left_to_be_sent_again(member: Member) -> None:
    """In order; if their owner dies over it, they go back with all else it held."""
    expected = fill(member)
    taken = take_all(member)
    settled = member.settle(requeued=taken)
    assert (settled.done, list(settled.stale)) == (False, [])
    assert until_done(lambda: member.run(calls.unload()).done) >= 2
    assert member.bodies("q") == expected
    taken = take_all(member)
    settled = member.settle(discarded=taken)
    assert 0 < len(settled.unreached) < MANY
    assert not member.settle(requeued=settled.unreached).done
    until_done(lambda: member.run(calls.release(member.owner)).done)
    assert member.bodies("q") == expected[-len(settled.unreached) :]


def test_the_bindings_of_what_ends_go_in_steps(member: Member) -> None:
    """Meanwhile nothing is put into the list of a queue that is gone, and what is bound anew stays."""
    member.exchange("e", "topic")
    member.exchange("auto", "direct", auto_delete=True)
    for number in range(1200):
        member.bind("e", "q", f"key.{number}")
    member.bind("auto", "q", "a")
    table = "_kombu.binding.e"
    member.delete_queue("q")
    left = member.client.scard(table)
    assert 0 < left < 1200
    assert member.hear()[-1] == "b"
    for number in range(50):
        member.publish(f"key.{number}", b"late", "e")
    assert member.client.exists("q") == 0
    member.queue("q")
    member.bind("e", "q", "key.7")
    until_done(lambda: member.beat().next_timer != 0)
    assert member.client.scard(table) == 1
    assert member.client.hkeys(member.key("exchanges")) == [b"e"]
    for number in range(1200):
        member.bind("e", "q", f"key.{number}")
    member.delete_exchange("e")
    assert member.client.exists(table) == 0
    member.exchange("e", "topic")
    member.bind("e", "q", "key.7")
    until_done(lambda: member.beat().next_timer != 0)
    assert member.client.smembers(member.key("bound.q:q")) == {
        b'["e","t","key.7\\u0006\\u0016^key\\\\.7$\\u0006\\u0016q"]'
    }
    member.delete_queue("q")
    assert not member.client.keys(member.key("debris*"))


def test_claims_are_renewed_in_steps(member: Member) -> None:
    """By one beat after another."""
    claims = [str(seq) for seq in range(1, 40_001)]
    member.client.hset(member.key(f"claims.{member.owner}"), mapping=dict.fromkeys(claims, "1 sq"))
    member.client.zadd("unacked_index", dict.fromkeys((f"{member.owner}:{seq}" for seq in claims), 1))
    assert member.beat().next_timer == 0
    assert member.client.zcount("unacked_index", 1, 1) > 0
    until_done(lambda: member.beat(renew=False).next_timer != 0)
    assert member.client.zcount("unacked_index", 1, 1) == 0


def test_a_clock_that_goes_back_keeps_no_dead_owner_alive(member: Member, other: Member) -> None:
    """Leases, and whose turn it is to look for the dead, were noted by a clock that was an hour ahead."""
    put(member.client, "q", stock(0))
    other.claim("q")
    ahead = server_ms(member.client) + 3_600_000
    for owner in (member.owner, other.owner):
        member.client.zadd(member.key("owners"), {owner: ahead})
    member.client.set(member.key("beaten"), ahead)
    member.client.set(member.key("watch"), ahead)
    assert [owner.owner for owner in member.beat(lease=0.05).owners] == [other.owner]
    while member.client.zscore(member.key("owners"), other.owner) is not None:
        member.beat(lease=0.05)
    assert member.bodies("q") == ["0"]
