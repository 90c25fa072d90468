"""Simple queues: documented behaviour with kombu as the witness, and no deafness, no hoarding."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from queue import Empty
from typing import Any

import pytest

from kombu_actors import Connection, Consumer, Exchange, Message, Producer, Queue
from kombu_actors.errors import ConnectionClosed, ContentDisallowed
from kombu_actors.supervisors import Failed
from kombu_actors.utils.uuid import uuid
from tests.support.processes import wait_until

from .outages import OUTPOSTS, Outpost

PATIENCE = 10.0


@pytest.fixture(params=sorted(OUTPOSTS))
def outpost(request: pytest.FixtureRequest) -> Iterator[Outpost]:
    """A broker of each kind."""
    yield from OUTPOSTS[request.param](request)


@pytest.fixture
def own(outpost: Outpost) -> Iterator[Connection]:
    """Our connection to it."""
    with Connection(outpost.url) as made:
        yield made


@pytest.fixture(params=["kombu_actors", "kombu"])
def library(request: pytest.FixtureRequest) -> Any:
    """The library whose behaviour is looked at: ours, and the one it promises to behave like."""
    return import_module(request.param)


@pytest.fixture(params=["memory", "amqp"])
def connection(library: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A connection of that library to a broker of its own."""
    url = f"memory://{uuid()}" if request.param == "memory" else request.getfixturevalue("amqp_url")
    with library.Connection(url) as made:
        yield made


@pytest.fixture
def name() -> str:
    """kombu's memory broker is one for the whole process."""
    return f"simple-{uuid()}"


def test_put_and_get(connection: Any, name: str) -> None:
    """In order, with headers; what isn't acknowledged stays on the books of the broker."""
    with connection.SimpleQueue(name) as queue:
        queue.put({"n": 1}, headers={"h": 1})
        queue.put({"n": 2}, serializer="json", compression="gzip")
        first = queue.get(timeout=PATIENCE)
        assert (first.payload, first.headers["h"]) == ({"n": 1}, 1)
        first.ack()
        second = queue.get(block=True, timeout=PATIENCE)
        assert second.payload == {"n": 2}
        second.ack()


def test_empty_is_an_exception(connection: Any, name: str) -> None:
    """After the timeout, or at once; it is the standard library's, and an attribute."""
    queue = connection.SimpleQueue(name)
    assert queue.Empty is Empty
    begin = time.monotonic()
    with pytest.raises(Empty):
        queue.get(timeout=0.2)
    assert 0.2 <= time.monotonic() - begin < 1
    for get in (lambda: queue.get(timeout=0), lambda: queue.get(block=False), queue.get_nowait):
        with pytest.raises(Empty):
            get()
    queue.close()


def test_a_name_makes_queue_and_exchange(library: Any, connection: Any, name: str) -> None:
    """Of that name, with the name as routing key; the options go to each."""
    queue = connection.SimpleQueue(
        name,
        queue_opts={"durable": False, "auto_delete": True, "exclusive": True},
        queue_args={"x-max-length": 5},
        exchange_opts={"type": "topic", "durable": False},
    )
    declared = queue.queue
    assert (declared.name, declared.routing_key, declared.queue_arguments) == (name, name, {"x-max-length": 5})
    assert (declared.durable, declared.auto_delete) == (False, True)
    assert (declared.exchange.name, declared.exchange.type, declared.exchange.durable) == (name, "topic", False)
    assert (queue.producer.exchange.name, queue.producer.routing_key) == (name, name)
    assert queue.consumer.queues[0] == declared
    library.Producer(connection).publish("by hand", exchange=name, routing_key=name)
    wait_until(lambda: queue.qsize() == 1, timeout=PATIENCE, waiting_for="the message")
    queue.close()


def test_a_queue_is_used_as_it_is(library: Any, connection: Any, name: str) -> None:
    """Its exchange, routing key and arguments."""
    given = library.Queue(name, library.Exchange(f"{name}.x", "topic"), "a.b")
    queue = connection.SimpleQueue(given)
    assert queue.queue == given
    queue.put("m")
    message = queue.get(timeout=PATIENCE)
    message.ack()
    assert (message.delivery_info["exchange"], message.delivery_info["routing_key"]) == (f"{name}.x", "a.b")
    queue.close()


def test_the_channel_is_the_default_one_or_the_one_given(connection: Any, name: str) -> None:
    """For all that the queue does."""
    queue = connection.SimpleQueue(name)
    assert queue.channel is connection.default_channel
    assert queue.producer.channel is queue.channel
    channel = connection.channel()
    given = connection.SimpleQueue(name, channel=channel)
    assert given.channel is given.producer.channel is given.consumer.channel is channel
    given.put("m")
    message = given.get(timeout=PATIENCE)
    assert message.channel is channel
    message.ack()
    for one in (queue, given):
        one.close()


