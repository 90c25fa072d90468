"""Leases: a dead owner's messages come back in order, and nothing it still had under way takes effect."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from kombu_actors.protocols.redis import consuming_calls as calls
from kombu_actors.protocols.redis.calls import Death
from kombu_actors.protocols.redis.consuming_calls import Line

from .member import Member, body, numbers, ours, put, reasons, seqs, server_ms, stock, unacked, wait_for_server


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


def owners(member: Member) -> set[str]:
    return {owner.decode() for owner in member.client.zrange(member.key("owners"), 0, -1)}


def overdue(other: Member) -> None:
    """Let a lease end, by the server's clock."""
    other.beat(lease=0.005)
    wait_for_server(other.client, server_ms(other.client) + 10)


def test_the_claims_of_an_overdue_owner_come_back_in_order(member: Member, other: Member) -> None:
    """To the heads of their lists, when anybody beats; the owner's late calls are refused."""
    put(member.client, "q", *(stock(n) for n in range(6)))
    put(member.client, "q\x06\x163", stock(6), stock(7))
    other.claim("q", count=3)
    member.claim("q", count=1)
    other.claim("q", count=3)
    overdue(other)
    assert other.client.zscore(member.key("owners"), other.owner) is not None
    member.beat()
    assert member.bodies("q") == ["0", "1", "2", "4", "5", "6", "7"]
    assert set(unacked(member).values()) == {"3"}
    with pytest.raises(redis.ResponseError, match=f"FENCED {other.owner}"):
        other.settle(acked=[1])
    assert owners(member) == {member.owner}
    assert not member.client.keys(f"*{other.owner}*")


def test_a_late_beat_saves_a_lease_that_nobody_ended(member: Member, other: Member) -> None:
    """Overdue is not over: as long as its claims are its own, it may go on."""
    put(member.client, "q", stock(0))
    (seq,) = seqs(other.claim("q"))
    overdue(other)
    other.beat()
    member.beat()
    assert other.settle(acked=[seq]).stale == []


def test_a_successor_takes_its_predecessors_place_at_once(member: Member, other: Member) -> None:
    """A program that lost its link has its messages back without waiting for the lease."""
    put(member.client, "q", stock(0), stock(1))
    other.claim("q", count=2)
    successor = member.another().join(predecessor=other.owner)
    assert numbers(successor.claim("q", count=2)) == ["0", "1"]
    successor.close()


def test_goodbye_returns_everything_and_may_be_said_twice(member: Member, other: Member) -> None:
    """A released owner is gone; releasing it again finds nothing."""
    put(member.client, "q", stock(0), stock(1))
    other.claim("q", count=2)
    assert other.release(other.owner) == 2
    assert other.release(other.owner) == 0
    assert member.release(other.owner) == 0
    assert member.bodies("q") == ["0", "1"]


def test_what_an_owner_alone_had_ends_with_it(member: Member, other: Member) -> None:
    """Exclusive queues, with what was claimed from them; auto-delete queues with their last consumer."""
    other.queue("own", exclusive=True)
    other.queue("auto", auto_delete=True)
    other.queue("shared", auto_delete=True)
    for name in ("own", "auto", "shared"):
        other.consume(name, "1", f"tag/of {name}")
    member.consume("shared")
    other.publish("own", b"0")
    other.publish("auto", b"1")
    other.claim("own", "auto", count=5)
    assert member.release(other.owner) == 2
    assert {name.decode() for name in member.client.hkeys(member.key("queues"))} == {"q", "shared"}
    assert (member.bodies("own"), member.bodies("auto"), unacked(member)) == ([], [], {})
    member.cancel("shared")
    assert member.client.hkeys(member.key("queues")) == [b"q"]


