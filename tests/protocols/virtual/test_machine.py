"""Whatever clients do, in whatever order: nothing lost, nothing doubled, nothing beyond the limits."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from kombu_actors._values.model import ConsumerSpec, Delivery
from kombu_actors.protocols.virtual import VirtualBroker

from .client import Client, connect

QUEUES = ("q", "r")


@attrs.define(eq=False)
class Life:
    """One connection in the model: what it holds, and how much each consumer may hold."""

    client: Client
    held: dict[int, tuple[bytes, str | None]] = attrs.field(factory=dict)
    """Body and consumer tag by delivery tag."""
    prefetch: dict[str, tuple[str, int]] = attrs.field(factory=dict)
    """Queue and limit by consumer tag, of those alive."""


class BrokerMachine(RuleBasedStateMachine):
    """The model knows where each message may be: waiting, held by one connection, or finished."""

    lives = Bundle("lives")

    @initialize()
    def start(self) -> None:
        self.broker = VirtualBroker()
        self.waiting: dict[str, dict[int, None]] = {name: {} for name in QUEUES}
        self.seen: set[bytes] = set()
        self.published = 0
        self.consumers = 0
        self.all_lives: list[Life] = []
        setup = connect(self.broker)
        for name in QUEUES:
            setup.queue(name)
        setup.session.close()

    # what clients do

    @rule(target=lives)
    def connect(self) -> Life:
        life = Life(connect(self.broker))
        self.all_lives.append(life)
        return life

    @rule(life=lives, queue=st.sampled_from(QUEUES))
    def publish(self, life: Life, queue: str) -> None:
        if life.client.session.closed:
            return
        self.published += 1
        self.waiting[queue][self.published] = None
        life.client.publish(queue, b"%s:%d" % (queue.encode(), self.published))

    @rule(life=lives, queue=st.sampled_from(QUEUES), limit=st.integers(0, 3))
    def consume(self, life: Life, queue: str, limit: int) -> None:
        if life.client.session.closed:
            return
        self.consumers += 1
        tag = f"c{self.consumers}"
        life.prefetch[tag] = queue, limit
        life.client.channel.qos(prefetch_count=limit)
        life.client.channel.consume(ConsumerSpec(tag=tag, queue=queue), None)

    @rule(life=lives, data=st.data())
    def cancel(self, life: Life, data: st.DataObject) -> None:
        if life.prefetch and not life.client.session.closed:
            tag = data.draw(st.sampled_from(sorted(life.prefetch)))
            life.client.channel.cancel(tag)
            self.read(life)
            del life.prefetch[tag]

    @rule(life=lives)
    def read(self, life: Life) -> None:
        for delivery in life.client.read():
            self.took(life, delivery, delivery.consumer_tag)

    @rule(life=lives, queue=st.sampled_from(QUEUES))
    def poll(self, life: Life, queue: str) -> None:
        if not life.client.session.closed:
            self.read(life)
            found = life.client.get(queue)
            if found is not None:
                self.took(life, found, None)

    @rule(life=lives, data=st.data(), multiple=st.booleans(), verdict=st.sampled_from(["ack", "requeue", "discard"]))
    def settle(self, life: Life, data: st.DataObject, multiple: bool, verdict: str) -> None:
        self.read(life)
        if not life.held or life.client.session.closed:
            return
        tag = data.draw(st.sampled_from(sorted(life.held)))
        settled = [each for each in life.held if each == tag or (multiple and each < tag)]
        bodies = [life.held.pop(each)[0] for each in settled]
        if verdict == "requeue":
            self.returned(bodies)
            life.client.channel.nack(tag, multiple=multiple)
        elif verdict == "discard":
            life.client.channel.nack(tag, multiple=multiple, requeue=False)
        else:
            life.client.channel.ack(tag, multiple=multiple)
        assert life.client.channel.closed is None

    @rule(life=lives, politely=st.booleans())
    def end(self, life: Life, politely: bool) -> None:
        if life.client.session.closed:
            return
        if politely:
            self.read(life)
        self.returned([body for body, _tag in life.held.values()])
        unread = [delivery.body for effect in life.client.session.effects for delivery in getattr(effect, "batch", ())]
        self.seen.update(unread)
        life.held.clear()
        life.client.session.close()
        life.client.session.take_effects()

    # what must hold

    def took(self, life: Life, delivery: Delivery, tag: str | None) -> None:
        queue, _, number = delivery.body.decode().partition(":")
        assert int(number) in self.waiting[queue], "delivered while somebody else has it, or after it was settled"
        del self.waiting[queue][int(number)]
        if not delivery.redelivered:
            assert delivery.body not in self.seen, "seen before, yet not marked as redelivered"
        self.seen.add(delivery.body)
        assert delivery.delivery_tag not in life.held
        life.held[delivery.delivery_tag] = delivery.body, tag

    def returned(self, bodies: list[bytes]) -> None:
        for body in bodies:
            queue, _, number = body.decode().partition(":")
            self.waiting[queue][int(number)] = None

    def living(self) -> Iterator[Life]:
        return (life for life in self.all_lives if not life.client.session.closed)

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        """What waits or is on its way in the broker is what the model says nobody has."""
        for name in QUEUES:
            queue = self.broker.topology.queues[name]
            there = [entry.message.body for entry in queue.ready.entries()]
            for life in self.living():
                entries = life.client.channel.unacked.entries
                there += [
                    entry.message.body
                    for tag, entry in entries.items()
                    if entry.queue is queue and tag not in life.held
                ]
            assert sorted(there) == sorted(b"%s:%d" % (name.encode(), number) for number in self.waiting[name])

    @invariant()
    def prefetch_is_honoured_and_used(self) -> None:
        """Never beyond a consumer's limit; and nothing waits while somebody has room."""
        room = dict.fromkeys(QUEUES, False)
        for life in self.living():
            entries = life.client.channel.unacked.entries.values()
            for tag, (queue, limit) in life.prefetch.items():
                held = sum(1 for entry in entries if entry.consumer is not None and entry.consumer.tag == tag)
                assert not limit or held <= limit
                room[queue] |= not limit or held < limit
        for name in QUEUES:
            assert not (room[name] and self.broker.topology.queues[name].ready.count)

    @invariant()
    def memory_adds_up(self) -> None:
        """The count behind the memory alarm is the sum of what is there."""
        entries = [entry for queue in self.broker.topology.queues.values() for entry in queue.ready.entries()]
        for life in self.living():
            entries += life.client.channel.unacked.entries.values()
        assert self.broker.memory == sum(entry.message.size for entry in entries)


BrokerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestBroker = BrokerMachine.TestCase
