"""Claims of stock kombu and ours in the same two keys: each side's restoring puts them where they belong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
import redis

from .driver import headers_member
from .member import Member, body, numbers, put, seqs, server_ms, stock, unacked

kombu: Any = import_module("kombu")

MANY_QUEUES = 1500
"""Into more than one call puts a message."""


@pytest.fixture
def member(client: redis.Redis) -> Iterator[Member]:
    member = Member(client).join()
    member.queue("q")
    yield member
    member.close()


@pytest.fixture
def channel(redis_url: str, member: Member) -> Iterator[Any]:
    """A channel of stock kombu on the same database."""
    with kombu.Connection(redis_url) as connection:
        yield connection.channel()


def forget(channel: Any) -> list[str]:
    """Stock kombu dies with what it has unacknowledged; the tags, oldest first."""
    tags = list(channel.qos._delivered)
    channel.qos._delivered.clear()
    for age, tag in enumerate(tags):
        channel.client.zadd("unacked_index", {tag: 1000 + age})
    return tags


def test_what_stock_kombu_left_unacknowledged_is_restored_in_order(member: Member, channel: Any) -> None:
    """To the heads of their queues' lists once they are older than the visibility timeout, not before."""
    exchange = kombu.Exchange("work", "direct")
    queue = kombu.Queue('odd "name" \\', exchange, routing_key="some key", channel=channel)
    queue.declare()
    producer = kombu.Producer(channel)
    for number in range(4):
        producer.publish(str(number), exchange=exchange, routing_key="some key", priority=3 if number == 2 else 0)
    producer.publish("default", routing_key="q")
    for _ in range(4):
        channel.basic_get(queue.name)
    channel.basic_get("q")
    member.beat(3600)
    assert channel.client.hlen("unacked") == 5
    forget(channel)
    member.beat(3600, queues=("q", queue.name))
    assert [payload.decode() for payload in member.bodies(queue.name)] == ["0", "1", "3", "2"]
    assert member.client.llen(f"{queue.name}\x06\x163") == 1
    assert member.bodies("q") == [b"default"]
    assert not channel.client.exists("unacked", "unacked_index")
    first = json.loads(member.raw(queue.name)[0])
    assert first["properties"]["delivery_info"]["redelivered"] is True
    channel.queue_delete(queue.name)


def test_a_topic_exchanges_message_is_restored_by_its_words(member: Member, channel: Any) -> None:
    """Its queue isn't recorded with it: the bindings are looked up again."""
    exchange = kombu.Exchange("topics", "topic")
    kombu.Queue("words", exchange, routing_key="a.*.#", channel=channel).declare()
    kombu.Queue("others", exchange, routing_key="b.#", channel=channel).declare()
    kombu.Producer(channel).publish("0", exchange=exchange, routing_key="a.b.c.d")
    channel.basic_get("words")
    forget(channel)
    member.beat(3600, queues=["words"])
    assert (member.bodies("words"), member.bodies("others")) == ([b"0"], [])


def test_what_is_restored_waits_for_the_index_of_its_exchange(member: Member, channel: Any) -> None:
    """It isn't put aside as if it had no way back, while there is no time to find that."""
    exchange = kombu.Exchange("many", "direct")
    kombu.Queue("far", exchange, routing_key="far", channel=channel).declare()
    kombu.Producer(channel).publish("0", exchange=exchange, routing_key="far")
    channel.basic_get("far")
    forget(channel)
    members = (f"key {number}\x06\x16\x06\x16q" for number in range(10_000))
    member.client.sadd("_kombu.binding.many", *members)
    beats = 1
    while member.beat(3600, queues=["far"]).next_timer == 0:
        beats += 1
    assert beats > 1
    assert (member.bodies("far"), member.client.exists(member.key("undecodable"))) == ([b"0"], 0)


