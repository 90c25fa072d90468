"""The private brokers do what the tests that use them rely on."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import amqp
import pytest
import redis
import trio

from tests.support.brokers import RabbitMQNode, RedisNode, start_sentinel_group
from tests.support.certs import Certificates
from tests.support.erlang import ErlangError
from tests.support.processes import ServerProcess


@contextlib.contextmanager
def connect(node: RabbitMQNode, vhost: str = "/", options: dict[str, Any] | None = None) -> Iterator[amqp.Connection]:
    address = f"127.0.0.1:{node.port}"
    connection = amqp.Connection(host=address, virtual_host=vhost, confirm_publish=True, **options or {})
    connection.connect()
    with connection.transport.sock:  # which py-amqp forgets to close when the peer was first
        yield connection
        connection.collect()


def test_a_vhost_is_fresh_and_its_figures_are_exact_at_once(rabbitmq: RabbitMQNode, vhost: str) -> None:
    """Queue and consumer figures come from the queue itself, not from lagging statistics."""
    assert rabbitmq.list_queues(vhost) == {}
    with connect(rabbitmq, vhost) as connection:
        channel = connection.channel()
        channel.queue_declare("qü", durable=True, auto_delete=False)
        for _ in range(3):
            channel.basic_publish(amqp.Message("x"), routing_key="qü")
        assert rabbitmq.list_queues(vhost)["qü"]["messages_ready"] == 3
        assert channel.basic_get("qü") is not None
        figures = rabbitmq.list_queues(vhost)["qü"]
        assert (figures["messages_ready"], figures["messages_unacknowledged"]) == (2, 1)
        channel.basic_qos(0, 1, False)
        channel.basic_consume("qü", consumer_tag="t", callback=lambda _message: None)
        (consumer,) = rabbitmq.list_consumers(vhost)
        assert (consumer["queue"], consumer["tag"], consumer["prefetch"]) == ("qü", "t", 1)
        (seen,) = rabbitmq.list_channels(vhost)
        assert seen["consumer_count"] == 1
        assert len(rabbitmq.list_connections(vhost)) == 1
    rabbitmq.wait_until_no_connections(vhost)


def test_connections_are_closed_by_virtual_host(rabbitmq: RabbitMQNode, vhost: str) -> None:
    """Closing one virtual host's connections leaves other tests' connections alone."""
    with connect(rabbitmq) as other, connect(rabbitmq, vhost) as ours:
        rabbitmq.close_all_connections("bye", vhost=vhost)
        with pytest.raises(amqp.ConnectionForced, match="bye"):
            ours.drain_events(timeout=10)
        other.channel().close()


def test_an_erlang_error_says_what_failed(rabbitmq: RabbitMQNode) -> None:
    """A wrong expression fails the test that sent it, with the node's reason."""
    with pytest.raises(ErlangError, match=r"badarith.*\n.*1/0"):
        rabbitmq.eval("1/0")
    assert rabbitmq.eval("1+1") == "2"


def test_tls_shows_the_certificate_of_the_run(rabbitmq: RabbitMQNode, certificates: Certificates) -> None:
    """The shared node's TLS listener verifies against the run's own authority."""
    context = ssl.create_default_context(cafile=str(certificates.ca))
    assert rabbitmq.tls_port is not None
    with (
        socket.create_connection(("localhost", rabbitmq.tls_port), 10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(b"AMQP\x00\x00\x09\x01")
        assert connection.recv(1) == b"\x01"


async def test_a_killed_node_comes_back_with_its_messages(own_rabbitmq: Callable[..., RabbitMQNode]) -> None:
    """kill -9 and restart keep port, durable queue and confirmed messages; trio runs meanwhile."""
    node = own_rabbitmq()
    with connect(node) as connection:
        channel = connection.channel()
        channel.queue_declare("q", durable=True, auto_delete=False)
        channel.basic_publish_confirm(amqp.Message("x", delivery_mode=2), routing_key="q")
        node.kill9()
        with pytest.raises(OSError, match=r"closed|reset"):
            connection.drain_events(timeout=10)
    await node.start_async()
    assert node.list_queues()["q"]["messages"] == 1


def test_an_alarm_blocks_and_unblocks(own_rabbitmq: Callable[..., RabbitMQNode]) -> None:
    """A memory alarm is told to a client that publishes, and so is its end."""
    node = own_rabbitmq()
    told: list[str] = []
    callbacks = {
        "on_blocked": lambda reason: told.append("blocked"),
        "on_unblocked": lambda: told.append("unblocked"),
    }
    with connect(node, options=callbacks) as connection:
        node.set_memory_alarm()
        connection.channel()._basic_publish(amqp.Message("x"), routing_key="nowhere")
        connection.drain_events(timeout=10)
        node.clear_memory_alarm()
        connection.drain_events(timeout=10)
    assert told == ["blocked", "unblocked"]


def test_the_official_tool_works_too(rabbitmq: RabbitMQNode) -> None:
    """rabbitmqctl reaches the node, and fails loudly."""
    assert "guest" in rabbitmq.ctl("list_users")
    with pytest.raises(RuntimeError, match="no_such_command"):
        rabbitmq.ctl("no_such_command")


def test_servers_are_started_from_the_main_thread_only(tmp_path: Path) -> None:
    """A server dies with the thread that started it: anything but the main thread is a mistake."""
    process = ServerProcess(["true"], directory=tmp_path, environment={}, is_serving=lambda: True, start_timeout=1)
    caught: list[BaseException] = []

    def start() -> None:
        try:
            process.start()
        except RuntimeError as error:
            caught.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "main thread" in str(caught[0])


def test_a_server_that_fails_to_start_says_why(own_redis: Callable[..., RedisNode]) -> None:
    """What a dying server printed is in the error, at once and not after the timeout."""
    with pytest.raises(RuntimeError, match="no-such-word"):
        own_redis(conf=["no-such-word 1"])


def test_redis_serves_plain_tls_and_unix(redis_server: RedisNode, certificates: Certificates) -> None:
    """One server, three ways in."""
    for client in (
        redis.Redis.from_url(redis_server.url()),
        redis.Redis.from_url(redis_server.tls_url(), ssl_ca_certs=str(certificates.ca)),
        redis.Redis(unix_socket_path=str(redis_server.socket_path)),
    ):
        with client:
            assert client.ping()


async def test_a_durable_redis_survives_kill9(own_redis: Callable[..., RedisNode]) -> None:
    """With ``durable`` an answered command is on disk."""
    node = own_redis(durable=True)
    assert node.command("SET", "k", "v") == b"+OK\r\n"
    node.kill9()
    await node.start_async()
    assert node.command("GET", "k") == b"$1\r\nv\r\n"


def test_a_frozen_server_accepts_and_says_nothing(own_redis: Callable[..., RedisNode]) -> None:
    """SIGSTOP is the silent peer: the kernel accepts, nobody answers."""
    node = own_redis()
    node.sigstop()
    with socket.create_connection(("127.0.0.1", node.port), 5) as connection:
        connection.sendall(b"PING\r\n")
        connection.settimeout(0.1)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        node.sigcont()
        connection.settimeout(10)
        assert connection.recv(7) == b"+PONG\r\n"


@pytest.mark.slow
async def test_sentinels_promote_a_replica(node_directory: Path) -> None:
    """After the primary's death the sentinels name another one."""
    group = start_sentinel_group(node_directory / "sentinels")
    try:
        with trio.fail_after(60):
            await trio.to_thread.run_sync(group.wait_ready)
            group.primary.kill9()
            await trio.to_thread.run_sync(group.wait_primary, group.replicas[0].port)
    finally:
        group.close()
