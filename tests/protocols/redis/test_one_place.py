"""Whatever happens in whatever order: each message is in one place, in order, and nobody waits unheard."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import Any

import attrs
import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kombu_actors.protocols.redis.consuming_calls import Claimed, Line

from .member import Ear, Member, body, put, stock

QUEUES = ("q", "r")
CHANNELS = ("1", "2")
LISTS = {name: (name, f"{name}\x06\x163") for name in QUEUES}
"""Two of the priority steps, in serving order."""
FATES = ("requeue", "ack", "discard", "keep")
Waiter = tuple[str, str]
"""Owner and channel."""


@attrs.define(eq=False)
class Waiting:
    """What links know about their waiting: who watches which list, and who has yet to look again."""

    watching: set[tuple[Waiter, str]] = attrs.field(factory=set)
    called: set[Waiter] = attrs.field(factory=set)

    def claimed(self, client: redis.Redis, waiter: Waiter, queues: list[str], claimed: Claimed) -> None:
        """As a link acts on the reply: what it watches it reads, and looks again if something is there."""
        for index in claimed.sentry_for:
            for name in LISTS[queues[index - 1]]:
                if client.exists(name):
                    self.called.add(waiter)
                self.watching.add((waiter, name))

    def changed(self, name: str) -> None:
        """A watched list changed: its watchers are told, once."""
        told = {(waiter, watched) for waiter, watched in self.watching if watched == name}
        self.watching -= told
        self.called |= {waiter for waiter, _ in told}

    def forget(self, owner: str) -> None:
        self.watching = {entry for entry in self.watching if entry[0][0] != owner}
        self.called = {waiter for waiter in self.called if waiter[0] != owner}


class Broker(RuleBasedStateMachine):
    """Three owners with two channels each, two queues, and stock clients among them; a model of lists and claims."""

    client: redis.Redis

    @initialize()
    def start(self) -> None:
        self.client.flushdb()
        self.ear = Ear(self.client)
        self.members = [self.new_member() for _ in range(3)]
        for name in QUEUES:
            self.members[0].queue(name)
        self.lists: dict[str, list[str]] = {name: [] for names in LISTS.values() for name in names}
        self.claims: dict[str, dict[int, tuple[str, str, str]]] = {member.owner: {} for member in self.members}
        self.lost: dict[str, set[int]] = {member.owner: set() for member in self.members}
        self.subscribed: set[tuple[str, str, str]] = set()
        self.waiting = Waiting()
        self.seen: dict[str, list[str]] = {}
        self.published = 0
        for number in range(3):
            self.join(number)

    def new_member(self, predecessor: str = "") -> Member:
        return Member(self.client, ear=self.ear).join(predecessor=predecessor)

    def join(self, number: int) -> None:
        """Subscribe to all, and wait."""
        for channel in CHANNELS:
            for queue in QUEUES:
                self.consume(number, channel, queue)

    def teardown(self) -> None:
        if hasattr(self, "ear"):
            self.ear.pubsub.close()

    # the model's half of what scripts do

    def head(self, queue: str) -> list[tuple[str, str]]:
        return [(name, message) for name in LISTS[queue] for message in self.lists[name]]

    def give_back(self, owner: str, channel: str | None = None) -> int:
        """The latest claim first, each to the head of its list."""
        gone = [seq for seq, (of, _, _) in self.claims[owner].items() if channel in (None, of)]
        back = sorted(set(gone) - self.lost[owner], reverse=True)
        for seq in back:
            _, name, message = self.claims[owner][seq]
            self.lists[name].insert(0, message)
        for seq in gone:
            del self.claims[owner][seq]
            self.lost[owner].discard(seq)
        return len(back)

    def take(self, member: Member, channel: str, queues: list[str], claimed: Claimed, *, no_ack: bool) -> None:
        for index, seq, raw in claimed.messages:
            name, message = self.head(queues[index - 1])[0]
            assert body(raw) == message
            self.lists[name].remove(message)
            if not no_ack:
                self.claims[member.owner][seq] = (channel, name, message)

    def queues_of(self, member: Member, channel: str) -> list[str]:
        return [queue for queue in QUEUES if (member.owner, channel, queue) in self.subscribed]

    def end(self, member: Member) -> None:
        """An owner went; another begins."""
        self.waiting.forget(member.owner)
        self.subscribed = {entry for entry in self.subscribed if entry[0] != member.owner}
        del self.claims[member.owner], self.lost[member.owner]
        self.ear.ignore(member.wake_channel)
        index = self.members.index(member)
        self.members[index] = self.new_member()
        self.claims[self.members[index].owner] = {}
        self.lost[self.members[index].owner] = set()
        self.whoever_waits_will_be_told()
        self.join(index)

    # rules

    member_numbers = st.integers(0, 2)
    channels = st.sampled_from(CHANNELS)

    @rule(
        queue=st.sampled_from(QUEUES),
        step=st.integers(0, 1),
        count=st.integers(1, 4),
        size=st.sampled_from([0, 0, 900]),
    )
    def publish(self, queue: str, step: int, count: int, size: int) -> None:
        name = LISTS[queue][step]
        for _ in range(count):
            self.published += 1
            message = str(self.published) + "." * size
            put(self.client, name, stock(message, priority=step * 3))
            self.lists[name].append(message)

    @rule(number=member_numbers, channel=channels, queue=st.sampled_from(QUEUES))
    def consume(self, number: int, channel: str, queue: str) -> None:
        member = self.members[number]
        if (member.owner, channel, queue) not in self.subscribed:
            member.consume(queue, channel)
            self.subscribed.add((member.owner, channel, queue))
            self.claim_now(member, channel, 1)

    @rule(number=member_numbers, channel=channels, queue=st.sampled_from(QUEUES))
    def cancel(self, number: int, channel: str, queue: str) -> None:
        member = self.members[number]
        if (member.owner, channel, queue) in self.subscribed:
            member.cancel(queue, channel)
            self.subscribed.discard((member.owner, channel, queue))
            self.waiting.watching -= {((member.owner, channel), name) for name in LISTS[queue]}
            if not self.queues_of(member, channel):
                self.waiting.called.discard((member.owner, channel))

    @rule(
        number=member_numbers, channel=channels, count=st.integers(0, 6), limit=st.sampled_from([1, 500, 2000, 10**6]),
        no_ack=st.booleans(), share=st.booleans(),
    )  # fmt: skip
    def claim(self, number: int, channel: str, count: int, limit: int, no_ack: bool, share: bool) -> None:
        self.claim_now(self.members[number], channel, count, limit=limit, no_ack=no_ack, share=share)

    @precondition(lambda self: self.waiting.called)
    @rule(choice=st.integers(0, 20), counts=st.lists(st.integers(0, 3), min_size=1, max_size=4))
    def answer_calls(self, choice: int, counts: list[int]) -> None:
        for count in counts:
            called = sorted(self.waiting.called)
            if called:
                owner, channel = called[choice % len(called)]
                member = next(member for member in self.members if member.owner == owner)
                self.claim_now(member, channel, count)
                self.whoever_waits_will_be_told()

    @rule(
        room=st.integers(1, 3), queue=st.sampled_from(QUEUES), messages=st.integers(1, 4), choice=st.integers(0, 20),
        counts=st.lists(st.integers(0, 3), min_size=1, max_size=4),
    )  # fmt: skip
    def idle_and_burst(self, room: int, queue: str, messages: int, choice: int, counts: list[int]) -> None:
        """Everybody acknowledges, empties the queues and waits; then something comes: a fleet's every day."""
        for number in range(3):
            self.settle(number, ["ack"])
        while any(self.lists.values()):
            queues = [name for name in QUEUES if self.head(name)]
            for name in queues:
                self.get(0, name, no_ack=True)
        for member in self.members:
            for channel in CHANNELS:
                self.claim_now(member, channel, room)
        self.publish(queue, 0, messages, 0)
        self.notice()
        if self.waiting.called:
            self.answer_calls(choice, counts)

    def claim_now(
        self, member: Member, channel: str, count: int, *, limit: int = 10**6, no_ack: bool = False, share: bool = False
    ) -> None:
        queues = self.queues_of(member, channel)
        if not queues:
            return
        self.waiting.called.discard((member.owner, channel))
        claimed = member.claim(*queues, count=count, channel=channel, limit=limit, no_ack=no_ack, share=share)
        self.take(member, channel, queues, claimed, no_ack=no_ack)
        assert len(claimed.messages) <= count
        assert (claimed.line is Line.SENTRY) == bool(claimed.sentry_for and count)
        if claimed.line is Line.AWAY:
            assert len(claimed.messages) == count or sum(map(len, (raw for *_, raw in claimed.messages))) >= limit
        self.replied = ((member.owner, channel), queues, claimed)
        self.notice()
        self.waiting.claimed(self.client, *self.replied)

    @rule(number=member_numbers, queue=st.sampled_from(QUEUES), no_ack=st.booleans())
    def get(self, number: int, queue: str, no_ack: bool) -> None:
        member = self.members[number]
        got = member.get(queue, no_ack=no_ack)
        head = self.head(queue)
        if not head:
            assert got.raw is None
            return
        name, message = head[0]
        assert (body(got.raw or b""), got.remaining) == (message, len(head) - 1)
        self.lists[name].remove(message)
        if not no_ack:
            self.claims[member.owner][got.claim] = ("1", name, message)

    @precondition(lambda self: any(self.claims.values()))
    @rule(number=member_numbers, fates=st.lists(st.sampled_from(FATES), min_size=1, max_size=8))
    def settle(self, number: int, fates: list[str]) -> None:
        member = self.members[number]
        claims, lost = self.claims[member.owner], self.lost[member.owner]
        batch: dict[str, list[int]] = {"ack": [], "requeue": [], "discard": [], "keep": []}
        for seq, fate in zip(sorted(claims), cycle(fates), strict=False):
            batch[fate].append(seq)
        stale = member.settle(batch["ack"], batch["requeue"], batch["discard"]).stale
        settled = {seq for fate in ("ack", "requeue", "discard") for seq in batch[fate]}
        assert sorted(stale) == sorted(lost & settled)
        for seq in sorted(set(batch["requeue"]) - lost, reverse=True):
            _, name, message = claims[seq]
            self.lists[name].insert(0, message)
        for seq in settled:
            del claims[seq]
            lost.discard(seq)

    @rule(number=member_numbers, channel=channels)
    def leave(self, number: int, channel: str) -> None:
        member = self.members[number]
        assert member.leave(channel).returned == self.give_back(member.owner, channel)
        self.subscribed = {entry for entry in self.subscribed if entry[:2] != (member.owner, channel)}
        waiter = (member.owner, channel)
        self.waiting.called.discard(waiter)
        self.waiting.watching = {entry for entry in self.waiting.watching if entry[0] != waiter}

    @rule(number=member_numbers)
    def say_goodbye(self, number: int) -> None:
        member = self.members[number]
        assert member.release(member.owner) == self.give_back(member.owner)
        self.end(member)

    @rule(number=member_numbers, how=st.sampled_from(["release", "beat", "hello"]))
    def die(self, number: int, how: str) -> None:
        """A process is killed; somebody notices, and what it still had under way is refused."""
        dead, witness = self.members[number], self.members[number - 1]
        self.ear.ignore(dead.wake_channel)
        if how == "release":
            assert witness.release(dead.owner) == self.give_back(dead.owner)
        elif how == "beat":
            self.client.zadd(dead.key("owners"), {dead.owner: 1})
            witness.beat()
            self.give_back(dead.owner)
        else:
            successor = self.new_member(predecessor=dead.owner)
            self.give_back(dead.owner)
            assert successor.release(successor.owner) == 0
            self.ear.ignore(successor.wake_channel)
        before = dead.everything()
        for call in (
            lambda: dead.claim("q"), lambda: dead.settle([1], [2], [3]), lambda: dead.get("q"), dead.beat, dead.leave,
            lambda: dead.consume("q"), lambda: dead.cancel("q"), lambda: dead.quarantine(1),
            lambda: dead.release(witness.owner),
        ):  # fmt: skip
            with pytest.raises(redis.ResponseError, match=f"FENCED {dead.owner}"):
                call()
        assert dead.everything() == before
        self.end(dead)

    @rule(number=member_numbers)
    def beat(self, number: int) -> None:
        self.members[number].beat()

    @precondition(lambda self: any(self.lists.values()))
    @rule(queue=st.sampled_from(QUEUES))
    def stock_pop(self, queue: str) -> None:
        if self.head(queue):
            name, message = self.head(queue)[0]
            ((popped, raw),) = self.read(("BRPOP", *LISTS[queue], 1))
            assert (popped.decode(), body(raw)) == (name, message)
            self.lists[name].remove(message)

    @precondition(lambda self: any(self.claims.values()))
    @rule(number=member_numbers, choice=st.integers(0, 20))
    def stock_restore(self, number: int, choice: int) -> None:
        """A stock kombu whose visibility_timeout is too short takes a claim away, as its restore does."""
        owner = self.members[number].owner
        held = sorted(set(self.claims[owner]) - self.lost[owner])
        if held:
            seq = held[choice % len(held)]
            _, name, message = self.claims[owner][seq]
            with self.client.pipeline() as pipe:
                pipe.zrem("unacked_index", f"{owner}:{seq}")
                pipe.hdel("unacked", f"{owner}:{seq}")
                pipe.rpush(name, stock(message))
                pipe.execute()
            self.lists[name].insert(0, message)
            self.lost[owner].add(seq)

    # what always holds

    def notice(self) -> None:
        """Links hear what changed, and what they are told."""
        for name, messages in self.lists.items():
            if messages != self.seen.get(name, []):
                self.waiting.changed(name)
            self.seen[name] = list(messages)
        members = {member.wake_channel: member for member in self.members}
        for heard, said in self.ear.hear():
            word, channel, _ = said.split(" ", 2)
            assert word == "w"
            if heard in members and self.queues_of(members[heard], channel):
                self.waiting.called.add((members[heard].owner, channel))

    def read(self, *commands: tuple[Any, ...]) -> list[Any]:
        with self.client.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)  # type: ignore[no-untyped-call]
            return pipe.execute()

    @invariant()
    def every_message_is_where_the_model_has_it(self) -> None:
        if not hasattr(self, "lists"):
            return
        key = self.members[0].key
        *lists, fields, index = self.read(
            *(("LRANGE", name, 0, -1) for name in self.lists),
            ("HGETALL", "unacked"),
            ("ZRANGE", "unacked_index", 0, -1),
        )
        assert {
            name: [body(raw) for raw in reversed(found)] for name, found in zip(self.lists, lists, strict=True)
        } == self.lists
        expected = {
            f"{owner}:{seq}": message
            for owner, claims in self.claims.items()
            for seq, (_, _, message) in claims.items()
            if seq not in self.lost[owner]
        }
        assert {field.decode(): body(value[1:].rpartition(b', "", ')[0]) for field, value in fields.items()} == expected
        assert {field.decode() for field in index} == set(expected)
        kept = self.read(*(("HGETALL", key(f"claims.{owner}")) for owner in self.claims))
        for claims, found in zip(self.claims.values(), kept, strict=True):
            places = {int(seq): place.decode().split(" ", 1) for seq, place in found.items()}
            assert places == {seq: [channel, "r" + name] for seq, (channel, name, _) in claims.items()}

    @invariant()
    def whoever_waits_will_be_told(self) -> None:
        if not hasattr(self, "seen"):
            return
        self.notice()
        key = self.members[0].key
        for queue in QUEUES:
            waiters, sentries = self.read(
                ("ZRANGE", key(f"waiting.{queue}"), 0, -1), ("SMEMBERS", key(f"sentries.{queue}"))
            )
            assert set(waiters) >= set(sentries)
            line = [tuple(waiter.decode().split("/", 1)) for waiter in waiters]
            assert {(*waiter, queue) for waiter in line} <= self.subscribed
            coming = any(waiter in self.waiting.called for waiter in line)
            watched = any((waiter, name) in self.waiting.watching for waiter in line for name in LISTS[queue])
            assert not line or coming or (watched and not self.head(queue)), f"nobody will tell {line}"


@pytest.fixture
def machine(client: redis.Redis) -> Iterator[Any]:
    Broker.client = client
    yield Broker
    del Broker.client


def test_each_message_is_in_one_place_and_nobody_waits_unheard(machine: Any) -> None:
    """After every step: lists, ``unacked``, its index and the owners' claims hold what a model says, in its order; of
    those who wait for a queue somebody is told of what is there or comes."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=100, stateful_step_count=50,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
        ),
    )  # fmt: skip
