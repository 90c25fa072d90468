"""Links to a broker in this process: the contract of ``transport._contract``, several runs, faults on purpose."""

from __future__ import annotations

import gc
import itertools
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from amqp import exceptions as amqp_errors

from kombu_actors._values.endpoint import LinkOptions, parse_url
from kombu_actors._values.model import (
    BindingKind,
    BindingSpec,
    ConsumerSpec,
    Delivery,
    ExchangeSpec,
    QueueSpec,
    Returned,
)
from kombu_actors.errors import BrokerUnreachable, ChannelLimitExceeded, ConnectionClosed, ConnectionLost
from kombu_actors.transport import transport_for
from kombu_actors.transport._contract import Link, LinkChannel, Transport
from kombu_actors.transport.memory import MemoryBroker, MemoryTransport, forget_memory_broker, memory_broker

PATIENCE = 5.0
_names = itertools.count()

TRANSPORT: Transport = MemoryTransport()


@attrs.define(eq=False)
class Inbox:
    """A consumer's sink that one can wait for."""

    batches: list[list[Delivery]] = attrs.field(factory=list)
    cancelled: trio.Event = attrs.field(factory=trio.Event)
    _stirred: trio.Event = attrs.field(factory=trio.Event)

    def sink(self, batch: list[Delivery]) -> None:
        self.batches.append(batch)
        self._stirred.set()

    @property
    def bodies(self) -> list[bytes]:
        return [delivery.body for batch in self.batches for delivery in batch]

    async def wait(self, count: int) -> list[bytes]:
        with trio.fail_after(PATIENCE):
            while len(self.bodies) < count:
                await self._stirred.wait()
                self._stirred = trio.Event()
        return self.bodies


@pytest.fixture
def name() -> Iterator[str]:
    name = f"links-{next(_names)}"
    yield name
    assert memory_broker(name).links == ()
    forget_memory_broker(name)


@asynccontextmanager
async def linked(name: str, *, ends: type[BaseException] | None = None, **options: Any) -> AsyncIterator[Link]:
    """A link with its dispatcher; ``ends`` is how the dispatcher has to end, if not by ``aclose``."""
    link = await TRANSPORT.connect(parse_url(f"memory://{name}"), LinkOptions(**options))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_serve, link, ends)
        try:
            yield link
        finally:
            with trio.move_on_after(PATIENCE, shield=True):
                await link.aclose()


async def _serve(link: Link, ends: type[BaseException] | None) -> None:
    if ends is None:
        await link.run("dispatcher")
    else:
        with pytest.raises(ends):
            await link.run("dispatcher")


def prepared(body: bytes, key: str = "q", exchange: str = "", **properties: Any) -> Any:
    mandatory = properties.pop("mandatory", False)
    return TRANSPORT.prepare(body, exchange=exchange, routing_key=key, properties=properties, mandatory=mandatory)


async def with_queue(link: Link, name: str = "q", **options: Any) -> LinkChannel:
    channel = await link.open_channel()
    await channel.queue_declare(QueueSpec(name=name, **options))
    return channel


async def consume(channel: LinkChannel, queue: str = "q", tag: str = "t", **options: Any) -> Inbox:
    inbox = Inbox()
    await channel.consume(ConsumerSpec(tag=tag, queue=queue, **options), inbox.sink, inbox.cancelled.set)
    return inbox


async def meet(channel: LinkChannel) -> None:
    """Everything the broker said until now is heard when this returns."""
    await channel.exchange_declare(ExchangeSpec(name="amq.direct"), passive=True)


# -- the contract ------------------------------------------------------------------------------


def test_the_scheme_leads_here() -> None:
    """``memory://`` is found like any transport, and its values satisfy the contract's types."""
    assert isinstance(transport_for("memory"), MemoryTransport)
    assert MemoryTransport.capabilities.exchange_types == {"direct", "topic", "fanout", "headers"}