def test_acknowledgements_are_on_unless_turned_off(connection: Any, name: str) -> None:
    """With ``no_ack=True`` a message got is gone."""
    queue = connection.SimpleQueue(name)
    assert not queue.no_ack
    careless = connection.SimpleQueue(f"{name}.careless", no_ack=True)
    assert careless.no_ack
    careless.put("m")
    message = careless.get(timeout=PATIENCE)
    assert message.payload == "m"
    assert careless.qsize() == 0
    queue.put("m")
    queue.get(timeout=PATIENCE).requeue()
    again = queue.get(timeout=PATIENCE)
    assert again.payload == "m"
    again.ack()
    for one in (queue, careless):
        one.close()


def test_a_buffer_is_for_the_moment(library: Any, connection: Any, name: str) -> None:
    """Transient, exclusive, auto-delete, without acknowledgements."""
    buffer = connection.SimpleBuffer(name)
    queue, exchange = buffer.queue, buffer.queue.exchange
    assert (queue.durable, queue.auto_delete, queue.exclusive, buffer.no_ack) == (False, True, True, True)
    assert (exchange.durable, exchange.auto_delete, exchange.delivery_mode) == (False, True, 1)
    buffer.put("m")
    message = buffer.get(timeout=PATIENCE)
    assert (message.payload, message.properties["delivery_mode"]) == ("m", 1)
    buffer.close()


# Beyond kombu


def test_a_queue_object_counts_and_is_true(own: Connection) -> None:
    """``qsize`` and ``len`` count what was put just now; ``clear`` deletes it and says how many there were.

    kombu on RabbitMQ may count before its puts have arrived.
    """
    queue = own.SimpleQueue("q")
    assert bool(queue)
    assert len(queue) == 0
    for number in range(3):
        queue.put(number)
    assert queue.qsize() == len(queue) == 3
    assert queue.get_nowait().payload == 0
    assert queue.clear() == 2
    assert queue.qsize() == 0
    queue.close()


def test_getting_survives_any_number_of_lost_connections(outpost: Outpost, own: Connection) -> None:
    """Nothing raised, nothing missed: kombu's stays deaf after the first one."""
    with own.SimpleQueue("q") as queue, own.SimpleBuffer("b") as buffer:
        for number in range(5):
            for one in (queue, buffer):
                one.put(number, retry=True)
                message = one.get(timeout=PATIENCE)
                assert message.payload == number
                message.ack()
            assert queue.qsize() == 0  # the ack has arrived, too
            outpost.cut()


def test_getting_waits_through_an_outage(outpost: Outpost, own: Connection) -> None:
    """With its own timeout; when the broker is back the message comes."""
    with own.SimpleQueue("q") as queue:
        with pytest.raises(Empty):
            queue.get(timeout=0)
        outpost.refuse()
        outpost.cut()
        begin = time.monotonic()
        with pytest.raises(Empty):
            queue.get(timeout=0.3)
        assert time.monotonic() - begin < 1
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(queue.get, timeout=PATIENCE)
            outpost.heal()
            queue.put("m", retry=True)
            waiting.result(PATIENCE).ack()


def test_it_goes_on_after_the_connection_was_released(own: Connection) -> None:
    """Or given up by supervision: the next call starts afresh."""
    queue = own.SimpleQueue("q")
    queue.put(1)
    queue.get(timeout=PATIENCE).ack()
    own.release()
    queue.put(2)
    assert queue.qsize() == 1
    queue.get(timeout=PATIENCE).ack()
    own.release()
    queue.put(3)
    assert queue.get_nowait().payload == 3
    own.release()
    queue.close()


def test_a_channel_that_was_given_up_is_replaced(own: Connection) -> None:
    """The error is raised once, from ``get``; then the queue works again."""
    queue = own.SimpleQueue("q")
    queue.put(1)
    queue.get(timeout=PATIENCE).ack()
    other = own.SimpleQueue("other")
    with pytest.raises(Empty):
        other.get(timeout=0)
    channel = queue.consumer.channel
    assert channel is other.consumer.channel
    own.call(_give_up, channel.handle.actor)
    with pytest.raises(RuntimeError, match="too many restarts"):
        queue.get(timeout=PATIENCE)
    for one in (queue, other):
        one.put(2)
        assert one.get(timeout=PATIENCE).payload == 2
        one.close()