@pytest.mark.parametrize("kind", ["direct", "headers"])
def test_what_goes_back_to_very_many_queues_goes_in_steps(member: Member, kind: str) -> None:
    """By whoever beats, once it's begun; a large message as well.  It's a claim until all of them have it."""
    member.exchange("e", kind)
    queues = [f"to {number}" for number in range(MANY_QUEUES)]
    if kind == "direct":
        member.client.sadd("_kombu.binding.e", *(f"key\x06\x16\x06\x16{queue}" for queue in queues))
    else:
        bindings = [headers_member(queue, {}) for queue in queues]
        member.client.hset(member.key("bindings.e"), mapping=dict.fromkeys(bindings, ""))
    for number, content in enumerate(("small", "x" * 500_000)):
        member.client.hset("unacked", "tag", json.dumps([json.loads(stock(content)), "e", "key"]))
        member.client.zadd("unacked_index", {"tag": 1})
        while not member.client.keys("to *"):
            assert member.beat(queues=["to 1"]).next_timer == 0
        assert len(member.client.keys("to *")) < 400
        assert member.client.hexists("unacked", "tag")
        other = member.another().join()
        assert other.beat(queues=["elsewhere"]).next_timer == 0
        while other.beat(queues=["elsewhere"]).next_timer == 0:
            pass
        assert not member.client.hexists("unacked", "tag")
        other.close()
        assert {member.client.llen(queue) for queue in queues} == {1}
        assert body(member.raw("to 7")[0]) == content
        assert not member.client.keys(member.key("restor*"))
        member.client.delete(*queues)
        if number == 0:
            for queue in queues[300:]:
                member.client.srem("_kombu.binding.e", f"key\x06\x16\x06\x16{queue}")
                member.client.hdel(member.key("bindings.e"), headers_member(queue, {}))
            del queues[300:]


def test_at_most_some_are_restored_per_beat_and_the_order_holds(member: Member, channel: Any) -> None:
    """A script must end; the youngest go first, so that the oldest are in front at last."""
    for number in range(25):
        kombu.Producer(channel).publish(str(number), routing_key="q")
    for _ in range(25):
        channel.basic_get("q")
    forget(channel)
    member.beat(3600)
    assert len(member.bodies("q")) == 10
    member.beat(3600)
    member.beat(3600)
    assert member.bodies("q") == [str(number).encode() for number in range(25)]


def test_what_has_no_way_back_is_kept(member: Member) -> None:
    """Its binding has vanished, or it's no message: stock kombu would lose it, or fail on it for ever."""
    values = [
        json.dumps([json.loads(stock(0)), "vanished", "key"]).encode(),
        b"rubbish",
        b'["{", "", "q"]',
        b'[{"body": "unclosed", "", "q"]',
        b"[]",
    ]
    for age, value in enumerate(values):
        member.client.hset("unacked", f"tag-{age}", value)
        member.client.zadd("unacked_index", {f"tag-{age}": 1000 + age})
    member.client.zadd("unacked_index", {"no-message": 1})
    member.beat(3600)
    kept = member.client.lrange(member.key("undecodable"), 0, -1)
    assert b"key\x06\x16" + stock(0) in kept
    assert len(kept) + len(member.raw("q")) == len(values)
    assert not member.client.exists("unacked", "unacked_index")


def test_a_living_owners_claims_are_its_own_however_old(member: Member) -> None:
    """It renews them when it gets to it; its lease says that it will."""
    put(member.client, "q", stock(0))
    other = member.another().join()
    other.claim("q")
    member.client.zadd("unacked_index", {f"{other.owner}:1": 1})
    member.beat(3600)
    assert list(unacked(member)) == [(other.owner, 1)]
    other.close()


def test_a_claim_of_nobody_is_restored_like_stock_kombus(member: Member) -> None:
    """An owner whose records were lost with its name still has its messages."""
    put(member.client, "q", stock(0), stock(1))
    other = member.another().join()
    other.claim("q", count=2)
    member.client.delete(*(member.key(f"{name}.{other.owner}") for name in ("claims", "owner", "held")))
    other.lose_lease()
    for age, field in enumerate(member.client.zrange("unacked_index", 0, -1)):
        member.client.zadd("unacked_index", {field: 1000 + age})
    member.beat(3600)
    assert member.bodies("q") == ["0", "1"]
    other.close()


def test_stock_kombu_restores_our_claims_to_their_queue(member: Member, channel: Any) -> None:
    """Its worker, with a shorter visibility timeout than ours: each goes back to its own list, and we hear of it."""
    member.queue('odd "name" \\')
    put(member.client, "q", stock(0))
    put(member.client, "q\x06\x169", stock(1, priority=9))
    put(member.client, 'odd "name" \\', stock(2))
    claims = seqs(member.claim("q", 'odd "name" \\', count=5))
    for field in member.client.zrange("unacked_index", 0, -1):
        member.client.zadd("unacked_index", {field: 1})
    channel.qos.restore_visible(interval=1)
    assert not member.client.exists("unacked", "unacked_index")
    assert [body(raw) for raw in member.raw("q")] == ["0", "1"]
    assert member.client.llen("q\x06\x169") == 1
    assert member.bodies('odd "name" \\') == ["2"]
    assert member.settle(acked=claims[:1], requeued=claims[1:2], discarded=claims[2:]).stale == claims
    assert numbers(member.claim("q", 'odd "name" \\', count=5)) == ["0", "2", "1"]


