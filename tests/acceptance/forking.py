"""A program that forks amid traffic, for ``test_fork``: ``python -m tests.acceptance.forking URL CA WAY``.

It says ``{"children": ...}`` when its children have published and wait, and goes on at the next
line of its input; then it says ``{"ended": ...}``.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psutil

from kombu_actors import Connection, Consumer, Producer, Queue
from kombu_actors.errors import StaleDelivery
from kombu_actors.message import Message

CHILDREN = 4
EACH = 500
"""Messages from each process, the parent included."""
LAST = 200
"""Messages that a child publishes just before it ends."""
PATIENCE = 30.0


def links_to(port: int) -> int:
    """How many sockets this process has that lead to that port."""
    connections = psutil.Process().net_connections("tcp")
    return [getattr(connection.raddr, "port", None) for connection in connections].count(port)  # none: a listener's


class Parent:
    """One connection and one producer, used by three threads, and then by each child."""

    def __init__(self, url: str, ca: str) -> None:
        self.connection = Connection(url, heartbeat=2, ssl={"ca_certs": ca} if ca else False)
        self.producer = Producer(self.connection)
        self.work = Queue("work")
        self.echoed: list[Any] = []
        self.kept: list[Message] = []
        """Delivered to the parent and not settled when it forks."""
        self.halfway = threading.Event()
        self.done = threading.Event()

    def publish(self) -> None:
        """The parent's messages: half of them before the forks, at most."""
        for number in range(EACH):
            self.producer.publish(["parent", number], routing_key="work", declare=[self.work])
            if number == EACH // 4:
                self.halfway.set()

    def echo(self) -> None:
        """Publish to oneself until the children have ended, so that traffic goes both ways at each fork."""
        number = 0
        while not self.done.is_set():
            self.producer.publish(number, routing_key="echo")
            number += 1
            self.done.wait(0.001)
        self.producer.publish("end", routing_key="echo")

    def consume(self) -> None:
        """Take the echo, ack it, until its end; the first message is kept."""
        ended = threading.Event()

        def handle(body: Any, message: Message) -> None:
            if body == "end":
                ended.set()
            if not self.kept:
                self.kept.append(message)
                return
            self.echoed.append(body)
            message.ack()

        with Consumer(self.connection, [Queue("echo")], callbacks=[handle], prefetch_count=50):
            while not ended.is_set():
                self.connection.drain_events(timeout=PATIENCE)
            self.kept[0].ack()

    @contextmanager
    def traffic(self) -> Iterator[None]:
        """The three threads; forks happen while they run."""
        Queue("echo")(self.connection.default_channel).declare()
        threads = [threading.Thread(target=work) for work in (self.publish, self.echo, self.consume)]
        for thread in threads:
            thread.start()
        assert self.halfway.wait(PATIENCE)
        while not self.kept:
            threads[2].join(0.001)
        try:
            yield
        finally:
            self.done.set()
            for thread in threads:
                thread.join(PATIENCE)

    @staticmethod
    def is_stale(settle: Callable[[], object]) -> bool:
        """Whether settling a message is refused, as nothing that can be sent from here."""
        try:
            settle()
        except StaleDelivery:
            return True
        return False

    def child(self, name: str, told: int, go_on: int) -> None:
        """What a child does with all it inherited."""
        connection, port = self.connection, self.connection.port
        assert port is not None
        inherited = links_to(port)
        assert not connection.connected
        stale = [self.is_stale(self.kept[0].ack)]
        for number in range(EACH - LAST):
            self.producer.publish([name, number], routing_key="work", declare=[self.work])
        stale.append(self.is_stale(self.kept[0].requeue))
        assert connection.default_channel.queue_declare("work", passive=True).queue == "work"
        report = {"inherited_links": inherited, "links": links_to(port), "settling_is_stale": stale}
        os.write(told, json.dumps(report).encode() + b"\n")
        os.read(go_on, 1)
        for number in range(EACH - LAST, EACH):
            self.producer.publish([name, number], routing_key="work")


def forked(work: Callable[[], None], way: str) -> Callable[[], int]:
    """Fork, have the child do its work and end in one of three ways; returns what waits for its status."""
    if way == "multiprocessing":
        process = multiprocessing.get_context("fork").Process(target=work)
        process.start()

        def finish() -> int:
            process.join(PATIENCE)
            return -1 if process.exitcode is None else process.exitcode

        return finish
    pid = os.fork()
    if pid:
        return lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if way == "sys.exit":
        work()
        sys.exit(0)
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)


def main(url: str, ca: str, way: str) -> None:
    parent = Parent(url, ca)

    def work(name: str, told: int, go_on: int) -> None:
        parent.child(name, told, go_on)
        if way == "release":
            parent.connection.release()

    with ExitStack() as stack:
        stack.enter_context(parent.traffic())
        finishes, reports, gates = [], [], []
        for number in range(CHILDREN):
            told_out, told_in = os.pipe()
            go_out, go_in = os.pipe()
            finishes.append(forked(lambda n=number, t=told_in, g=go_out: work(f"child-{n}", t, g), way))  # type: ignore[misc]
            reports.append(told_out)
            gates.append(go_in)
        said = [json.loads(os.read(report, 4096)) for report in reports]
        print(json.dumps({"children": said}), flush=True)
        sys.stdin.readline()
        for gate in gates:
            os.write(gate, b"!")
        statuses = [finish() for finish in finishes]
    epochs = parent.connection.connect().sessions
    in_order = parent.echoed == [*range(1, len(parent.echoed)), "end"]
    parent.connection.release()
    print(json.dumps({"ended": statuses, "epochs": epochs, "echo_in_order": in_order}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
