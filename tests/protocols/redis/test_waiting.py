"""Who waits for a queue: some hear of arrivals themselves, the others are woken in turn, nobody in vain."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis

from kombu_actors.protocols.redis.consuming_calls import Line

from .member import Member, numbers, ours, put, seqs, server_ms, stock


@pytest.fixture
def member(client: redis.Redis) -> Iterator[Member]:
    member = Member(client).join()
    for name in ("q", "r"):
        member.queue(name)
    yield member
    member.close()


def line(member: Member, queue: str = "q") -> list[str]:
    """Channels in line, the first one first; those on their way in front, in parentheses."""
    return [
        f"({waiter.decode().rpartition('/')[2]})" if score < 0 else waiter.decode().rpartition("/")[2]
        for waiter, score in member.client.zrange(member.key(f"waiting.{queue}"), 0, -1, withscores=True)
    ]


def sentries(member: Member, queue: str = "q") -> set[str]:
    return {waiter.decode().rpartition("/")[2] for waiter in member.client.smembers(member.key(f"sentries.{queue}"))}


def test_the_first_two_of_a_line_are_its_sentries(member: Member) -> None:
    """However many wait, an arrival tells two; a third comes when one of them goes."""
    claims = [member.claim("q", channel=channel) for channel in "abcd"]
    assert [claimed.line for claimed in claims] == [Line.SENTRY, Line.SENTRY, Line.WAITING, Line.WAITING]
    assert [list(claimed.sentry_for) for claimed in claims] == [[1], [1], [], []]
    assert (line(member), sentries(member)) == (["a", "b", "c", "d"], {"a", "b"})
    assert member.hear() == []
    put(member.client, "q", stock(0))
    assert numbers(member.claim("q", channel="a")) == ["0"]
    assert (line(member), sentries(member)) == (["(c)", "b", "d"], {"b"})
    assert member.hear() == ["w c"]
    assert member.claim("q", channel="b").line is Line.SENTRY
    assert member.hear() == []
    assert member.claim("q", channel="c").line is Line.SENTRY
    assert (line(member), sentries(member)) == (["b", "c", "d"], {"b", "c"})
    assert member.hear() == []


def test_who_came_in_vain_keeps_its_place_and_who_was_served_goes_to_the_end(member: Member) -> None:
    """So everybody gets something in turn, whoever is quickest."""
    for channel in "abcd":
        member.claim("q", channel=channel, count=3)
    member.claim("q", channel="b", count=3)
    assert line(member) == ["a", "b", "c", "d"]
    put(member.client, "q", stock(0))
    claimed = member.claim("q", channel="a", count=3)
    assert (numbers(claimed), claimed.line) == (["0"], Line.WAITING)
    assert (line(member), sentries(member)) == (["(c)", "b", "d", "a"], {"b"})
    assert member.hear() == ["w c"]


def test_a_served_sentry_stays_one_if_nobody_else_could_be(member: Member) -> None:
    """Alone, or with the other sentry, there is nobody to yield to."""
    for channel in "ab":
        member.claim("q", channel=channel, count=3)
        put(member.client, "q", stock(0))
        assert member.claim("q", channel=channel, count=3).line is Line.SENTRY
    assert (sentries(member), member.hear()) == ({"a", "b"}, [])


def test_as_many_are_woken_as_messages_are_left_and_each_once(member: Member) -> None:
    """The first in line first; who is on its way already isn't woken again by the next claim."""
    for channel in "abcdefg":
        member.claim("q", channel=channel)
    put(member.client, "q", *(stock(n) for n in range(5)))
    member.claim("q", channel="b")
    assert member.hear() == ["w a", "w c", "w d", "w e"]
    member.claim("q", channel="e")
    member.claim("q", channel="d")
    assert member.hear() == []
    put(member.client, "q", stock(5))
    member.claim("q", channel="c")
    assert member.hear() == ["w f"]
    assert (line(member), member.bodies("q")) == (["(f)", "(a)", "g"], ["4", "5"])
    member.claim("q", channel="a")
    assert member.hear() == ["w g"]  # a sentry to come: both were messages ago


def test_those_who_wait_share_what_there_is(member: Member) -> None:
    """A claim takes its part of a queue that others wait for too, at least one message, and comes back for more."""
    others = [member.another().join() for _ in range(3)]
    for waiter in (member, *others):
        waiter.claim("q", count=100)
    put(member.client, "q", *(stock(n) for n in range(10)))
    shares = [len(waiter.claim("q", count=100).messages) for waiter in (member, *others)]
    assert shares == [3, 2, 2, 1]
    assert len(member.raw("q")) == 2
    assert member.hear() == ["w 1"]
    assert [waiter.hear()[-1] for waiter in others] == ["w 1"] * 3
    assert [len(waiter.claim("q", count=100).messages) for waiter in (others[2], member, others[0])] == [1, 1, 0]
    for waiter in others:
        waiter.close()


