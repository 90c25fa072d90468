"""P4: heartbeats flow while user code runs, blocks or burns CPU."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from kombu_actors import Connection, Producer, Queue
from tests.support.brokers import RabbitMQNode
from tests.support.processes import wait_until
from tests.support.proxy import Direction, FaultProxy

HEARTBEAT = 2
BUSY = 9.0
"""Seconds in the callback: more than four heartbeats, so more than twice what a broker forgives."""
IDLE = 6.0
REPOSITORY = Path(__file__).parents[2]

WORKER = """
import json, sys, time
from kombu_actors import Connection, Consumer, Queue

url, how, heartbeat, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
handled = []

def block():
    time.sleep(seconds)

def burn():
    end, n = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        n += sum(i * i for i in range(1000))

def handle(body, message):
    if body == "long":
        {"block": block, "burn": burn}[how]()
    handled.append(body)
    message.ack()  # StaleDelivery would end the worker: the message came over a dead connection

with Connection(url, heartbeat=heartbeat) as connection:
    with Consumer(connection, [Queue(how)], callbacks=[handle], prefetch_count=1):
        while "last" not in handled:
            connection.drain_events(timeout=30)
    print(json.dumps({"handled": handled, "sessions": connection.connect().sessions}))
"""


@attrs.define
class Worker:
    """A process of its own, with an interpreter lock of its own, that is busy in its callback."""

    process: subprocess.Popen[str]

    @classmethod
    def start(cls, url: str, how: str) -> Worker:
        command = [sys.executable, "-W", "error", "-c", WORKER, url, how, str(HEARTBEAT), str(BUSY)]
        return cls(subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True))

    def finish(self) -> dict[str, Any]:
        """What the worker reports."""
        try:
            output, _ = self.process.communicate(timeout=BUSY + 30)
        except BaseException:
            self.process.kill()
            self.process.communicate()
            raise
        assert self.process.returncode == 0
        report: dict[str, Any] = json.loads(output)
        return report


@pytest.mark.slow
def test_callbacks_that_block_or_burn_for_nine_seconds_keep_their_connections(
    rabbitmq: RabbitMQNode, vhost: str
) -> None:
    """heartbeat=2, 9 s in `time.sleep`, and 9 s of pure Python in another process: each message is handled
    once and acked over the connection it came on, and the broker missed no heartbeat."""
    url = rabbitmq.url(vhost=vhost)
    with Connection(url) as connection:
        producer = Producer(connection)
        for queue in ("block", "burn"):
            for body in ("long", "last"):
                # Were the connection lost, the broker would deliver "long" again, before "last".
                producer.publish(body, routing_key=queue, declare=[Queue(queue)])
    log_before = len(rabbitmq.log)
    workers = [Worker.start(url, how) for how in ("block", "burn")]
    for worker in workers:
        assert worker.finish() == {"handled": ["long", "last"], "sessions": 1}
    assert {name: queue["messages"] for name, queue in rabbitmq.list_queues(vhost).items()} == {"block": 0, "burn": 0}

    def logged() -> bool:
        return rabbitmq.log[log_before:].count(f"vhost: '{vhost}'") >= 2  # both logins: the log lags behind

    wait_until(logged, timeout=10, waiting_for="the node to write its log")
    assert "missed heartbeats" not in rabbitmq.log[log_before:]


@pytest.mark.slow
def test_an_idle_producer_publishes_after_three_heartbeats_without_reconnecting(
    rabbitmq: RabbitMQNode, vhost: str, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    """heartbeat=2, nothing to do for 6 s, nobody drains: bytes went both ways meanwhile, and the next
    publish is confirmed over the same connection."""
    proxy = fault_proxy(rabbitmq.port)
    url = rabbitmq.url(vhost=vhost, port=proxy.port)
    with Connection(url, heartbeat=HEARTBEAT, transport_options={"confirm_publish": True}) as connection:
        producer = Producer(connection)
        producer.publish("before", routing_key="idle", declare=[Queue("idle")])
        connections = proxy.accepted
        passed = {direction: proxy.passed(direction) for direction in Direction}
        time.sleep(IDLE)  # the idleness itself
        for direction in Direction:
            assert proxy.passed(direction) - passed[direction] >= 2 * 8, f"no heartbeats went {direction.value}"
        producer.publish("after", routing_key="idle", timeout=2)
        assert connection.connect().sessions == 1
    assert proxy.accepted == connections
    assert rabbitmq.list_queues(vhost)["idle"]["messages"] == 2