async def test_deliveries_come_in_batches_and_never_from_inside_a_publish(name: str) -> None:
    """One list per consumer and turn, called by the dispatcher only."""
    async with linked(name) as link:
        channel = await with_queue(link)
        inbox = await consume(channel)
        for number in range(100):
            channel.publish(prepared(b"%d" % number))
            assert inbox.batches == []
        assert await inbox.wait(100) == [b"%d" % number for number in range(100)]
        assert len(inbox.batches) == 1
        assert [delivery.delivery_tag for delivery in inbox.batches[0]] == list(range(1, 101))


async def test_confirms_come_in_runs_after_the_returns_they_belong_to(name: str) -> None:
    """``on_confirm(tag, multiple, accepted)``; what came back was told before."""
    heard: list[Any] = []

    def on_confirm(tag: int, multiple: bool, accepted: bool) -> None:
        heard.append((tag, multiple, accepted))

    def on_return(returned: Returned) -> None:
        heard.append(returned.body)

    async with linked(name) as link:
        channel = await with_queue(link)
        channel.confirm_select(on_confirm, on_return)
        for number in range(3):
            channel.publish(prepared(b"%d" % number))
        channel.publish(prepared(b"nobody's", "nowhere", mandatory=True))
        channel.publish(prepared(b"3"))
        assert heard == []
        await meet(channel)
        assert heard == [(3, True, True), b"nobody's", (5, True, True)]


async def test_a_refusal_is_raised_and_costs_its_channel_alone(name: str) -> None:
    """The reply code's class, the method it answers, and the death of one channel."""
    async with linked(name) as link:
        other = await with_queue(link)
        channel = await link.open_channel()
        with pytest.raises(
            amqp_errors.NotFound, match=r"Queue.declare: \(404\) NOT_FOUND - no queue 'nope' in vhost '/'"
        ):
            await channel.queue_declare(QueueSpec(name="nope"), passive=True)
        assert isinstance(await channel.wait_closed(), amqp_errors.NotFound)
        with pytest.raises(amqp_errors.NotFound):
            channel.publish(prepared(b"late"))
        with pytest.raises(amqp_errors.NotFound):
            await channel.queue_purge("q")
        await channel.aclose()
        assert other.closed is None
        again = await link.open_channel()
        assert again.number == channel.number
        await again.queue_purge("q")


async def test_a_publish_to_nowhere_closes_its_channel_later(name: str) -> None:
    """There is no reply to raise it from: ``wait_closed`` says it, and so does the next request."""
    async with linked(name) as link:
        channel = await link.open_channel()
        channel.publish(prepared(b"x", exchange="missing"))
        with pytest.raises(amqp_errors.NotFound, match="no exchange 'missing'"):
            await meet(channel)
        assert isinstance(channel.closed, amqp_errors.NotFound)


async def test_what_would_end_the_connection_is_refused_before(name: str) -> None:
    """503, 530 and 540 are raised with the broker's class; channel and link live on."""
    async with linked(name) as link:
        channel = await with_queue(link)
        with pytest.raises(amqp_errors.InvalidCommand):
            await channel.exchange_declare(ExchangeSpec(name="x", type="bogus"))
        with pytest.raises(amqp_errors.AMQPNotImplementedError):
            await channel.qos(prefetch_size=10)
        with pytest.raises(amqp_errors.AMQPNotImplementedError):
            await channel.flow(False)
        with pytest.raises(amqp_errors.AMQPNotImplementedError):
            await channel.recover(requeue=False)
        with pytest.raises(ValueError, match="prefetch_count must be from 0"):
            await channel.qos(prefetch_count=70_000)
        await consume(channel)
        with pytest.raises(amqp_errors.NotAllowed):
            await consume(channel)
        await channel.flow(True)
        await channel.queue_purge("q")