async def _give_up(actor: Any) -> None:
    """What supervision does with a channel after too many restarts."""
    handle = actor.owner.supervisor.nested("channels")
    await handle.remove_child(actor.id)
    actor._exited(Failed(RuntimeError("too many restarts")))


def test_an_idle_queue_object_holds_back_one_message_at_most(outpost: Outpost, own: Connection) -> None:
    """The others are for other processes; so is that one, when it is closed."""
    queue = own.SimpleQueue("q")
    for number in range(10):
        queue.put(number)
    first = queue.get(timeout=PATIENCE)
    outpost.wait_ready("q", 9)
    first.ack()
    outpost.wait_ready("q", 8)
    assert queue.qsize() == 9
    with Connection(outpost.url) as elsewhere, elsewhere.SimpleQueue("q") as rival:
        assert rival.get(timeout=PATIENCE).payload == 2
        queue.close()
        outpost.wait_ready("q", 8)
        assert elsewhere.SimpleQueue("q").get_nowait().payload == 1


def test_closing_gives_back_what_is_still_on_its_way_to_the_buffer(outpost: Outpost, own: Connection) -> None:
    """Delivered, but not yet looked at."""
    queue = own.SimpleQueue("q")
    with pytest.raises(Empty):
        queue.get(timeout=0)
    with Connection(outpost.url, transport_options={"confirm_publish": True}) as elsewhere:
        elsewhere.Producer(routing_key="q").publish("m")
    outpost.wait_ready("q", 0)
    queue.close()
    outpost.wait_ready("q", 1)


def test_its_prefetch_is_its_own(own: Connection) -> None:
    """Consumers on the default channel get as many messages as they ask for."""
    with own.SimpleQueue("q") as queue:
        queue.put(0)
        queue.get(timeout=PATIENCE).ack()
        got: list[Any] = []
        with Consumer(own, [Queue("other")], callbacks=[lambda body, message: got.append(body)]):
            for number in range(5):
                Producer(own, routing_key="other").publish(number)
            for _ in range(5):
                own.drain_events(timeout=PATIENCE)
        assert got == [0, 1, 2, 3, 4]


def test_a_given_channel_keeps_the_prefetch_it_was_given(outpost: Outpost, own: Connection) -> None:
    """Without one it holds back one message."""
    for prefetch, left in ((3, 2), (None, 4)):
        channel = own.channel()
        if prefetch:
            channel.basic_qos(0, prefetch, False)
        queue = own.SimpleQueue(f"q{prefetch}", channel=channel)
        for number in range(5):
            queue.put(number)
        queue.get(timeout=PATIENCE)
        outpost.wait_ready(f"q{prefetch}", left)
        channel.close()
    with pytest.raises(ConnectionClosed):
        queue.get(timeout=PATIENCE)


def test_getting_over_a_given_channel_ends_by_its_timeout_in_an_outage(outpost: Outpost, own: Connection) -> None:
    """And goes on when the broker is back."""
    queue = own.SimpleQueue("q", channel=own.channel())
    with pytest.raises(Empty):
        queue.get(timeout=0)
    outpost.refuse()
    outpost.cut()
    for timeout in (0.2, 0.2):
        begin = time.monotonic()
        with pytest.raises(Empty):
            queue.get(timeout=timeout)
        assert time.monotonic() - begin < 1
    outpost.heal()
    queue.put("m", retry=True)
    queue.get(timeout=PATIENCE).ack()
    queue.close()


def test_threads_that_begin_together_subscribe_once(own: Connection) -> None:
    """One consumer, whatever the interleaving."""
    queue = own.SimpleQueue("q")
    together = threading.Barrier(8)

    def get() -> Message:
        together.wait(PATIENCE)
        return queue.get(timeout=PATIENCE)

    with ThreadPoolExecutor(8) as threads:
        waiting = [threads.submit(get) for _ in range(8)]
        for number in range(8):
            queue.put(number)
        for number in range(8):
            wait_until(lambda: sum(one.done() for one in waiting) > number, timeout=5, waiting_for="a message")  # noqa: B023
            for one in waiting:
                if one.done() and not one.result().acknowledged:
                    one.result().ack()
    assert queue.queue.queue_declare(passive=True)[2] == 1
    assert sorted(one.result().payload for one in waiting) == list(range(8))
    queue.close()


def test_clear_takes_the_prefetched_one_as_well(own: Connection) -> None:
    """After it there is nothing to get."""
    with own.SimpleQueue("q") as queue:
        for number in range(4):
            queue.put(number)
        queue.get(timeout=PATIENCE).ack()
        assert queue.clear() == 3
        with pytest.raises(Empty):
            queue.get(timeout=0.1)