def test_a_claimer_takes_all_when_nobody_waits(member: Member) -> None:
    """The busy don't wait: they have had what they have room for."""
    busy = member.another().join()
    put(member.client, "q", *(stock(n) for n in range(10)))
    assert len(busy.claim("q", count=2).messages) == 2
    assert len(member.claim("q", count=100).messages) == 8
    busy.close()


def test_who_has_no_room_leaves_every_line(member: Member) -> None:
    """Filled by one queue, a channel waits for none; those behind it learn of what is left in each."""
    for channel in "abc":
        member.claim("q", "r", channel=channel)
    put(member.client, "q", stock(0))
    put(member.client, "r", stock(1))
    claimed = member.claim("q", "r", channel="a")
    assert (numbers(claimed), claimed.line) == (["0"], Line.AWAY)
    assert (line(member, "q"), line(member, "r")) == (["(c)", "b"], ["(b)", "c"])
    assert sorted(member.hear()) == ["w b", "w c"]
    assert member.claim("q", "r", channel="b", count=0).line is Line.AWAY
    assert (line(member, "q"), line(member, "r")) == (["(c)"], ["(c)"])
    assert member.hear() == ["w c"]


@pytest.mark.parametrize(
    "go",
    [
        lambda member, channel: member.leave(channel),
        lambda member, channel: member.cancel("q", channel),
        lambda member, channel: member.claim("q", channel=channel, count=0),
        lambda member, channel: member.claim("q", channel=channel),
    ],
    ids=["leave", "cancel", "no room", "served"],
)
def test_whoever_goes_passes_the_baton(member: Member, go: Callable[[Member, str], object]) -> None:
    """Sentries, and those who were woken, leave somebody behind who hears of what is there."""
    for channel in "abcde":
        member.consume("q", channel)
        member.claim("q", channel=channel)
    put(member.client, "q", *(stock(n) for n in range(7)))
    coming = {"a", "b"}
    for _ in range(4):
        channel = coming.pop()
        go(member, channel)
        coming |= {said.removeprefix("w ") for said in member.hear()}
        assert coming, "nobody comes"


def test_a_channel_with_another_consumer_there_stays_in_line(member: Member) -> None:
    """Its cancellation is the end of one subscription, not of the channel's waiting."""
    member.consume("q", "a", "one")
    member.consume("q", "a", "two")
    member.claim("q", channel="a")
    member.cancel("q", "a", "one")
    assert line(member) == ["a"]
    member.cancel("q", "a", "two")
    assert line(member) == []


def test_the_dead_are_found_when_they_are_woken(member: Member) -> None:
    """Nobody listens for them, so they are out of the line at once, and the next one is woken, not when leases end."""
    dead = [member.another().join() for _ in range(3)]
    member.claim("q", channel="busy")
    for waiter in dead:
        waiter.claim("q")
        waiter.close()
    member.claim("q", channel="last")
    put(member.client, "q", *(stock(n) for n in range(4)))
    assert len(member.claim("q", channel="busy").messages) == 1
    assert member.hear() == ["w last"]
    assert (line(member), sentries(member)) == (["(last)"], set())


def test_messages_that_come_back_find_the_sentries(member: Member) -> None:
    """They change the list that sentries watch: a requeue needs no wake, and gives none."""
    other = member.another().join()
    put(member.client, "q", stock(0))
    claims = seqs(other.claim("q"))
    member.claim("q")
    other.settle(requeued=claims)
    assert (member.hear(), member.bodies("q"), sentries(member)) == ([], ["0"], {"1"})
    other.close()


def test_a_claim_cut_short_by_its_bytes_is_not_in_line(member: Member) -> None:
    """It comes again by itself; others may come for what is left."""
    for channel in "abc":
        member.claim("q", channel=channel, count=10)
    put(member.client, "q", *(stock(n) for n in range(6)))
    claimed = member.claim("q", channel="a", count=10, limit=1)
    assert (len(claimed.messages), claimed.line) == (1, Line.AWAY)
    assert line(member) == ["(b)", "(c)"] or line(member) == ["(c)", "(b)"]
    assert member.hear() == ["w b", "w c"]


def test_a_message_without_lifetime_is_kept_for_who_waits(member: Member) -> None:
    """Expiration 0: it dies unless somebody waits, who gets a moment to fetch it."""
    member.publish("q", b"missed", expiration="0")
    assert member.bodies("q") == []
    member.claim("q")
    member.publish("q", b"caught", expiration="0")
    assert len(member.claim("q").messages) == 1
    put(member.client, "q", ours(0, expires=server_ms(member.client) + 10**6))
    assert numbers(member.claim("q")) == ["0"]
