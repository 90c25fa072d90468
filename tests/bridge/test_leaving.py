"""Interrupted while it is left, a connection goes all the same: sooner, and at last without anybody waiting."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from kombu_actors import Connection, Consumer, Producer, Queue
from kombu_actors._bridge import leases
from kombu_actors._bridge.tenant import GOODBYE, Tenant
from kombu_actors.transport.memory import memory_broker
from soak._blocking_calls import until
from tests.support.brokers import RabbitMQNode
from tests.support.interrupts import Interrupted, no_longer_than
from tests.support.proxy import FaultProxy

MakeProxy = Callable[[int], FaultProxy]
DRAIN = 20.0
"""Seconds that ``release`` may drain: far more than any of these tests takes."""


@contextmanager
def struck_when(*conditions: Callable[[], bool]) -> Iterator[None]:
    """Send this process a signal whose handler raises, when the first condition holds, then when the second does."""

    def strike(*_: object) -> None:
        raise Interrupted

    def watch() -> None:
        for condition in conditions:
            while not (condition() or over.is_set()):
                over.wait(0.001)
            if not over.is_set():
                signal.pthread_kill(main, signal.SIGUSR1)

    over = threading.Event()
    main = threading.main_thread().ident or 0
    former = signal.signal(signal.SIGUSR1, strike)
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        signal.signal(signal.SIGUSR1, former)


def tenant_of(connection: Connection) -> Tenant:
    """The connection's tree, as the runtime knows it."""
    return connection._runs.running()._tenant


def test_an_interrupted_release_drains_no_longer_and_leaves_no_zombie(caplog: pytest.LogCaptureFixture) -> None:
    """The broker takes no publishes, so there is nothing to wait for but 20 s: Ctrl-C ends that, and the consumer is
    gone from the queue; what stays unconfirmed is said."""
    url = "memory://release-once"
    connection = Connection(url, transport_options={"drain_timeout": DRAIN})
    Consumer(connection, [Queue("eaten", auto_delete=False)], callbacks=[print]).consume()
    memory_broker("release-once").block()
    Producer(connection).publish("x", routing_key="eaten")
    tenant = tenant_of(connection)
    until(lambda: tenant.actor.blocked_because() is not None, "the broker goes on taking publishes")
    Producer(connection).publish("y", routing_key="eaten")
    started = time.monotonic()
    with no_longer_than(30), caplog.at_level(logging.ERROR):
        with struck_when(lambda: tenant.awaited > 0), pytest.raises(Interrupted):
            connection.release()
        assert time.monotonic() - started < DRAIN / 2
        until(lambda: tenant not in leases._leases, "the tree lives on")
        memory_broker("release-once").unblock()
        with Connection(url) as other:
            declared = Queue("eaten", auto_delete=False)(other).queue_declare(passive=True)
    assert declared.consumer_count == 0
    assert "1 publishes not confirmed" in caplog.text


def test_a_release_interrupted_twice_ends_at_once(rabbitmq: RabbitMQNode, vhost: str, fault_proxy: MakeProxy) -> None:
    """The broker answers nothing: the first interrupt ends the drain, the second the wait for its goodbye; the tree
    goes by itself."""
    proxy = fault_proxy(rabbitmq.port)
    connection = Connection(rabbitmq.url(vhost=vhost, port=proxy.port), transport_options={"drain_timeout": DRAIN})
    producer = Producer(connection)
    producer.publish("x", routing_key="nobody", declare=[Queue("nobody")])
    proxy.blackhole()
    producer.publish("x", routing_key="nobody")
    tenant = tenant_of(connection)
    with no_longer_than(30):
        with struck_when(lambda: tenant.awaited > 0, tenant._leave.is_set):
            started = time.monotonic()
            with pytest.raises(Interrupted):
                connection.release()
            took = time.monotonic() - started
        until(lambda: tenant not in leases._leases, "the tree lives on")
    assert took < GOODBYE
