"""Claiming, polling and settling: each message is in one place, in order, and nobody settles what isn't theirs."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import redis
from amqp.exceptions import AccessRefused, NotFound, ResourceLocked

from kombu_actors.protocols.redis.consuming_calls import Line
from kombu_actors.protocols.redis.layout import Layout

from .member import Member, body, numbers, ours, put, reasons, seqs, server_ms, stock, unacked, wait_for_server


@pytest.fixture
def member(client: redis.Redis) -> Iterator[Member]:
    member = Member(client).join()
    member.queue("q")
    yield member
    member.close()


def test_a_claim_takes_up_to_its_count_and_records_each_where_kombu_looks(member: Member) -> None:
    """The value in ``unacked`` is what stock kombu would restore to exactly that queue; the lists have the rest."""
    put(member.client, "q", *(stock(n) for n in range(5)))
    before = server_ms(member.client) / 1000
    claimed = member.claim("q", count=3)
    assert numbers(claimed) == ["0", "1", "2"]
    assert seqs(claimed) == [1, 2, 3]
    assert claimed.line is Line.AWAY
    assert member.bodies("q") == ["3", "4"]
    assert unacked(member) == {(member.owner, n + 1): str(n) for n in range(3)}
    value = json.loads(member.client.hget("unacked", f"{member.owner}:1") or b"")
    assert value == [json.loads(stock(0)), "", "q"]
    scores = [score for _, score in member.client.zrange("unacked_index", 0, -1, withscores=True)]
    assert before <= min(scores) <= max(scores) <= server_ms(member.client) / 1000


def test_a_claim_of_thousands_is_recorded_whole(member: Member) -> None:
    """More messages in one step than Lua's unpack takes at once."""
    put(member.client, "q", *(stock(n) for n in range(3000)))
    claimed = member.claim("q", count=5000, limit=2**30)
    assert numbers(claimed) == [str(n) for n in range(3000)]
    assert len(unacked(member)) == 3000
    assert member.settle(acked=seqs(claimed)).stale == []
    assert unacked(member) == {}


def test_a_claim_stops_after_the_message_that_exceeds_its_bytes(member: Member) -> None:
    """At least one is taken; the others stay where they were, in order, however their sizes differ."""
    sizes = [10, 10, 10, 5000, 10, 5000, 5000, 10]
    put(member.client, "q", *(stock(f"{n}." + "x" * size) for n, size in enumerate(sizes)))
    everything = member.raw("q")
    total, taken = 3000, []
    for raw in everything:
        if total > 0:
            taken.append(raw)
            total -= len(raw)
    claimed = member.claim("q", count=8, limit=3000)
    assert [raw for _, _, raw in claimed.messages] == taken
    assert member.raw("q") == everything[len(taken) :]
    assert claimed.line is Line.AWAY
    assert len(member.claim("q", count=8, limit=1).messages) == 1


@pytest.mark.parametrize(("order", "expected"), [("kombu", "0369"), ("amqp", "9630")])
def test_priorities_are_served_in_the_order_asked_for(client: redis.Redis, order: str, expected: str) -> None:
    """kombu's order is 0 first; AMQP's is 9 first."""
    member = Member(client, Layout(priority_order=order)).join()
    member.queue("q")
    for step in "6390":
        put(client, "q" if step == "0" else f"q\x06\x16{step}", stock(step))
    assert "".join(numbers(member.claim("q", count=9))) == expected
    assert member.leave().returned == 4
    assert "".join(member.bodies("q")) == expected
    assert body(member.get("q").raw or b"") == expected[0]
    member.close()


def test_queues_are_served_in_order_or_share_the_room(member: Member) -> None:
    """With ``share`` each queue gets its part first, and what one leaves the others may have."""
    for name in "abc":
        member.queue(name)
    put(member.client, "a", *(stock(f"a{n}") for n in range(9)))
    put(member.client, "b", *(stock(f"b{n}") for n in range(9)))
    put(member.client, "c", stock("c0"))
    in_order = member.claim("a", "b", "c", count=6)
    assert numbers(in_order) == ["a0", "a1", "a2", "a3", "a4", "a5"]
    member.settle(requeued=seqs(in_order))
    shared = member.claim("a", "b", "c", count=6, share=True)
    assert numbers(shared) == ["a0", "a1", "b0", "b1", "c0", "a2"]
    assert [index for index, _, _ in shared.messages] == [1, 1, 2, 2, 3, 1]


@pytest.mark.parametrize("share", [False, True], ids=["in order", "sharing"])
def test_what_is_urgent_in_any_queue_goes_before_what_is_not_in_another(member: Member, share: bool) -> None:
    """A step is served over all queues before the next, whether there is room for one message or for all."""
    for name in "ab":
        member.queue(name)
        for step in "9603":
            waiting = [stock(f"{step}{name}{n}") for n in range(2)]
            put(member.client, name if step == "0" else f"{name}\x06\x16{step}", *waiting)
    at_once = member.claim("a", "b", count=16, share=share)
    assert [body[0] for body in numbers(at_once)] == list("0000333366669999")
    member.settle(requeued=seqs(at_once))
    one_by_one = [numbers(member.claim("a", "b", count=1, share=share)) for _ in range(16)]
    assert [body[0] for (body,) in one_by_one] == list("0000333366669999")