async def test_after_cancel_the_sink_hears_nothing(name: str) -> None:
    """What was on its way is handed over before ``cancel`` returns; later messages stay."""
    async with linked(name) as link:
        channel = await with_queue(link)
        inbox = await consume(channel)
        channel.publish(prepared(b"1"))
        await channel.cancel("t")
        assert inbox.bodies == [b"1"]
        channel.publish(prepared(b"2"))
        await meet(channel)
        assert inbox.bodies == [b"1"]
        assert await channel.queue_delete("q") == 1


async def test_a_deleted_queue_tells_its_consumers(name: str) -> None:
    """``on_cancel``, on another link too."""
    async with linked(name) as link, linked(name) as other:
        channel = await with_queue(link)
        inbox = await consume(await other.open_channel())
        await channel.queue_delete("q")
        with trio.fail_after(PATIENCE):
            await inbox.cancelled.wait()


async def test_everything_declarable_can_be_undone(name: str) -> None:
    """Each request of the contract, once."""
    async with linked(name) as link:
        channel = await link.open_channel()
        info = await channel.queue_declare(QueueSpec(name="", exclusive=True))
        assert info.name.startswith("amq.gen-")
        assert len(info.name) == 30
        for exchange in ("x", "y"):
            await channel.exchange_declare(ExchangeSpec(name=exchange, type="topic"))
        to_y = BindingSpec(kind=BindingKind.EXCHANGE, source="x", destination="y", routing_key="a.#")
        to_q = BindingSpec(kind=BindingKind.QUEUE, source="y", destination=info.name, routing_key="#")
        await channel.exchange_bind(to_y)
        await channel.queue_bind(to_q)
        channel.publish(prepared(b"1", "a.b", "x", message_id="m"))
        found = await channel.get(info.name)
        assert found is not None
        assert (found[0].body, found[0].properties, found[1]) == (b"1", {"message_id": "m"}, 0)
        channel.nack(found[0].delivery_tag)
        await channel.recover(requeue=True)
        assert await channel.queue_purge(info.name) == 1
        assert await channel.get(info.name, no_ack=True) is None
        await channel.exchange_unbind(to_y)
        await channel.queue_unbind(to_q)
        await channel.exchange_delete("x", if_unused=True)
        await channel.exchange_delete("y", if_unused=True)
        assert await channel.queue_delete(info.name, if_unused=True, if_empty=True) == 0


async def test_a_cancelled_request_leaves_the_channel_usable(name: str) -> None:
    """A consume or get that nobody waits for any more keeps no message; a channel keeps no number."""
    broker = memory_broker(name)
    async with linked(name) as link:
        channel = await with_queue(link)
        inbox = Inbox()
        broker.block()
        channel.publish(prepared(b"1"))  # now the broker does not read, and no reply can come
        async with trio.open_nursery() as nursery:
            nursery.start_soon(consume, channel)
            nursery.start_soon(channel.consume, ConsumerSpec(tag="u", queue="q"), inbox.sink, inbox.cancelled.set)
            nursery.start_soon(channel.get, "q")
            nursery.start_soon(link.open_channel)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        broker.unblock()
        await meet(channel)
        assert inbox.bodies == []
        await meet(channel)
        assert (await channel.queue_declare(QueueSpec(name="q"), passive=True)).consumers == 0
        found = await channel.get("q")
        assert found is not None
        assert found[0].body == b"1"
        assert (await link.open_channel()).number == 2


async def test_channel_numbers_are_limited_and_come_back(name: str) -> None:
    """``ChannelLimitExceeded`` says what to do; the last one is kept for who asks for it."""
    async with linked(name, channel_max=3) as link:
        first = await link.open_channel()
        second = await link.open_channel()
        with pytest.raises(ChannelLimitExceeded, match="close some"):
            await link.open_channel()
        await first.aclose()
        assert isinstance(first.closed, ConnectionClosed)
        assert (await link.open_channel()).number == first.number
        assert (await link.open_channel(kept=True)).number == 3
        assert second.closed is None


