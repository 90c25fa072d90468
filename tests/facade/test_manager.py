"""RabbitMQ's management API, against a node that has it; and clear words where there is none."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable

import attrs
import pytest
from amqp.exceptions import AccessRefused, NotFound

from kombu_actors import Connection, Exchange, Queue
from kombu_actors._facade.management import RabbitMQManagement
from kombu_actors.errors import BrokerUnreachable, DeadlineExceeded, OperationalError
from kombu_actors.utils.uuid import uuid
from tests.support.brokers import RabbitMQNode
from tests.support.processes import answers, free_port, wait_until

pytest.importorskip("httpx2")
PATIENCE = 15.0


@attrs.frozen
class Managed:
    """A node with the management plugin."""

    node: RabbitMQNode
    port: int

    def connect(self, **options: object) -> Connection:
        return Connection(self.node.url(), transport_options={"manager_port": self.port, **options})


@pytest.fixture(scope="module")
def managed(own_rabbitmq: Callable[..., RabbitMQNode]) -> Managed:
    """Its HTTP port is open when this returns."""
    port = free_port()
    node = own_rabbitmq(
        plugins=["rabbitmq_management"],
        conf=[
            f"management.tcp.port = {port}",
            "management.tcp.ip = 127.0.0.1",
            "management_agent.disable_metrics_collector = false",
        ],
    )
    wait_until(
        lambda: answers(port, b"GET / HTTP/1.0\r\n\r\n", (b"H",)), timeout=PATIENCE, waiting_for="the management API"
    )
    return Managed(node, port)


def test_it_lists_and_deletes_what_was_declared(managed: Managed) -> None:
    """With odd names, too."""
    name = "odd/näme %2F"
    with managed.connect() as connection:
        queue = Queue(name, Exchange("managed-x", "topic"), "a.*")(connection)
        queue.declare()
        manager = connection.manager
        assert name in [queue["name"] for queue in manager.get_queues()]
        assert manager.get_queue("/", name)["durable"] is True
        assert "managed-x" in [exchange["name"] for exchange in manager.get_exchanges()]
        bound = [(b["source"], b["routing_key"]) for b in manager.get_queue_bindings("/", name)]
        assert ("managed-x", "a.*") in bound
        assert len(manager.get_bindings()) >= len(bound)
        connection.Producer(exchange=Exchange("managed-x", "topic")).publish("m", "a.b")
        wait_until(lambda: queue.queue_declare(passive=True)[1] == 1, timeout=PATIENCE, waiting_for="the message")
        assert isinstance(manager.get_queue_depth("/", name), int)
        manager.purge_queue("/", name)
        assert queue.queue_declare(passive=True)[1] == 0
        manager.delete_queue("/", name)
        with pytest.raises(NotFound, match="404"):
            manager.get_queue("/", name)


def test_it_shows_the_broker_and_its_clients(managed: Managed) -> None:
    """Overview, nodes, virtual hosts, connections, channels; a connection can be closed, and comes back."""
    with managed.connect() as connection:
        connection.default_channel  # noqa: B018
        manager = connection.get_manager()
        assert manager.get_overview()["rabbitmq_version"].startswith("3.")
        assert [node["running"] for node in manager.get_nodes()] == [True]
        assert [vhost["name"] for vhost in manager.get_all_vhosts()] == ["/"]
        assert manager.is_alive()
        wait_until(manager.get_connections, timeout=PATIENCE, waiting_for="statistics of the connection")
        wait_until(manager.get_channels, timeout=PATIENCE, waiting_for="statistics of the channel")
        (shown,) = manager.get_connections()
        manager.delete_connection(shown["name"])
        connection.SimpleQueue("after").put("m", retry=True)


def test_any_request_can_be_made(managed: Managed) -> None:
    """``put``, ``get``, ``post``, ``delete`` take a path."""
    manager = managed.connect().manager
    manager.put("vhosts", "made/here")
    manager.put("permissions", "made/here", "guest", body={"configure": ".*", "write": ".*", "read": ".*"})
    manager.put("queues", "made/here", "q", body={"durable": True})
    posted = manager.post(
        "queues", "made/here", "q", "get", body={"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}
    )
    assert posted == []
    assert [queue["name"] for queue in manager.get_queues("made/here")] == ["q"]
    manager.delete("vhosts", "made/here")
    assert "made/here" not in [vhost["name"] for vhost in manager.get_all_vhosts()]


def test_refusals_say_who_was_refused_and_why(managed: Managed) -> None:
    """Wrong password; an impossible request.  No password is shown."""
    with pytest.raises(AccessRefused, match=r"401.*'guest' needs the tag management") as refused:
        managed.connect(manager_password="s3cret").manager.get_overview()
    assert "s3cret" not in str(refused.value) + repr(refused.value)
    assert "s3cret" not in repr(managed.connect(manager_password="s3cret").manager)
    with pytest.raises(OperationalError, match="400"):
        managed.connect().manager.put("queues", "/", "q", body={"durable": "perhaps"})


def test_an_unreachable_api_is_an_error_that_says_where(managed: Managed) -> None:
    """And what to look at."""
    manager = managed.connect(manager_port=free_port()).manager
    with pytest.raises(BrokerUnreachable, match=r"http://127\.0\.0\.1:\d+/api/overview .*rabbitmq_management"):
        manager.get_overview()


def test_every_call_ends_by_its_timeout() -> None:
    """Also when the answer trickles in: the deadline is one for everything."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        manager = Connection("amqp://127.0.0.1").get_manager(port=silent.getsockname()[1], timeout=0.3)
        begin = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            manager.get_overview()
        assert time.monotonic() - begin < 1
        assert RabbitMQManagement(url="", userid="", password="").timeout <= 5


def test_where_it_is_comes_from_options_or_the_connection() -> None:
    """Keywords, then transport options, then the connection's own; TLS where the connection has it."""
    connection = Connection("amqp://u:p@host/v%2F")
    manager = connection.manager
    assert (manager.url, manager.userid, manager.password) == ("http://host:15672/api", "u", "p")
    assert manager.virtual_host == "v/"
    options = {
        f"manager_{key}": value for key, value in {"hostname": "h", "port": 1, "userid": "x", "password": "y"}.items()
    }
    manager = connection.clone(transport_options=options).manager
    assert (manager.url, manager.userid, manager.password) == ("http://h:1/api", "x", "y")
    manager = connection.get_manager(hostname="::1", port=2, userid="k", password="l")
    assert (manager.url, manager.userid, manager.password) == ("http://[::1]:2/api", "k", "l")
    assert Connection("amqps://host").manager.url == "https://host:15671/api"


def test_a_transport_without_such_an_api_says_so() -> None:
    """In a sentence."""
    with pytest.raises(NotImplementedError, match="memory:// has no management API"):
        _ = Connection(f"memory://{uuid()}").manager


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The HTTP client is imported when it is first needed."""
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(ImportError, match=r"kombu-actors\[mgmt\]"):
        _ = Connection("amqp://host").manager