def test_stock_kombu_may_take_one_claim_of_many(member: Member, channel: Any) -> None:
    """What it restored is restored once, also when its owner dies afterwards."""
    put(member.client, "q", *(stock(n) for n in range(3)))
    other = member.another().join()
    claims = seqs(other.claim("q", count=3))
    channel.qos.restore_by_tag(f"{other.owner}:{claims[1]}")
    assert member.bodies("q") == ["1"]
    assert other.leave().returned == 2
    assert member.bodies("q") == ["0", "2", "1"]
    assert unacked(member) == {}
    other.close()


def test_stock_kombu_reads_what_we_gave_back(member: Member, channel: Any) -> None:
    """Our suffix is no hindrance; the message says that it was delivered before."""
    kombu.Producer(channel).publish({"some": ["json"]}, routing_key="q")
    member.settle(requeued=seqs(member.claim("q")))
    message = channel.basic_get("q")
    assert message.payload == {"some": ["json"]}
    assert message.delivery_info["redelivered"] is True
    message.requeue()
    (seq,) = seqs(member.claim("q"))
    member.settle(requeued=[seq])
    assert json.loads(member.raw("q")[0])["kombu_actors"] == [2, 0]


def test_a_broadcast_is_not_restored(member: Member) -> None:
    """It was for one listener, which is gone; its queue's list would give it to those who had theirs."""
    member.exchange("broadcast", "fanout")
    member.bind("broadcast", "q")
    member.client.hset("unacked", "tag", json.dumps([json.loads(stock(0)), "broadcast", ""]))
    member.client.zadd("unacked_index", {"tag": 1})
    member.beat(3600)
    assert (member.raw("q"), member.client.exists("unacked", member.key("undecodable"))) == ([], 0)


def test_names_that_need_escapes_are_told_apart(member: Member) -> None:
    """kombu writes names as JSON strings; quotes and backslashes in them end nothing."""
    for age, name in enumerate(['a", "b', "back\\", '\\", "', "ünï", '"', "]"]):
        member.queue(name)
        member.client.hset("unacked", f"tag-{age}", json.dumps([json.loads(stock(age)), "", name]))
        member.client.zadd("unacked_index", {f"tag-{age}": 1})
        member.beat(3600, queues=[name])
        assert member.bodies(name) == [str(age)]
        member.settle(requeued=seqs(member.claim(name)))
        assert member.bodies(name) == [str(age)]


def test_only_who_consumes_a_queue_gives_its_messages_back(member: Member) -> None:
    """A publisher, or who consumes from other queues, leaves them where they are, however many are older."""
    for number in range(400):
        queue = "q" if number == 399 else "elsewhere"
        member.client.hset("unacked", f"tag-{number}", json.dumps([json.loads(stock(number)), "", queue]))
        member.client.zadd("unacked_index", {f"tag-{number}": 1000 - number})
    for queues in ((), ("r",)):
        while member.beat(1, renew=True, queues=queues).next_timer == 0:
            pass
        assert member.client.hlen("unacked") == 400
    while member.beat(1, renew=False, queues=["q"]).next_timer == 0:
        pass
    assert member.bodies("q") == []
    member.beat(1, queues=["q"])
    while member.beat(1, renew=False, queues=["q"]).next_timer == 0:
        pass
    assert member.bodies("q") == ["399"]
    assert member.client.hlen("unacked") == 399


def test_the_longest_promise_of_anybody_counts(member: Member) -> None:
    """A publisher's short visibility timeout, or one consumer's, takes no long task from a stock worker's hands."""
    other = member.another().join()
    other.beat(visibility_timeout=7200, queues=[])
    member.client.hset("unacked", "tag", json.dumps([json.loads(stock(0)), "", "q"]))
    member.client.zadd("unacked_index", {"tag": server_ms(member.client) / 1000 - 3600})
    member.beat(visibility_timeout=1)
    assert member.bodies("q") == []
    assert other.release(other.owner) == 0
    member.beat(visibility_timeout=1)
    assert member.bodies("q") == ["0"]
    other.close()