async def test_closing_hears_out_the_broker(name: str) -> None:
    """Confirms of what was published before ``aclose`` come; then everybody is told it was us."""
    confirmed: list[int] = []
    async with linked(name) as link:
        channel = await with_queue(link)
        channel.confirm_select(lambda tag, multiple, accepted: confirmed.append(tag), lambda returned: None)
        for _ in range(10):
            channel.publish(prepared(b"x"))
        await link.aclose()
        assert confirmed == [10]
        assert isinstance(link.closed, ConnectionClosed)
        assert isinstance(channel.closed, ConnectionClosed)
        with pytest.raises(ConnectionClosed):
            channel.ack(1)
        with pytest.raises(ConnectionClosed):
            await link.open_channel()


async def test_closing_works_without_a_dispatcher(name: str) -> None:
    """Whoever served the link may have been cancelled already."""
    link = await TRANSPORT.connect(parse_url(f"memory://{name}"), LinkOptions())
    with trio.fail_after(PATIENCE):
        await link.aclose()
        await link.aclose()


async def test_killing_fails_every_waiter(name: str) -> None:
    """Requests under way, ``wait_closed`` and the dispatcher get the reason."""
    broker = memory_broker(name)
    reason = ConnectionLost("pulled the plug")
    async with linked(name, ends=ConnectionLost) as link:
        channel = await with_queue(link)
        await consume(channel)
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(ConnectionLost, match="pulled the plug"):
                    await channel.queue_purge("q")

            broker.block()
            channel.publish(prepared(b"1"))
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            link.kill(reason)
        broker.unblock()
        assert await link.wait_closed() is reason
        assert await channel.wait_closed() is reason


async def test_a_paused_link_takes_nothing_in_but_answers(name: str) -> None:
    """Deliveries wait for ``resume_reading``, unless a request has to be answered."""
    async with linked(name) as link, linked(name) as other:
        channel = await with_queue(link)
        inbox = await consume(channel)
        link.pause_reading()
        publisher = await other.open_channel()
        publisher.publish(prepared(b"1"))
        await meet(publisher)
        await trio.testing.wait_all_tasks_blocked()
        assert inbox.bodies == []
        await meet(channel)
        assert inbox.bodies == [b"1"]
        publisher.publish(prepared(b"2"))
        await trio.testing.wait_all_tasks_blocked()
        assert inbox.bodies == [b"1"]
        link.resume_reading()
        assert await inbox.wait(2) == [b"1", b"2"]


async def test_messages_do_not_share_memory_with_their_sender(name: str) -> None:
    """What the sender changes after ``prepare`` is not sent; equal messages may be sent again."""
    async with linked(name) as link:
        channel = await with_queue(link)
        headers = {"a": [1, {"b": (2, 3)}], "raw": b"\xff", "text": b"text"}
        message = prepared(b"x", headers=headers, correlation_id=None)
        headers["a"].clear()  # type: ignore[attr-defined]
        channel.publish(message)
        channel.publish(message)
        first, second = await channel.get("q"), await channel.get("q")
        assert first is not None
        assert second is not None
        assert first[0].properties == {"headers": {"a": [1, {"b": [2, 3]}], "raw": b"\xff", "text": "text"}}
        assert second[0].properties == first[0].properties


def test_bad_messages_are_refused_before_they_are_sent() -> None:
    """In the caller's thread, naming the argument."""
    with pytest.raises(ValueError, match="routing_key must be at most 255 bytes"):
        prepared(b"x", "k" * 256)
    with pytest.raises(ValueError, match="expiration must be milliseconds"):
        prepared(b"x", expiration="soon")
    with pytest.raises(TypeError, match="serialize it first"):
        prepared("text")  # type: ignore[arg-type]


# -- time --------------------------------------------------------------------------------------