def test_a_share_of_the_room_is_a_share_of_each_step(member: Member) -> None:
    """Each queue gets its part of what is most urgent first; what is less urgent gets the room that is left."""
    for name in "ab":
        member.queue(name)
        put(member.client, name, *(stock(f"{name}{n}") for n in range(3)))
        put(member.client, f"{name}\x06\x169", stock(f"{name}9"))
    assert numbers(member.claim("a", "b", count=4, share=True)) == ["a0", "a1", "b0", "b1"]
    assert numbers(member.claim("b", "a", count=4, share=True)) == ["b2", "a2", "b9", "a9"]


def test_what_needs_no_ack_is_recorded_nowhere(member: Member) -> None:
    """It's the caller's with the reply."""
    put(member.client, "q", stock(0), stock(1))
    claimed = member.claim("q", count=1, no_ack=True)
    assert (numbers(claimed), seqs(claimed)) == (["0"], [0])
    assert member.get("q", no_ack=True).claim == 0
    assert unacked(member) == {}
    assert member.bodies("q") == []


def test_requeued_messages_are_in_front_again_in_their_order(member: Member) -> None:
    """Whatever the order they are named in, and counted: once for stock readers, and in our own suffix."""
    put(member.client, "q", *(stock(n) for n in range(6)))
    claims = seqs(member.claim("q", count=4))
    member.settle(acked=[claims[1]], requeued=[claims[2], claims[0], claims[3]])
    assert member.bodies("q") == ["0", "2", "3", "4", "5"]
    first, *_, last = (json.loads(raw) for raw in member.raw("q"))
    assert first["kombu_actors"] == [1, 0]
    assert first["properties"]["delivery_info"] == {"redelivered": True, "exchange": "", "routing_key": "q"}
    assert "kombu_actors" not in last
    member.settle(requeued=seqs(member.claim("q")))
    assert json.loads(member.raw("q")[0])["kombu_actors"] == [2, 0]
    claims = seqs(member.claim("q", count=5))
    assert claims == [6, 7, 8, 9, 10]
    member.settle(requeued=claims)
    assert member.bodies("q") == ["0", "2", "3", "4", "5"]


def test_a_settlement_of_what_was_lost_is_reported_and_changes_nothing(member: Member) -> None:
    """Claims that somebody restored, or that were settled before, are stale; the others of the batch aren't."""
    put(member.client, "q", *(stock(n) for n in range(6)))
    claims = seqs(member.claim("q", count=6))
    for seq in claims[1::2]:  # as stock kombu's restore does
        member.client.hdel("unacked", f"{member.owner}:{seq}")
        member.client.zrem("unacked_index", f"{member.owner}:{seq}")
    assert member.settle(claims[:2], claims[2:4], claims[4:]).stale == claims[1::2]
    assert unacked(member) == {}
    assert member.bodies("q") == ["2"]
    assert member.settle(claims[:1], claims[2:3], claims[4:5]).stale == claims[::2]
    assert member.bodies("q") == ["2"]


def test_discarded_messages_become_the_callers_to_bury(member: Member) -> None:
    """With a dead letter exchange; until then they are claimed, by no channel that is left.  Without one, they go."""
    member.queue("mortal", {"x-dead-letter-exchange": "dlx", "x-dead-letter-routing-key": "key"})
    put(member.client, "mortal", stock(0), stock(1))
    put(member.client, "q", stock(2))
    claims = seqs(member.claim("mortal", "q", count=3))
    ((claim, queue, reason, exchange, key, raw, *_), _) = member.settle(discarded=claims).deaths
    assert (claim, queue, reason, exchange, key, body(raw)) == (claims[0], "mortal", "rejected", "dlx", "key", "0")
    assert set(unacked(member).values()) == {"0", "1"}
    assert member.leave().returned == 0
    assert member.release(member.owner) == 2
    assert member.bodies("mortal") == ["0", "1"]


def test_a_message_given_back_too_often_dies(member: Member) -> None:
    """By requeueing, by closing the channel; and when it's claimed next if its owner died."""
    member.queue("q2", {"x-queue-type": "quorum", "x-delivery-limit": 1, "x-dead-letter-exchange": "dlx"})
    put(member.client, "q2", *(ours(n, returns=1) for n in range(2)), ours(2))
    claims = seqs(member.claim("q2"))
    deaths = member.settle(requeued=claims).deaths
    assert reasons(deaths) == [("0", "delivery_limit")]
    assert [death.claim for death in deaths] == claims  # a number, to be buried by
    member.claim("q2", count=2)
    left = member.leave()
    assert (left.returned, reasons(left.deaths)) == (2, [("1", "delivery_limit")])
    other = member.another().join()
    other.claim("q2")
    assert member.release(other.owner) == 1
    assert member.bodies("q2") == ["2"]
    claimed = member.claim("q2")
    assert (claimed.messages, reasons(claimed.deaths)) == ([], [("2", "delivery_limit")])
    put(member.client, "q2", ours(3, returns=2))
    got = member.get("q2")
    assert (got.raw, reasons(got.deaths)) == (None, [("3", "delivery_limit")])
    assert set(unacked(member).values()) == {"0", "1", "2", "3"}
    other.close()