def test_a_message_that_cannot_be_decoded_is_handed_out(own: Connection) -> None:
    """It doesn't block those behind it: its payload raises, and it can be rejected."""
    with own.SimpleQueue("q", accept=["json"]) as queue:
        queue.put({1, 2}, serializer="pickle")
        queue.put(["good"])
        bad = queue.get(timeout=PATIENCE)
        with pytest.raises(ContentDisallowed):
            _ = bad.payload
        bad.reject()
        good = queue.get(timeout=PATIENCE)
        assert good.payload == ["good"]
        good.ack()


def test_threads_share_a_connection(own: Connection) -> None:
    """Each gets what is in its queue, whoever received it; threads on one queue share its messages."""
    names, count = ["a", "b", "c"], 40
    begin = time.monotonic()

    def take(name: str) -> list[int]:
        got = []
        with own.SimpleQueue(name) as queue:
            while (message := queue.get(timeout=PATIENCE)).payload is not None:
                got.append(message.payload)
                message.ack()
            message.ack()
        return got

    with ThreadPoolExecutor(8) as threads:
        takers = [threads.submit(take, name) for name in names]
        with own.SimpleQueue("shared") as shared:
            for number in range(count):
                for name in names:
                    own.Producer(exchange=Exchange(name), routing_key=name).publish(number, declare=[_queue(name)])
                shared.put(number)
            for name in names:
                own.Producer(exchange=Exchange(name), routing_key=name).publish(None)

            def one(_: int) -> Any:
                message = shared.get(timeout=PATIENCE)
                message.ack()
                return message.payload

            assert sorted(threads.map(one, range(count))) == list(range(count))
        assert [taker.result(PATIENCE) for taker in takers] == [list(range(count))] * len(names)
    assert time.monotonic() - begin < PATIENCE / 2, "somebody was woken by nothing but a timeout"


def test_a_thread_takes_its_turn_when_the_one_before_it_is_done(own: Connection) -> None:
    """Who drained for both has left: the other one drains from then on."""
    queues = [own.SimpleQueue(name) for name in ("first", "second")]
    with ThreadPoolExecutor(2) as threads:
        waiting = []
        for queue in queues:
            waiting.append(threads.submit(queue.get, timeout=PATIENCE))
            wait_until(lambda q=queue: q.queue.queue_declare(passive=True)[2] == 1, timeout=5, waiting_for="a consumer")  # type: ignore[misc]
        for queue, got in zip(queues, waiting, strict=True):
            queue.put("m")
            got.result(PATIENCE / 2).ack()
    for queue in queues:
        queue.close()


def test_a_message_that_another_thread_received_ends_the_wait(own: Connection) -> None:
    """That thread drains for consumers of its own, by ``drain_events``."""
    stop = threading.Event()

    def drain() -> None:
        with contextlib.suppress(TimeoutError):
            while not stop.is_set():
                own.drain_events(timeout=0.1)

    with own.SimpleQueue("q") as queue, ThreadPoolExecutor(4) as threads:
        with pytest.raises(Empty):
            queue.get(timeout=0)
        begin = time.monotonic()
        for number in range(12):
            draining = [threads.submit(drain) for _ in range(3)]
            assert queue.qsize() == 0  # they are waiting by now, before who gets
            got = threads.submit(queue.get, timeout=PATIENCE)
            assert queue.qsize() == 0
            queue.put(number)
            message = got.result(PATIENCE)
            assert message.payload == number
            stop.set()
            for one in draining:
                one.result(PATIENCE)
            stop.clear()
            message.ack()
        assert time.monotonic() - begin < PATIENCE


def _queue(name: str) -> Queue:
    return Queue(name, Exchange(name), name)


def test_queues_come_and_go_without_using_up_channels(outpost: Outpost, own: Connection) -> None:
    """They share one channel, whatever their number; each subscription ends with its queue object."""
    for _ in range(50):
        with own.SimpleQueue("q") as queue:
            queue.put("m")
            queue.get(timeout=PATIENCE).ack()
    assert own.channel().channel_id == 3
    with own.SimpleQueue("q") as queue:
        assert queue.queue.queue_declare(passive=True)[2] == 0


def test_other_callbacks_run_in_the_thread_that_gets(own: Connection) -> None:
    """As everywhere: where events are drained."""
    ran: list[int] = []
    with own.SimpleQueue("q") as queue:

        def other(body: Any, message: Any) -> None:
            message.ack()
            ran.append(threading.get_ident())
            queue.put("go")

        with Consumer(own, [Queue("o")], callbacks=[other]):
            own.Producer(routing_key="o").publish("m")
            assert queue.get(timeout=PATIENCE).payload == "go"
    assert ran == [threading.get_ident()]