async def test_messages_expire_by_themselves(name: str) -> None:
    """The dispatcher sleeps until the next deadline: nobody has to ask."""
    async with linked(name) as link:
        channel = await with_queue(link, arguments={"x-message-ttl": 30, "x-dead-letter-exchange": "amq.fanout"})
        await channel.queue_declare(QueueSpec(name="dead"))
        await channel.queue_bind(BindingSpec(kind=BindingKind.QUEUE, source="amq.fanout", destination="dead"))
        inbox = await consume(channel, "dead", no_ack=True)
        channel.publish(prepared(b"old"))
        channel.publish(prepared(b"older", expiration="5"))
        assert sorted(await inbox.wait(2)) == [b"old", b"older"]


async def test_expiry_does_not_depend_on_who_published(name: str) -> None:
    """The link that planned the expiry has gone; another one still sees to it."""
    async with linked(name) as link:
        channel = await with_queue(link, arguments={"x-message-ttl": 50, "x-dead-letter-exchange": "amq.fanout"})
        await channel.queue_declare(QueueSpec(name="dead"))
        await channel.queue_bind(BindingSpec(kind=BindingKind.QUEUE, source="amq.fanout", destination="dead"))
        inbox = await consume(channel, "dead", no_ack=True)
        async with linked(name) as other:
            publisher = await other.open_channel()
            publisher.publish(prepared(b"old"))
            await meet(publisher)
        assert await inbox.wait(1) == [b"old"]


async def test_a_clock_of_ones_own(name: str) -> None:
    """Time to live is tested without waiting: move the clock, ``tick``."""
    now = [0.0]
    broker = memory_broker(name, make=lambda name: MemoryBroker(name, clock=lambda: now[0]))
    async with linked(name) as link:
        await with_queue(link, arguments={"x-expires": 60_000})
        now[0] = 59.0
        assert broker.queue_depths() == {"q": 0}
        now[0] = 61.0
        broker.tick()
        assert broker.queue_depths() == {}


# -- names, runs and threads -------------------------------------------------------------------


async def test_names_and_virtual_hosts_are_separate_worlds(name: str) -> None:
    """Same name, same queues; another name or virtual host knows nothing of them."""
    other_name = f"links-{next(_names)}"
    async with linked(name) as link, linked(name) as same, linked(other_name) as other, linked(f"{name}/v") as host:
        await with_queue(link)
        channel = await same.open_channel()
        await channel.queue_declare(QueueSpec(name="q"), passive=True)
        for stranger in (other, host):
            channel = await stranger.open_channel()
            with pytest.raises(amqp_errors.NotFound):
                await channel.queue_declare(QueueSpec(name="q"), passive=True)
    forget_memory_broker(other_name)


def test_no_name_is_the_default_name() -> None:
    """``memory://`` is one world like any other."""
    forget_memory_broker()
    assert memory_broker() is memory_broker("") is memory_broker("localhost")
    assert parse_url("memory://").host == "localhost"
    forget_memory_broker()


def test_several_trio_runs_share_a_broker(name: str) -> None:
    """A consumer in one thread's run, publishers in two others: every message once, in order."""
    count = 2_000
    received: list[bytes] = []
    consuming = threading.Event()
    runs = threading.Barrier(2)

    async def consumer() -> None:
        async with linked(name) as link:
            channel = await with_queue(link)
            await channel.qos(prefetch_count=50)
            inbox = Inbox()

            def sink(batch: list[Delivery]) -> None:
                channel.ack(batch[-1].delivery_tag, multiple=True)
                inbox.sink(batch)

            await channel.consume(ConsumerSpec(tag="t", queue="q"), sink, inbox.cancelled.set)
            consuming.set()
            received.extend(await inbox.wait(2 * count))
            assert await channel.queue_delete("q") == 0

    async def publisher(who: bytes) -> None:
        done = trio.Event()

        def on_confirm(tag: int, multiple: bool, accepted: bool) -> None:
            assert accepted
            if tag == count:
                done.set()

        async with linked(name) as link:
            channel = await link.open_channel()
            channel.confirm_select(on_confirm, lambda returned: None)
            runs.wait(PATIENCE)
            for number in range(count):
                channel.publish(prepared(who + b"%d" % number))
                if number % 10 == 0:
                    await trio.lowlevel.checkpoint()
            with trio.fail_after(PATIENCE):
                await done.wait()

    threads = [threading.Thread(target=trio.run, args=(consumer,))]
    threads[0].start()
    assert consuming.wait(PATIENCE)
    threads += [threading.Thread(target=trio.run, args=(publisher, who)) for who in (b"a", b"b")]
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join(4 * PATIENCE)
        assert not thread.is_alive()
    for who in (b"a", b"b"):
        assert [body for body in received if body.startswith(who)] == [who + b"%d" % number for number in range(count)]