def test_a_channel_that_closes_leaves_the_others_what_is_theirs(member: Member) -> None:
    """Its claims go back, its consumers end; another channel's stay."""
    member.queue("auto", auto_delete=True)
    put(member.client, "q", *(stock(n) for n in range(4)))
    member.consume("auto", "1")
    member.consume("q", "2")
    kept = seqs(member.claim("q", count=1, channel="2"))
    member.claim("q", count=2, channel="1")
    assert member.leave("1").returned == 2
    assert member.bodies("q") == ["1", "2", "3"]
    assert member.client.hkeys(member.key("queues")) == [b"q"]
    assert member.client.hlen(member.key("consumers.q")) == 1
    assert member.settle(acked=kept).stale == []
    assert member.leave("1").returned == 0


def test_a_dead_owner_is_out_of_line_and_the_next_is_woken(member: Member, other: Member) -> None:
    """A dead sentry doesn't make its queue deaf."""
    third = member.another().join()
    for waiter, channel in ((other, "a"), (other, "b"), (third, "c"), (third, "d"), (third, "e")):
        waiter.claim("q", channel=channel)
    member.release(other.owner)
    assert third.hear() == ["w c", "w d"]
    assert [third.claim("q", channel=channel).line for channel in "cd"] == [Line.SENTRY] * 2
    third.close()


