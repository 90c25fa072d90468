"""Threads that wait for events are told when nothing will come any more."""

from __future__ import annotations

import threading

import pytest

from kombu_actors import Connection, Queue
from kombu_actors.errors import ConnectionClosed


def test_release_in_one_thread_ends_the_waiting_of_others() -> None:
    """Three threads wait for events without a timeout; another releases the connection: each gets ConnectionClosed."""
    connection = Connection("memory://released-while-draining")
    connection.Consumer([Queue("empty")]).consume()
    tree = connection._runs.present
    assert tree is not None
    errors: list[BaseException] = []

    def wait_for_an_event() -> None:
        with pytest.raises(ConnectionClosed) as raised:
            tree.inbox.take([], None)  # what drain_events does; asked directly it can't begin on a new connection
        errors.append(raised.value)

    threads = [threading.Thread(target=wait_for_an_event, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    connection.release()
    for thread in threads:
        thread.join(10)
    assert len(errors) == 3


def test_what_one_thread_handles_ends_the_waiting_of_others() -> None:
    """A thread whose message is handled by another thread returns from drain_events and can look."""
    with Connection("memory://handled-elsewhere") as connection:
        got: list[object] = []
        consumer = connection.Consumer([Queue("one")], callbacks=[lambda body, message: got.append(body)], no_ack=True)
        consumer.consume()

        def until_it_came() -> None:
            while True:
                since = connection.events_handled
                if got:
                    return
                connection.drain_events(timeout=20, since=since)

        threads = [threading.Thread(target=until_it_came, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        connection.Producer().publish("for all", routing_key="one")
        for thread in threads:
            thread.join(10)  # only one of them takes the message; the others would sit out their 20 s
        assert not any(thread.is_alive() for thread in threads)


def test_a_consumer_tag_may_hold_any_character() -> None:
    """AMQP's tags are free text: slashes and percent signs neither confuse the tree nor each other."""
    with Connection("memory://any-tag") as connection:
        channel = connection.default_channel
        channel.queue_declare("q", auto_delete=False)
        got: list[object] = []
        for tag in ("a/b", "a%2Fb", "a"):
            channel.basic_consume("q", consumer_tag=tag, callback=got.append)
            channel.basic_cancel(tag)
        channel.basic_consume("q", consumer_tag="a/b", callback=got.append)
        channel.basic_consume("q", consumer_tag="a%2Fb", callback=got.append)
        connection.Producer().publish("m", routing_key="q")
        connection.drain_events(timeout=10)
    assert len(got) == 1