def test_a_run_that_ended_without_a_goodbye_is_a_dead_client(name: str) -> None:
    """Its messages go back when somebody notices, as with a killed process."""

    async def careless() -> None:
        link = await TRANSPORT.connect(parse_url(f"memory://{name}"), LinkOptions())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.run, "dispatcher")
            channel = await with_queue(link)
            inbox = await consume(channel)
            channel.publish(prepared(b"1"))
            await inbox.wait(1)
            nursery.cancel_scope.cancel()

    async def survivor() -> list[bytes]:
        async with linked(name) as link:
            channel = await link.open_channel()
            inbox = await consume(channel, tag="u")
            channel.publish(prepared(b"2"))
            channel.publish(prepared(b"3"))
            return await inbox.wait(3)

    trio.run(careless)
    assert sorted(trio.run(survivor)) == [b"1", b"2", b"3"]


async def test_links_are_not_kept_alive_by_their_broker(name: str) -> None:
    """A closed link is garbage."""
    async with linked(name) as link:
        await consume(await with_queue(link))
    gone = type(link)
    del link
    gc.collect()
    assert not [thing for thing in gc.get_objects() if type(thing) is gone and name in repr(thing)]


# -- faults on purpose -------------------------------------------------------------------------


async def test_an_operator_closes_connections(name: str) -> None:
    """320 to all or to one; what was unacknowledged is redelivered."""
    broker = memory_broker(name)
    async with linked(name, ends=ConnectionLost) as link, linked(name) as other:
        channel = await with_queue(link)
        inbox = await consume(channel)
        channel.publish(prepared(b"1"))
        await inbox.wait(1)
        broker.close_link("maintenance", link=broker.links[0])
        reason = await link.wait_closed()
        assert str(reason).endswith("320 CONNECTION_FORCED - maintenance")
        assert isinstance(reason.__cause__, amqp_errors.ConnectionForced)
        found = await (await other.open_channel()).get("q")
        assert found is not None
        assert found[0].redelivered
    assert other.closed is not link.closed


async def test_a_cut_link_hears_nothing_more(name: str) -> None:
    """No goodbye, and what it had not read is gone; the messages are not."""
    broker = memory_broker(name)
    async with linked(name, ends=ConnectionLost) as link:
        channel = await with_queue(link)
        inbox = await consume(channel)
        channel.publish(prepared(b"1"))
        broker.cut()
        with trio.fail_after(PATIENCE):
            reason = await link.wait_closed()
        assert isinstance(reason, ConnectionLost)
        assert inbox.bodies == []
        assert broker.queue_depths() == {"q": 1}
        with pytest.raises(ConnectionLost):
            channel.publish(prepared(b"2"))


async def test_one_channel_can_be_closed_from_outside(name: str) -> None:
    """Any code; its siblings live."""
    broker = memory_broker(name)
    async with linked(name) as link:
        sibling = await link.open_channel()
        channel = await link.open_channel()
        broker.close_channel(channel, 406, "PRECONDITION_FAILED - delivery acknowledgement timed out")  # type: ignore[arg-type]
        with trio.fail_after(PATIENCE):
            assert "timed out" in str(await channel.wait_closed())
        await meet(sibling)


