"""Remote control: kombu's nodes and mailboxes, each library's own and each with the other's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, ClassVar

import pytest

from .libraries import Library


@contextmanager
def serving(connection: Any, node: Any) -> Iterator[Any]:
    """Have a node answer, in a thread of its own."""
    stopped = threading.Event()
    consumer = node.listen()

    def serve() -> None:
        while not stopped.is_set():
            try:
                connection.drain_events(timeout=0.05)
            except TimeoutError:
                continue

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield consumer
    finally:
        stopped.set()
        thread.join()


def answering(mailbox: Any, connection: Any, hostname: str) -> Any:
    """A node that knows two commands."""
    node = mailbox.Node(hostname, state={"visits": 0}, channel=connection.channel())

    @node.handler  # type: ignore[untyped-decorator]  # both libraries' by name
    def visit(state: Any, by: str = "nobody") -> dict[str, Any]:
        state["visits"] += 1
        return {"ok": by, "visits": state["visits"]}

    @node.handler  # type: ignore[untyped-decorator]
    def fail(state: Any) -> None:
        raise ValueError("broken")

    return node


@pytest.fixture
def mailbox(lib: Library, connection: Any, name: str) -> Any:
    """A namespace that nobody else uses."""
    return lib.module("pidbox").Mailbox(name, type="fanout", connection=connection)


def test_nodes_carry_out_commands_and_reply(mailbox: Any, connect: Callable[..., Any], url: str) -> None:
    """Each says who it is; an error is a reply, and so is a command that nobody knows."""
    other = connect(url)
    node = answering(mailbox, other, "one")
    with serving(other, node):
        assert mailbox.call(["one"], "visit", {"by": "me"}, timeout=5) == [{"one": {"ok": "me", "visits": 1}}]
        assert mailbox.multi_call("visit", timeout=5, limit=1) == [{"one": {"ok": "nobody", "visits": 2}}]
        assert mailbox.call(["one"], "fail", timeout=5) == [{"one": {"error": "ValueError('broken')"}}]
        assert mailbox.call(["one"], "unheard", timeout=5) == [{"one": {"error": "KeyError('unheard')"}}]
    assert node.state == {"visits": 2}


def test_commands_are_for_some_nodes(mailbox: Any, connect: Callable[..., Any], url: str) -> None:
    """By name, by pattern, or all; those that are not meant stay silent."""
    other = connect(url)
    heard: list[Any] = []
    with serving(other, answering(mailbox, other, "one")):
        assert mailbox._broadcast("visit", destination=["two"], reply=True, timeout=0.2) == []
        matching = {"pattern": "o*", "matcher": "glob", "reply": True, "timeout": 5, "limit": 1}
        assert mailbox._broadcast("visit", {"by": "x"}, callback=heard.append, **matching) == heard
        assert heard == [{"one": {"ok": "x", "visits": 1}}]
        mailbox.cast(["one"], "visit")
        mailbox.abcast("visit")
        assert mailbox.call(["one"], "visit", timeout=5) == [{"one": {"ok": "nobody", "visits": 4}}]


def test_mistaken_destinations_are_refused(mailbox: Any) -> None:
    """A host name alone would be taken for a list of letters."""
    with pytest.raises(ValueError, match="destination must be a list"):
        mailbox.call("one", "visit")


def test_clocks_go_with_commands(lib: Library, mailbox: Any) -> None:
    """A node's clock goes past the sender's."""
    node = mailbox.Node("one", state=None)
    node.handlers["done"] = lambda state: "done"

    class Command:
        headers: ClassVar = {"clock": 41}

    assert node.handle_message({"method": "done", "arguments": {}}, Command()) == "done"
    assert mailbox.clock.value == 42
    assert node.handle_message({"method": "done", "destination": ["two"]}) is None
    assert node.handle("done") == "done"
    with pytest.raises(KeyError):
        node.handle("unheard")


def test_a_second_node_of_the_same_name_is_warned_of(lib: Library, mailbox: Any, connection: Any) -> None:
    """Where the queue is declared."""
    consumer = mailbox.Node("one", channel=connection.channel()).Consumer()
    with pytest.warns(UserWarning, match="node"):
        consumer.queues[0].on_declared("one", 0, 1)


def test_queues_are_as_they_were_asked_for(lib: Library, name: str) -> None:
    """Nodes' are exclusive, or durable; a reply queue outlives its session, here."""
    Mailbox = lib.module("pidbox").Mailbox
    kind = ("durable", "exclusive", "auto_delete", "expires", "message_ttl")

    def settings(queue: Any) -> tuple[Any, ...]:
        return tuple(getattr(queue, each) for each in kind)

    plain = Mailbox(name)
    assert settings(plain.get_queue("one")) == (False, True, True, None, None)
    lasting = lib.either(
        "pidbox-reply-queue", kombu=(False, True, True, 10.0, None), actors=(True, False, False, 10.0, None)
    )
    assert settings(plain.reply_queue) == lasting
    limited = Mailbox(name, queue_ttl=3, queue_expires=4, reply_queue_ttl=5, reply_queue_expires=None)
    assert settings(limited.get_queue("one")) == (False, True, True, 4.0, 3.0)
    assert settings(limited.reply_queue) == (False, True, True, None, 5.0)
    durable = Mailbox(name, queue_durable=True, queue_exclusive=False)
    assert settings(durable.get_queue("one")) == (True, False, False, None, None)
    with pytest.raises(ValueError, match="queue_exclusive and queue_durable"):
        Mailbox(name, queue_durable=True)
    assert plain.get_queue("one").name == f"one.{name}.pidbox"
    assert plain.reply_queue.name == f"{plain.oid}.reply.{name}.pidbox"


@pytest.mark.parametrize("sender", ["kombu", "kombu_actors"])
@pytest.mark.parametrize("kind", ["amqp", "redis"])
def test_nodes_of_one_library_answer_the_other(
    request: pytest.FixtureRequest, name: str, kind: str, sender: str
) -> None:
    """A fleet of both is controlled from either."""
    url = request.getfixturevalue({"amqp": "broker_url", "redis": "redis_url"}[kind])
    nodes = {"kombu": "kombu_actors", "kombu_actors": "kombu"}[sender]
    with import_module(sender).Connection(url) as here, import_module(nodes).Connection(url) as there:
        mailbox = import_module(f"{sender}.pidbox").Mailbox(name, type="fanout", connection=here)
        theirs = import_module(f"{nodes}.pidbox").Mailbox(name, type="fanout", connection=there)
        with serving(there, answering(theirs, there, "one")):
            for visits in (1, 2):
                replies = mailbox.call(["one"], "visit", {"by": sender}, timeout=5)
                assert replies == [{"one": {"ok": sender, "visits": visits}}]
