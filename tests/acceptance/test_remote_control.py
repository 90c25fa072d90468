"""Remote control over faults: a caller's link is lost while nodes answer, a node's while it waits for commands."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from kombu_actors import Connection
from kombu_actors.pidbox import Mailbox, Node
from tests.support.brokers import RabbitMQNode, RedisNode
from tests.support.proxy import FaultProxy

PATIENCE = 20.0
"""Seconds for an answer, a new session included."""


@pytest.fixture(params=["amqp", "redis"])
def place(request: pytest.FixtureRequest) -> tuple[int, Callable[..., str]]:
    """A broker's port, and its URL by the port of a proxy."""
    if request.param == "redis":
        server: RedisNode = request.getfixturevalue("redis_server")
        server.flush()
        return server.port, server.url
    node: RabbitMQNode = request.getfixturevalue("rabbitmq")
    vhost: str = request.getfixturevalue("vhost")
    return node.port, lambda *, port: node.url(vhost=vhost, port=port)


@contextmanager
def serving(connection: Connection, node: Node) -> Iterator[None]:
    """Have a node answer, in a thread of its own."""
    stopped = threading.Event()

    def serve() -> None:
        while not stopped.is_set():
            try:
                connection.drain_events(timeout=0.05)
            except TimeoutError:
                continue

    node.listen()
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def test_a_caller_whose_link_is_lost_meanwhile_gets_the_answer(
    place: tuple[int, Callable[..., str]], fault_proxy: Callable[[int], FaultProxy]
) -> None:
    """The reply waits in the reply queue, which did not go with the caller's session."""
    port, url = place
    ours, theirs = fault_proxy(port), fault_proxy(port)
    with Connection(url(port=ours.port)) as here, Connection(url(port=theirs.port)) as there:
        mailbox = Mailbox("lost", type="fanout", connection=here)
        node = Mailbox("lost", type="fanout", connection=there).Node("one", channel=there.channel())

        @node.handler
        def answer(state: Any) -> str:
            ours.refuse()
            ours.reset()
            threading.Timer(0.5, ours.heal).start()  # the reply is on the broker by then
            return "kept"

        with serving(there, node):
            assert mailbox.call(["one"], "answer", timeout=PATIENCE) == [{"one": "kept"}]


def test_a_node_whose_link_was_lost_answers_again(
    place: tuple[int, Callable[..., str]], fault_proxy: Callable[[int], FaultProxy]
) -> None:
    """Nobody has told it to: its queue and its consumer are restored.  Commands of meanwhile are gone."""
    port, url = place
    theirs = fault_proxy(port)
    with Connection(url(port=port)) as here, Connection(url(port=theirs.port)) as there:
        mailbox = Mailbox("again", type="fanout", connection=here)
        node = Mailbox("again", type="fanout", connection=there).Node("one", channel=there.channel())
        node.handlers["ping"] = lambda state: "pong"
        with serving(there, node):
            for _ in range(2):
                deadline = time.monotonic() + PATIENCE
                while mailbox.call(["one"], "ping", timeout=0.5) != [{"one": "pong"}]:
                    assert time.monotonic() < deadline
                theirs.reset()
