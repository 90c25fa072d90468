"""Pools: documented behaviour with kombu as the witness, and what kombu's pools don't promise."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

import pytest

import kombu_actors
from kombu_actors import Connection, pools
from kombu_actors.errors import ChannelLimitExceeded, ConnectionClosed, ConnectionLimitExceeded, LimitExceeded
from kombu_actors.pools import ConnectionPool, PoolGroup, ProducerPool
from kombu_actors.resource import Resource
from kombu_actors.transport.memory import memory_broker
from kombu_actors.utils.uuid import uuid
from tests.support.processes import wait_until

from .outages import OUTPOSTS, Outpost

PATIENCE = 10.0
GOODBYE = 0.25
"""Seconds that a broker which does not answer gets for each connection's goodbye."""
LATE = 0.5
"""Seconds by which a call may be later than its timeout: the machine may be busy."""


@pytest.fixture(params=["kombu_actors", "kombu"])
def library(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The library whose behaviour is looked at: ours, and the one it promises to behave like."""
    found = import_module(request.param)
    pools = import_module(f"{request.param}.pools")
    yield found
    pools.reset()
    pools.set_limit(10)


@pytest.fixture
def connection(library: Any) -> Iterator[Any]:
    """A connection of that library to a broker in this process."""
    with library.Connection(f"memory://{uuid()}") as made:
        yield made


@pytest.fixture(params=sorted(OUTPOSTS))
def outpost(request: pytest.FixtureRequest) -> Iterator[Outpost]:
    """A broker of each kind."""
    yield from OUTPOSTS[request.param](request)


@pytest.fixture
def clean_groups() -> Iterator[None]:
    """The global pools are empty again afterwards, with their default limit."""
    yield
    pools.reset()
    pools.set_limit(10)


def exceptions_of(library: Any) -> Any:
    return import_module(f"{library.__name__}.exceptions")


def test_a_connection_pool_lends_as_many_as_its_limit(library: Any, connection: Any) -> None:
    """The documented example: the third of two is refused, with the limit in the text, until one is back."""
    pool = connection.Pool(2)
    first, second = pool.acquire(), pool.acquire()
    assert first is not second
    with pytest.raises(exceptions_of(library).ConnectionLimitExceeded, match=r"^2"):
        pool.acquire()
    first.release()
    assert pool.acquire() is first
    assert pool.limit == 2
    pool.force_close_all()


def test_a_channel_pool_lends_as_many_as_its_limit(library: Any, connection: Any) -> None:
    """The same with channels, which are open when they are lent."""
    pool = connection.ChannelPool(2)
    first, second = pool.acquire(), pool.acquire()
    assert first.channel_id != second.channel_id
    assert first.is_open if library is kombu_actors else not first.closed
    with pytest.raises(exceptions_of(library).ChannelLimitExceeded, match=r"^2"):
        pool.acquire()
    first.release()
    assert pool.acquire() is first


@pytest.mark.parametrize("limit", [None, 0])
def test_without_limit_each_is_new_and_a_returned_one_is_closed(connection: Any, limit: int | None) -> None:
    """None and 0 are no limit."""
    pool = connection.Pool(limit)
    lent = [pool.acquire() for _ in range(5)]
    assert len(set(map(id, lent))) == 5
    lent[0].connect()
    assert lent[0].connected
    for one in lent:
        one.release()
    assert not lent[0].connected
    assert pool.acquire() not in lent


def test_a_block_returns_the_connection_open(connection: Any) -> None:
    """``with pool.acquire() as c`` is the usual way."""
    pool = connection.Pool(1)
    with pool.acquire() as borrowed:
        borrowed.connect()
    assert borrowed.connected
    with pool.acquire_channel() as (again, channel):
        assert again is borrowed
        assert channel is again.default_channel
    pool.force_close_all()


def test_an_error_in_the_block_closes_the_connection_and_frees_its_place(connection: Any) -> None:
    """Whatever the block left half-done is not the next borrower's."""
    pool = connection.Pool(1)
    borrowed = pool.acquire()
    borrowed.connect()
    with pytest.raises(ZeroDivisionError), borrowed:
        raise ZeroDivisionError
    assert not borrowed.connected
    pool.acquire().release()
    pool.force_close_all()


def test_close_closes_and_release_returns(connection: Any) -> None:
    """A closed connection stays lent until it is released; then it is lent again, and connects when it is used."""
    pool = connection.Pool(1)
    borrowed = pool.acquire()
    for close in (borrowed.close, borrowed._close):
        borrowed.connect()
        close()
        assert not borrowed.connected
        with pytest.raises(pool.LimitExceeded):
            pool.acquire()
    borrowed.release()
    again = pool.acquire()
    again.connect()
    assert again.connected
    pool.force_close_all()
    assert not again.connected


def test_a_replaced_resource_makes_room(connection: Any) -> None:
    """It is closed, and another is made in its place."""
    pool = connection.Pool(1)
    broken = pool.acquire()
    broken.connect()
    pool.replace(broken)
    assert not broken.connected
    pool.acquire()


def test_pools_can_grow_and_shrink(connection: Any) -> None:
    """Not while more are lent than there may be then, unless by force, which takes them away."""
    pool = connection.Pool(1)
    lent = pool.acquire()
    pool.resize(3)
    others = [pool.acquire(), pool.acquire()]
    for other in others:
        other.connect()
    with pytest.raises(RuntimeError, match="Can't shrink pool when in use: was=3 now=1"):
        pool.resize(1)
    pool.resize(2, force=True)
    assert [other.connected for other in others] == [False, False]
    assert pool.limit == 2
    lent = [pool.acquire(), pool.acquire()]
    with pytest.raises(pool.LimitExceeded):
        pool.acquire()
    for one in lent:
        one.release()
    pool.limit = 1
    lent = pool.acquire()
    with pytest.raises(pool.LimitExceeded):
        pool.acquire()
    with pytest.raises(TypeError, match="bool"):
        pool.resize(True)
    with pytest.raises(TypeError, match="bool"):
        connection.Pool(True)


def test_a_closed_pool_lends_nothing(connection: Any) -> None:
    """What was lent is closed as well; ``close_pool=False`` leaves the pool usable."""
    pool = connection.Pool(2)
    lent = pool.acquire()
    lent.connect()
    pool.force_close_all(close_pool=False)
    assert not lent.connected
    pool.acquire()
    pool.force_close_all()
    with pytest.raises(RuntimeError, match="closed pool"):
        pool.acquire()


def test_the_global_pools_are_one_for_equal_connections(library: Any, connection: Any) -> None:
    """``connections[c]`` and ``producers[c]``; ``producers`` takes its connections from ``connections``."""
    found = import_module(f"{library.__name__}.pools")
    assert found.connections[connection] is found.connections[connection.clone()]
    assert found.producers[connection] is found.producers[connection]
    assert found.producers[connection].connections is found.connections[connection]
    assert found.connections[connection] is not found.connections[library.Connection(f"memory://{uuid()}", userid="u")]
    assert found.producers[connection].limit == found.connections[connection].limit == found.get_limit() == 10
    assert found.set_limit(3) == 3
    assert found.producers[connection].limit == found.connections[connection].limit == found.get_limit() == 3
    with pytest.raises(TypeError, match="bool"):
        found.set_limit(True)
    before = found.connections[connection]
    found.reset()
    assert found.connections[connection] is not before
    with pytest.raises(RuntimeError, match="closed pool"):
        before.acquire()


def test_a_producer_is_lent_with_a_connection(library: Any, connection: Any) -> None:
    """It publishes; both are back when it is."""
    found = import_module(f"{library.__name__}.pools")
    found.set_limit(1)
    queue = library.Queue("q")(connection)
    queue.declare()
    for number in range(3):
        with found.producers[connection].acquire() as producer:
            assert isinstance(producer, library.Producer)
            with pytest.raises(exceptions_of(library).ConnectionLimitExceeded):
                found.connections[connection].acquire()
            producer.publish(number, routing_key="q")
    found.connections[connection].acquire().release()
    found.reset()  # after their connection was returned, not lost
    wait_until(lambda: queue.queue_declare(passive=True).message_count == 3, timeout=PATIENCE, waiting_for="3 messages")


def test_what_is_lent_can_be_counted_as_programs_do(connection: Any) -> None:
    """By kombu's ``_dirty``, there being no other way in kombu."""
    pool = connection.Pool(2)
    assert len(pool._dirty) == 0
    with pool.acquire(), pool.acquire():
        assert len(pool._dirty) == 2
    assert len(pool._dirty) == 0


def test_groups_of_ones_own(library: Any) -> None:
    """A group makes a pool for each resource; a registered one is reset with the others."""
    found = import_module(f"{library.__name__}.pools")

    class Group(found.PoolGroup):  # type: ignore[misc,name-defined]
        def create(self, resource: Any, limit: Any) -> Any:
            return resource.Pool(limit)

    group = found.register_group(Group(limit=found.use_global_limit))
    connection = library.Connection("memory://")
    pool = group[connection]
    assert pool is group[connection]
    assert pool.limit == 10
    found.reset()
    assert list(group.values()) == []
    assert Group(limit=7)[connection].limit == 7
    with pytest.raises(NotImplementedError):
        found.PoolGroup()[connection]


# Beyond kombu: timeouts


def test_the_timeout_holds_through_nested_acquires(clean_groups: None) -> None:
    """A producer's connection is waited for as long as the caller said, in all."""
    connection = Connection(f"memory://{uuid()}")
    pools.set_limit(1)
    with pools.connections[connection].acquire():
        begin = time.monotonic()
        with pytest.raises(ConnectionLimitExceeded):
            pools.producers[connection].acquire(block=True, timeout=0.3)
        assert 0.3 <= time.monotonic() - begin < 0.3 + LATE
        begin = time.monotonic()
        with pytest.raises(ConnectionLimitExceeded):
            pools.producers[connection].acquire()
        assert time.monotonic() - begin < LATE
    with pools.producers[connection].acquire(block=True, timeout=1) as producer:
        producer.publish("its place was given back", routing_key="q")


def test_of_many_threads_each_ends_by_its_timeout(clean_groups: None) -> None:
    """Limit 2, 20 threads, 0.5 s: two have it, the others are told within a second."""
    connection = Connection(f"memory://{uuid()}")
    pools.set_limit(2)
    done = threading.Event()

    def borrow(_: int) -> tuple[bool, float]:
        begin = time.monotonic()
        try:
            with pools.producers[connection].acquire(block=True, timeout=0.5):
                took = time.monotonic() - begin
                assert done.wait(PATIENCE)
                return True, took
        except LimitExceeded:
            return False, time.monotonic() - begin

    with ThreadPoolExecutor(20) as threads:
        futures = [threads.submit(borrow, number) for number in range(20)]
        wait_until(lambda: sum(f.done() for f in futures) == 18, timeout=PATIENCE, waiting_for="18 refusals")
        done.set()
        results = [future.result() for future in futures]
    assert sum(got for got, _ in results) == 2
    assert max(took for _, took in results) < 1.0


def test_who_waits_gets_what_is_returned() -> None:
    """At once, each in turn: no one is forgotten, whatever the interleaving."""
    pool = Connection(f"memory://{uuid()}").Pool(2)

    def borrow(_: int) -> float:
        begin = time.monotonic()
        with pool.acquire(block=True, timeout=PATIENCE):
            pass
        return time.monotonic() - begin

    with ThreadPoolExecutor(8) as threads:
        took = list(threads.map(borrow, range(400)))
    assert max(took) < PATIENCE / 2
    lent = [pool.acquire(), pool.acquire()]
    waiting = threading.Thread(target=borrow, args=(0,))
    waiting.start()
    lent[0].release()
    waiting.join(PATIENCE / 2)
    assert not waiting.is_alive()


def test_growing_and_closing_wake_who_waits() -> None:
    """A waiting thread gets the new place; when the pool is closed it is told."""
    pool = Connection(f"memory://{uuid()}").Pool(1)
    pool.acquire()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(pool.acquire, block=True)
        pool.resize(2)
        waiting.result(PATIENCE)
        refused = threads.submit(pool.acquire, block=True)
        pool.force_close_all()
        with pytest.raises(RuntimeError, match="closed pool"):
            refused.result(PATIENCE)


# Beyond kombu: what is lent works, what isn't is gone


def test_different_ways_of_connecting_are_different_pools(clean_groups: None) -> None:
    """TLS, heartbeat, alternates, options, credentials: nobody gets a plain connection who asked for TLS."""
    ways: list[dict[str, Any]] = [
        {},
        {"ssl": True},
        {"heartbeat": 5},
        {"alternates": ["amqp://other"]},
        {"transport_options": {"confirm_publish": True}},
        {"connect_timeout": 1},
        {"login_method": "EXTERNAL"},
        {"password": "other"},
        {"failover_strategy": "shuffle"},
    ]
    connections = [Connection("amqp://host", **way) for way in ways]
    assert len({id(pools.connections[connection]) for connection in connections}) == len(ways)
    assert len(pools.connections) == len(ways)
    assert connections[0] in pools.connections
    assert pools.connections[Connection("amqp://host")] is pools.connections[connections[0]]


def test_after_an_outage_the_next_hundred_work(outpost: Outpost, clean_groups: None) -> None:
    """Publishing without retry works at once when the broker is back: what lost its session dials afresh,
    instead of waiting until supervision's next dial."""
    connection = Connection(outpost.url, transport_options={"confirm_publish": True})
    pool = pools.producers[connection]
    lent = [pool.acquire() for _ in range(5)]
    for producer in lent:
        producer.publish("before", routing_key="q", declare=[kombu_actors.Queue("q")])
    outpost.refuse()
    outpost.cut()
    idle = [producer.connection for producer in lent]
    for producer in lent:
        producer.release()
    wait_until(lambda: not any(c.connected for c in idle), timeout=PATIENCE, waiting_for="the sessions' end")
    outpost.heal()
    for number in range(100):
        with pool.acquire() as producer:
            producer.publish(number, routing_key="q")
    outpost.wait_ready("q", 105)


def test_publishes_under_way_in_an_idle_connection_are_not_thrown_away() -> None:
    """A lost session is not replaced while it owes something: the publishes arrive when the broker is back."""
    name = uuid()
    broker = memory_broker(name)
    with Connection(f"memory://{name}") as watcher:
        kombu_actors.Queue("q")(watcher).declare()
        pool = watcher.Pool(1)
        broker.block()
        with pool.acquire() as borrowed:
            for text in ("makes the broker stop reading", "waits for the alarm's end"):
                borrowed.Producer(routing_key="q").publish(text)
        broker.refuse()
        broker.cut()
        broker.unblock()
        wait_until(lambda: not borrowed.connected, timeout=PATIENCE, waiting_for="the session's end")
        pool.acquire().release()
        broker.refuse(False)
        wait_until(lambda: broker.queue_depths()["q"] == 2, timeout=PATIENCE, waiting_for="the publish")
        pool.force_close_all()


def test_closing_all_leaves_no_connection_at_the_broker(outpost: Outpost) -> None:
    """Idle or lent; one that is used and returned afterwards is closed then."""
    with Connection(outpost.url) as connection:
        pool = connection.Pool(3)
        lent = [pool.acquire() for _ in range(3)]
        for one in lent:
            one.connect()
        outpost.wait_connections(3)
        lent[0].release()
        pool.force_close_all()
        outpost.wait_connections(0)
        lent[1].connect()
        lent[1].release()
        outpost.wait_connections(0)


def test_closing_all_gives_publishes_their_time(outpost: Outpost) -> None:
    """What was accepted before ``force_close_all`` is at the broker after it."""
    with Connection(outpost.url) as connection:
        kombu_actors.Queue("q")(connection).declare()
        pool = connection.Pool(2)
        with pool.acquire() as borrowed:
            producer = borrowed.Producer(routing_key="q")
            for _ in range(500):
                producer.publish("m")
            pool.force_close_all()
        outpost.wait_ready("q", 500)


def test_closing_all_ends_by_its_deadline_and_says_what_was_lost(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A broker that confirms nothing holds it up once, not once for each connection."""
    monkeypatch.setattr("kombu_actors.resource.CLOSE_PATIENCE", 0.2)
    name = uuid()
    broker = memory_broker(name)
    pool = Connection(f"memory://{name}").Pool(5)
    broker.block()
    for borrowed in [pool.acquire() for _ in range(5)]:
        borrowed.Producer(routing_key="q").publish("makes the broker stop reading")
        borrowed.call(borrowed.default_channel.handle.actor.publisher.wait_empty)
        borrowed.Producer(routing_key="q").publish("never confirmed")
    begin = time.monotonic()
    pool.force_close_all()
    assert time.monotonic() - begin < 0.2 + 5 * GOODBYE + LATE
    assert caplog.text.count("had not confirmed 1 publishes") == 5


def test_who_waits_for_messages_is_told_that_the_pool_was_closed() -> None:
    """Instead of waiting for ever on a connection that is gone."""
    pool = Connection(f"memory://{uuid()}").Pool(1)
    borrowed = pool.acquire()
    borrowed.connect()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(borrowed.drain_events)
        pool.force_close_all()
        with pytest.raises(ConnectionClosed):
            waiting.result(PATIENCE)
    borrowed.close()


def test_a_smaller_pool_closes_what_comes_back_too_much(outpost: Outpost) -> None:
    """``ignore_errors`` lets the borrowers finish first."""
    pool = Connection(outpost.url).Pool(2)
    lent = [pool.acquire(), pool.acquire()]
    for one in lent:
        one.connect()
    pool.resize(1, ignore_errors=True)
    for one in lent:
        one.release()
    outpost.wait_connections(1)
    pool.force_close_all()


def test_returning_twice_does_no_harm() -> None:
    """One resource is not lent to two borrowers, nor closed."""
    pool = Connection(f"memory://{uuid()}").Pool(2)
    borrowed = pool.acquire()
    borrowed.connect()
    borrowed.release()
    borrowed.release()
    assert borrowed.connected
    assert pool.acquire() is not pool.acquire()
    pool.force_close_all()


def test_a_dead_channel_is_replaced_and_a_closed_one_makes_room(outpost: Outpost) -> None:
    """Closed by its borrower, or with the connection: the next borrower gets one that is open."""
    with Connection(outpost.url) as connection:
        pool = connection.ChannelPool(1)
        first = pool.acquire()
        with first:
            first.queue_declare("p")
        assert not first.is_open
        second = pool.acquire()
        second.release()
        connection.release()
        with pool.acquire() as third:
            assert third is not second
            third.queue_declare("q")


def test_a_resource_that_cannot_be_made_takes_no_place() -> None:
    """Nor one that cannot be made ready: that one is closed."""
    events: list[str] = []
    broken = ["new"]

    class Thing:
        def close(self) -> None:
            events.append("closed")

    class Pool(Resource[Thing]):
        def new(self) -> Thing:
            if "new" in broken:
                raise OSError("can't be made")
            return Thing()

        def prepare(self, resource: Thing) -> Thing:
            if "prepare" in broken:
                raise OSError("can't be made ready")
            return resource

    pool = Pool(1)
    for what in ("new", "prepare"):
        broken[:] = [what]
        for _ in range(3):
            with pytest.raises(OSError, match="can't be made"):
                pool.acquire()
    assert events == ["closed"] * 3
    broken.clear()
    thing = pool.acquire()
    with pytest.raises(LimitExceeded):
        pool.acquire()
    pool.release(thing)
    assert pool.acquire() is thing


def test_producers_of_ones_own_class() -> None:
    """``ProducerPool(connections, Producer=...)``, and a failing one leaves no connection lent."""

    class Own(kombu_actors.Producer):
        pass

    connections: ConnectionPool = Connection(f"memory://{uuid()}").Pool(1)
    pool = ProducerPool(connections, limit=1, Producer=Own)
    with pool.acquire() as producer:
        assert type(producer) is Own

    def failing(connection: Any) -> Any:
        raise ZeroDivisionError

    broken = ProducerPool(connections, limit=1, Producer=failing)
    with pytest.raises(ZeroDivisionError):
        broken.acquire()
    connections.acquire()


def test_a_pooled_connection_is_cloned_and_pickled_as_a_plain_one() -> None:
    """The copy is nobody's: it would not be returned."""
    import copy
    import pickle

    borrowed = Connection(f"memory://{uuid()}").Pool(1).acquire()
    for made in (borrowed.clone(), copy.copy(borrowed), pickle.loads(pickle.dumps(borrowed))):
        assert type(made) is Connection
        assert made.__eqhash__() == borrowed.__eqhash__()


def in_child(fn: Callable[[], None]) -> int:
    """Run in a forked child; its exit status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            fn()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_after_a_fork_pools_start_empty(amqp_url: str, clean_groups: None) -> None:
    """The child gets a connection of its own, though the parent has lent all; the parent's go on."""
    connection = Connection(amqp_url, transport_options={"confirm_publish": True})
    pools.set_limit(1)
    pool = pools.connections[connection]
    with pools.producers[connection].acquire() as producer:
        producer.publish("parent", routing_key="q", declare=[kombu_actors.Queue("q")])

        def child() -> None:
            assert list(pools.connections.values()) == []
            with pools.producers[connection].acquire(block=True, timeout=1) as own:
                own.publish("child", routing_key="q")
            pool.acquire().release()

        assert in_child(child) == 0
        producer.publish("parent", routing_key="q")
        assert kombu_actors.Queue("q")(producer.channel).queue_declare(passive=True)[1] == 3
    assert isinstance(pools.connections, PoolGroup)


def test_channel_pool_errors_are_limit_errors() -> None:
    """One ``except`` clause for all pools."""
    assert issubclass(ConnectionLimitExceeded, LimitExceeded)
    assert issubclass(ChannelLimitExceeded, LimitExceeded)