CALLS: dict[str, Callable[[Member], Any]] = {
    "beat": lambda member: member.beat(),
    "release": lambda member: member.release("0" * 32),
    "leave": lambda member: member.leave(),
    "consume": lambda member: member.consume("q"),
    "cancel": lambda member: member.cancel("q"),
    "claim": lambda member: member.claim("q"),
    "get": lambda member: member.get("q"),
    "settle": lambda member: member.settle([1], [2], [3]),
    "quarantine": lambda member: member.quarantine(1),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_fenced_call_changes_nothing(member: Member, other: Member, name: str) -> None:
    """Whatever an owner sends after its lease was ended."""
    put(member.client, "q", *(stock(n) for n in range(5)))
    other.claim("q", count=3)
    other.lose_lease()
    before = member.everything()
    with pytest.raises(redis.ResponseError, match=f"FENCED {other.owner}"):
        CALLS[name](other)
    assert member.everything() == before


def test_a_beat_keeps_claims_from_being_restored(member: Member) -> None:
    """Their scores are the server's time, as stock kombu compares them with its own."""
    put(member.client, "q", *(stock(n) for n in range(1200)))
    member.claim("q", count=1200, limit=2**30)
    for field in member.client.zrange("unacked_index", 0, -1):
        member.client.zadd("unacked_index", {field: 1})
    member.beat(renew=False)
    assert member.client.zcount("unacked_index", 1, 1) == 1200
    start = server_ms(member.client) / 1000
    member.beat(renew=True)
    scores = [score for _, score in member.client.zrange("unacked_index", 0, -1, withscores=True)]
    assert start <= min(scores) <= max(scores) <= server_ms(member.client) / 1000


def test_a_beat_never_revives_a_claim_that_was_restored(member: Member) -> None:
    """Only what is in the index is renewed there."""
    put(member.client, "q", stock(0))
    member.claim("q")
    member.client.delete("unacked", "unacked_index")
    member.beat()
    assert not member.client.exists("unacked", "unacked_index")


def test_messages_expire_where_nobody_consumes(member: Member) -> None:
    """When their time has come, a beat lets them die; the next timer says when to beat again."""
    member.queue("mortal", {"x-dead-letter-exchange": "dlx", "x-message-ttl": 20})
    member.publish("mortal", b"", expiration="10")
    member.publish("mortal", b"")
    first = member.beat()
    assert first.next_timer is not None
    assert 0 <= first.next_timer <= 0.02
    deaths: list[Death] = []
    while len(deaths) < 2:
        beaten = member.beat()
        deaths += beaten.deaths
        if beaten.next_timer:
            wait_for_server(member.client, server_ms(member.client) + round(beaten.next_timer * 1000))
    assert [(death.queue, death.reason, death.exchange) for death in deaths] == [("mortal", "expired", "dlx")] * 2
    assert member.beat().next_timer is None
    assert (member.bodies("mortal"), len(unacked(member))) == ([], 2)


def test_only_heads_expire_and_the_timer_is_that_of_the_next(member: Member) -> None:
    """Of each list; what is behind a living message waits its turn, as with RabbitMQ."""
    now = server_ms(member.client)
    put(member.client, "q", ours(0, expires=now), ours(1, expires=now + 40_000), ours(2, expires=now))
    put(member.client, "q\x06\x163", ours(3, expires=now), ours(4, expires=now + 50_000))
    put(member.client, "q\x06\x166", ours(5), ours(6, expires=now))
    member.client.zadd(member.key("timers"), {"ttl q": now})
    wait_for_server(member.client, now)
    beaten = member.beat()
    assert member.bodies("q") == ["1", "2", "4", "5", "6"]
    assert beaten.deaths == []
    assert beaten.next_timer == pytest.approx(40, abs=1)


def test_an_unused_queue_ends_and_a_used_one_does_not(member: Member) -> None:
    """x-expires: consumers keep it; when the last one went, its time begins."""
    member.queue("idle", {"x-expires": 20})
    member.consume("idle")
    member.publish("idle", b"0")
    for _ in range(2):
        wait_for_server(member.client, server_ms(member.client) + 25)
        member.beat()
        assert member.bodies("idle") == [b"0"]
    member.client.zadd(member.key("timers"), {"idle idle": 1})
    member.cancel("idle")
    member.beat()
    assert member.bodies("idle") == [b"0"]
    wait_for_server(member.client, server_ms(member.client) + 25)
    member.beat()
    assert member.bodies("idle") == []
    assert member.client.hkeys(member.key("queues")) == [b"q"]


def test_one_at_a_time_looks_for_dead_clients(member: Member, other: Member) -> None:
    """Who beats first is told of all others and how they are connected; the next one only after a while."""
    (told,) = member.beat().owners
    assert told == calls.Owner(other.owner, int(other.client.client_id()), "run", told.silent)
    assert 0 <= told.silent < 10
    assert other.beat().owners == []
    wait_for_server(member.client, int(member.client.get(member.key("watch")) or 0) + 900)
    assert [owner.owner for owner in other.beat().owners] == [member.owner]


def test_who_beats_is_told_for_how_long_the_others_have_been_silent(member: Member, other: Member) -> None:
    """Since their last renewal, whatever their lease; it counts as long if the clock was put back since."""
    other.beat()
    wait_for_server(member.client, server_ms(member.client) + 30)
    member.client.delete(member.key("watch"))
    (told,) = member.beat().owners
    assert 0.03 <= told.silent < 1
    member.client.zincrby(member.key("owners"), 3_600_000, other.owner)
    member.client.delete(member.key("watch"))
    (told,) = member.beat(lease=40).owners
    assert told.silent == 40


def test_a_beat_ends_some_owners_and_the_next_the_others(member: Member) -> None:
    """Each within a bounded time."""
    many = [member.another() for _ in range(7)]
    for each in many:
        each.join(lease=0.001)
        each.close()
    wait_for_server(member.client, server_ms(member.client) + 5)
    member.beat()
    assert len(owners(member)) == 3
    member.beat()
    assert owners(member) == {member.owner}


def test_the_dead_letters_of_the_dead_die_again(member: Member, other: Member) -> None:
    """An owner that died before it buried what expired: the message goes back, and the next claimer buries it."""
    member.queue("mortal", {"x-dead-letter-exchange": "dlx"})
    put(member.client, "mortal", ours(0, expires=1))
    assert reasons(other.claim("mortal").deaths) == [("0", "expired")]
    assert list(unacked(member)) == [(other.owner, 1)]
    member.release(other.owner)
    assert reasons(member.claim("mortal").deaths) == [("0", "expired")]
    assert list(unacked(member)) == [(member.owner, 1)]
    assert body(member.client.hget("unacked", f"{member.owner}:1")[1:].rpartition(b', "", ')[0]) == "0"