def test_expired_heads_die_on_the_way(member: Member) -> None:
    """With a dead letter exchange the claimer gets them to bury; the living behind them are handed out."""
    member.queue("mortal", {"x-dead-letter-exchange": "dlx"})
    now = server_ms(member.client)
    for name in ("q", "mortal"):
        put(member.client, name, ours(0, expires=now - 1), ours(1, expires=now + 10**6), ours(2, expires=now))
        put(member.client, name, ours(3))
    wait_for_server(member.client, now)
    assert numbers(member.claim("q", count=9)) == ["1", "3"]
    claimed = member.claim("mortal", count=1)
    assert (numbers(claimed), reasons(claimed.deaths)) == (["1"], [("0", "expired")])
    got = member.get("mortal")
    assert (body(got.raw or b""), reasons(got.deaths), got.remaining) == ("3", [("2", "expired")], 0)
    assert sorted(unacked(member).values()) == ["0", "1", "1", "2", "3", "3"]


def test_a_multitude_of_expired_messages_does_not_hold_the_server(member: Member) -> None:
    """A claim or poll ends after some hundred; who asks again gets on."""
    put(member.client, "q", *(ours(n, expires=1) for n in range(500)), ours("alive"))
    first = member.claim("q", count=2)
    assert (first.messages, first.line) == ([], Line.AWAY)
    assert 0 < len(member.bodies("q")) < 400
    assert member.get("q").raw is None
    calls = 0
    while not (found := member.claim("q", count=1).messages):
        calls += 1
        assert calls < 5
    assert body(found[0][2]) == "alive"


def test_polling_says_what_is_left(member: Member) -> None:
    """A poll of an empty queue brings nothing; of an unknown one, 404; of a stranger's exclusive one, 405."""
    put(member.client, "q", stock(0), stock(1))
    got = member.get("q")
    assert (body(got.raw or b""), got.claim, got.remaining) == ("0", 1, 1)
    member.get("q")
    assert member.get("q").raw is None
    with pytest.raises(NotFound, match="no queue 'unknown'"):
        member.get("unknown")
    other = member.another().join()
    other.queue("theirs", exclusive=True)
    with pytest.raises(ResourceLocked, match="'theirs'"):
        member.get("theirs")
    other.close()


def test_consuming_is_refused_as_rabbitmq_refuses_it(member: Member) -> None:
    """404, 405, 403; an exclusive consumer is alone."""
    other = member.another().join()
    with pytest.raises(NotFound):
        member.consume("unknown")
    other.queue("theirs", exclusive=True)
    with pytest.raises(ResourceLocked):
        member.consume("theirs")
    member.consume("q", exclusive=True)
    for exclusive in (False, True):
        with pytest.raises(AccessRefused, match="queue 'q' in vhost '0' in exclusive use"):
            other.consume("q", exclusive=exclusive)
    member.cancel("q")
    other.consume("q")
    with pytest.raises(AccessRefused):
        member.consume("q", exclusive=True)
    other.close()


def test_consuming_tells_the_declaration_and_the_fanout_topics(member: Member) -> None:
    """Of a queue that only stock kombu knows there is no declaration, but its list is there."""
    member.queue("f", {"x-max-length": 3})
    member.exchange("broadcast", "fanout")
    member.exchange("kept", "fanout")
    member.bind("broadcast", "f", "some.#")
    member.bind("kept", "f", durable=True)
    subscribed = member.consume("f")
    assert subscribed.declaration["arguments"] == {"x-max-length": 3}
    assert set(subscribed.topics) == {("broadcast", "some.*", False), ("kept", "", True)}
    put(member.client, "stocks", stock(0))
    assert member.consume("stocks") == ({}, [])


def test_what_cannot_be_decoded_is_kept_aside(member: Member) -> None:
    """Out of circulation, not lost."""
    put(member.client, "q", b"rubbish")
    (seq,) = seqs(member.claim("q"))
    assert member.quarantine(seq)
    assert not member.quarantine(seq)
    assert member.client.lrange(member.key("undecodable"), 0, -1) == [b"q\x06\x16rubbish"]
    assert member.client.hlen("unacked") == member.client.zcard("unacked_index") == 0


def test_claims_of_a_deleted_queue_do_not_revive_it(member: Member) -> None:
    """Requeued or given back they go with it; those of a queue that was never declared stay."""
    put(member.client, "q", stock(0), stock(1))
    put(member.client, "stocks", stock(2))
    claims = seqs(member.claim("q", "stocks", count=3))
    member.delete_queue("q")
    assert member.settle(requeued=claims[:1]).stale == []
    member.leave()
    assert member.bodies("q") == []
    assert member.bodies("stocks") == ["2"]
    assert unacked(member) == {}
