"""Pools, simple queues and the tools of ``common``: the documented behaviour, on both libraries."""

from __future__ import annotations

from queue import Empty
from typing import Any

import pytest

from .libraries import Library


def test_a_simple_queue_puts_and_gets(lib: Library, connection: Any, name: str) -> None:
    """In order; empty is an exception, now or after a timeout; messages are acknowledged by hand."""
    with connection.SimpleQueue(name) as queue:
        queue.put({"a": 1})
        queue.put("two", compression="zlib", headers={"h": 1})
        assert queue.qsize() == len(queue) == 2
        first = queue.get(timeout=5)
        assert first.payload == {"a": 1}
        first.ack()
        second = queue.get(block=True, timeout=5)
        assert (second.payload, second.headers["h"]) == ("two", 1)
        second.ack()
        with pytest.raises(queue.Empty):
            queue.get(timeout=0.1)
        with pytest.raises(Empty):
            queue.get_nowait()
    with connection.SimpleQueue(name) as queue:
        queue.put("three")
        assert queue.clear() == 1


def test_a_simple_buffer_forgets(lib: Library, connection: Any, name: str) -> None:
    """Transient, without acknowledgements."""
    with connection.SimpleBuffer(name) as buffer:
        buffer.put(1)
        assert buffer.get(timeout=5).payload == 1
        assert buffer.no_ack


def test_a_pool_lends_so_many_connections(lib: Library, connection: Any) -> None:
    """And takes them back."""
    pool = connection.Pool(2)
    one, two = pool.acquire(), pool.acquire()
    assert one is not two
    exceeded = lib.module("exceptions").ConnectionLimitExceeded
    with pytest.raises(exceeded):
        pool.acquire()
    one.release()
    with pool.acquire(block=True, timeout=5) as three:
        three.connect()
        assert three.connected
    two.release()
    pool.force_close_all()


def test_a_channel_pool_lends_so_many_channels(lib: Library, connection: Any) -> None:
    """Of one connection."""
    pool = connection.ChannelPool(2)
    one, _ = pool.acquire(), pool.acquire()
    with pytest.raises(lib.module("exceptions").ChannelLimitExceeded):
        pool.acquire()
    one.release()
    assert pool.acquire() is not None
    pool.force_close_all()


def test_eventloop_drains_until_it_is_quiet(lib: Library, connection: Any, name: str) -> None:
    """``common.eventloop`` with a limit and a timeout that it passes over."""
    common = lib.module("common")
    queue = lib.Queue(name, auto_delete=True)
    got: list[Any] = []
    with connection.Consumer(queue, callbacks=[lambda body, message: got.append(body)], no_ack=True):
        connection.Producer().publish("x", routing_key=name)
        for _ in common.eventloop(connection, limit=2, timeout=0.5, ignore_timeouts=True):
            pass
    assert got == ["x"]