async def test_a_refusing_broker_is_unreachable(name: str) -> None:
    """Until it takes connections again; those it has go on."""
    broker = memory_broker(name)
    async with linked(name) as link:
        broker.refuse()
        with pytest.raises(BrokerUnreachable, match="refuses connections"):
            await TRANSPORT.connect(parse_url(f"memory://{name}"), LinkOptions())
        await with_queue(link)
        broker.refuse(False)
        async with linked(name):
            assert len(broker.links) == 2


async def test_an_alarm_stops_reading_from_publishers_only(name: str) -> None:
    """As at RabbitMQ: the first publish still counts; then acks and requests of that link wait as well."""
    broker = memory_broker(name)
    reasons: list[str | None] = []
    confirmed: list[int] = []
    async with linked(name) as link, linked(name) as consumer_link:
        channel = await with_queue(link)
        channel.confirm_select(lambda tag, multiple, accepted: confirmed.append(tag), lambda returned: None)
        link.on_blocked(reasons.append)
        broker.block("low on memory")
        await meet(channel)
        assert link.blocked is None
        for body in (b"1", b"2", b"3"):
            channel.publish(prepared(body))
        await trio.testing.wait_all_tasks_blocked()
        assert confirmed == [1]
        assert reasons == ["low on memory"]
        assert str(link.blocked) == "low on memory"
        inbox = await consume(await consumer_link.open_channel())
        assert await inbox.wait(1) == [b"1"]
        assert consumer_link.blocked is None
        with trio.move_on_after(0.01) as waited:
            await meet(channel)
        assert waited.cancelled_caught
        broker.unblock()
        assert await inbox.wait(3) == [b"1", b"2", b"3"]
        await meet(channel)
        assert confirmed[-1] == 3
        assert reasons == ["low on memory", None]
        assert link.blocked is None


async def test_a_blocked_link_closes_in_bounded_time(name: str) -> None:
    """The broker does not read our goodbye; we don't wait for it for ever."""
    broker = memory_broker(name)
    async with linked(name) as link:
        channel = await with_queue(link)
        broker.block()
        channel.publish(prepared(b"1"))
        with trio.fail_after(PATIENCE):
            await link.aclose()
        assert isinstance(link.closed, ConnectionClosed)
        broker.unblock()


async def test_too_many_bytes_raise_the_alarm_until_they_are_consumed(name: str) -> None:
    """``memory_limit``: the broker's own high-water mark."""
    memory_broker(name, make=lambda name: MemoryBroker(name, memory_limit=100_000))
    async with linked(name) as link, linked(name) as consumer_link:
        channel = await with_queue(link)
        for _ in range(30):
            channel.publish(prepared(b"x" * 10_000))
        await trio.testing.wait_all_tasks_blocked()
        assert link.blocked == "low on memory"
        consumer_channel = await consumer_link.open_channel()
        inbox = await consume(consumer_channel, no_ack=True)
        await inbox.wait(30)
        await meet(channel)
        assert link.blocked is None


async def test_a_restart_keeps_durable_queues_and_persistent_messages(name: str) -> None:
    """Connections end; what was to survive does."""
    broker = memory_broker(name)
    async with linked(name, ends=ConnectionLost) as link:
        channel = await with_queue(link)
        await channel.queue_declare(QueueSpec(name="transient", durable=False))
        channel.publish(prepared(b"kept", delivery_mode=2))
        channel.publish(prepared(b"lost", delivery_mode=1))
        broker.restart()
        assert "shutdown" in str(await link.wait_closed())
    assert broker.queue_depths() == {"q": 1}


async def test_a_forgotten_broker_starts_afresh(name: str) -> None:
    """Its links are cut; the same name is empty again."""
    async with linked(name, ends=ConnectionLost) as link:
        await with_queue(link)
        old = memory_broker(name)
        forget_memory_broker(name)
        with trio.fail_after(PATIENCE):
            await link.wait_closed()
    assert memory_broker(name) is not old
    assert memory_broker(name).queue_depths() == {}
