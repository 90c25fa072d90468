"""A forked child reuses its parent's objects, over connections of its own; the parent notices nothing."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kombu_actors import Connection, Producer, Queue, pools
from kombu_actors.pools import producers
from tests.acceptance.forking import CHILDREN, EACH, PATIENCE, links_to
from tests.support.brokers import RabbitMQNode, RedisNode
from tests.support.certs import Certificates
from tests.support.proxy import FaultProxy

REPOSITORY = Path(__file__).parents[2]
WARNINGS = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]  # Python 3.12 on forks with threads


def run_forking(url: str, ca: str, way: str, during: Callable[[], None]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run the program; ``during`` is called while its children wait.  Returns what it says, then and at its end."""
    command = [sys.executable, *WARNINGS, "-m", "tests.acceptance.forking", url, ca, way]
    with subprocess.Popen(
        command,
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        alarm = threading.Timer(2 * PATIENCE, os.killpg, (process.pid, 9))
        alarm.start()
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            first = process.stdout.readline()
            assert first, f"the program ended early, or hung: {process.stderr.read()}"
            during()
            process.stdin.write("\n")
            process.stdin.flush()
            last = process.stdout.readline()
            process.stdin.close()
            assert process.stderr.read() == ""
            assert process.wait(PATIENCE) == 0
        except BaseException:
            os.killpg(process.pid, 9)
            raise
        finally:
            alarm.cancel()
            alarm.join()
    return json.loads(first), json.loads(last)


def run_in_child(work: Callable[[], object], timeout: float = 10.0) -> Callable[[], int]:
    """Fork, run ``work`` there; the result waits for the child's end and returns its status."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on forks with threads
        pid = os.fork()
    if not pid:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def finish() -> int:
        door = os.pidfd_open(pid)
        ended, _, _ = select.select([door], [], [], timeout)
        os.close(door)
        if not ended:
            os.kill(pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    return finish


def drained(url: str, queue: str) -> list[Any]:
    """All messages of a queue."""
    bodies = []
    with Connection(url) as connection:
        bound = Queue(queue)(connection.default_channel)
        while (message := bound.get(no_ack=True)) is not None:
            bodies.append(message.payload)
    return bodies


@pytest.mark.slow
@pytest.mark.parametrize("way", ["release", "sys.exit", "multiprocessing"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_children_forked_amid_traffic_publish_with_the_parents_producer(
    rabbitmq: RabbitMQNode, vhost: str, certificates: Certificates, way: str, tls: bool
) -> None:
    """4 children reuse the parent's Connection and Producer while three of its threads use them: 5 x 500
    messages arrive once each, over 5 connections; the parent keeps its one session; a child that tries to
    settle a message of the parent's is told that it is stale; children that release and those that just end
    (sys.exit, multiprocessing) lose nothing."""
    url = rabbitmq.tls_url(vhost=vhost) if tls else rabbitmq.url(vhost=vhost)
    port = rabbitmq.tls_port if tls else rabbitmq.port
    assert port is not None
    seen: list[int] = []

    def look() -> None:
        seen.append(len(rabbitmq.list_connections(vhost)))

    children, end = run_forking(url, str(certificates.ca) if tls else "", way, look)
    expected = {"inherited_links": 0, "links": 1, "settling_is_stale": [True, True]}
    assert children == {"children": [expected] * CHILDREN}
    assert seen == [1 + CHILDREN]
    assert end == {"ended": [0] * CHILDREN, "epochs": 1, "echo_in_order": True}
    rabbitmq.wait_until_no_connections(vhost)
    names = ["parent", *(f"child-{number}" for number in range(CHILDREN))]
    plain_url = rabbitmq.url(vhost=vhost)
    assert sorted(map(tuple, drained(plain_url, "work"))) == sorted((n, i) for n in names for i in range(EACH))
    assert drained(plain_url, "echo") == [], "an echo was delivered again"


@pytest.mark.parametrize("way", ["release", "sys.exit"])
def test_children_forked_amid_traffic_over_redis(redis_server: RedisNode, redis_url: str, way: str) -> None:
    """The same over Redis: 5 x 500 messages once each, over one connection of each child, as it consumes nothing,
    and two of the parent; no child takes the parent's lease with it when it ends, and what the parent consumes
    comes once and in order."""
    seen: list[int] = []

    def look() -> None:
        seen.append(len(redis_server.clients()))

    children, end = run_forking(redis_url, "", way, look)
    expected = {"inherited_links": 0, "links": 1, "settling_is_stale": [True, True]}
    assert children == {"children": [expected] * CHILDREN}
    assert seen == [2 + CHILDREN]
    assert end == {"ended": [0] * CHILDREN, "epochs": 1, "echo_in_order": True}
    redis_server.wait_until_no_clients()
    names = ["parent", *(f"child-{number}" for number in range(CHILDREN))]
    assert sorted(map(tuple, drained(redis_url, "work"))) == sorted((n, i) for n in names for i in range(EACH))
    assert drained(redis_url, "echo") == [], "an echo was delivered again"
    assert redis_server.ask("EXISTS", "unacked") == 0


def test_a_lock_that_another_thread_held_at_the_fork_is_free_in_the_child(
    rabbitmq: RabbitMQNode, vhost: str, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    """A thread is in the middle of connecting, holding the connection's lock, when another one forks: the child
    connects and publishes on its own, without the half-open socket; the parent's thread goes on as well."""
    proxy = fault_proxy(rabbitmq.port)
    options = {"confirm_publish": True}
    url = rabbitmq.url(vhost=vhost, port=proxy.port)
    connection = Connection(url, connect_timeout=20, transport_options=options)

    def publish(sender: str) -> None:
        Producer(connection).publish(sender, routing_key="forked", declare=[Queue("forked")])
        connection.release()

    def in_child() -> None:
        assert links_to(proxy.port) == 0
        publish("child")

    proxy.hang()
    with ThreadPoolExecutor(1) as pool:
        parents = pool.submit(publish, "parent")
        proxy.wait_accepted(1)
        finish = run_in_child(in_child)
        proxy.heal()
        assert finish() == 0
        parents.result()
    assert sorted(drained(rabbitmq.url(vhost=vhost), "forked")) == ["child", "parent"]


@pytest.mark.parametrize("broker", ["amqp_url", "redis_url"])
def test_pools_and_released_connections_of_the_parent_work_in_the_child(
    request: pytest.FixtureRequest, broker: str
) -> None:
    """The documented way to publish from anywhere, `producers[connection].acquire()`, in parent and child; releasing
    what was the parent's sends nothing; a grandchild can do the same."""
    url = request.getfixturevalue(broker)
    queue = Queue("pooled")
    connection = Connection(url, transport_options={"confirm_publish": True})  # nobody drains a pool dropped at once

    def publish(sender: str) -> None:
        with producers[connection].acquire(block=True, timeout=5) as producer:
            producer.publish(sender, routing_key="pooled", declare=[queue])

    def in_grandchild() -> None:
        publish("grandchild")
        producers[connection].force_close_all()
        connection.release()

    def in_child() -> None:
        connection.release()
        publish("child")
        finish = run_in_child(in_grandchild)
        publish("child")
        assert finish() == 0
        producers[connection].force_close_all()
        connection.release()

    connection.connect()
    publish("parent")
    with producers[connection].acquire(block=True, timeout=5) as lent:
        finish = run_in_child(in_child)
        lent.publish("parent", routing_key="pooled")
        assert finish() == 0
        lent.publish("parent", routing_key="pooled")
    assert connection.connect().sessions == 1
    pools.reset()
    connection.release()
    assert sorted(drained(url, "pooled")) == ["child"] * 2 + ["grandchild"] + ["parent"] * 3
