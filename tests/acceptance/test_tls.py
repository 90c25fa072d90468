"""P9 over TLS: nothing unverified, every refusal says which check failed, and all promises hold as they do in plain."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from amqp.exceptions import AccessRefused

from kombu_actors import Connection, Consumer, Producer, Queue
from kombu_actors.broker import QueueSpec, open_broker
from kombu_actors.errors import BrokerUnreachable, HandshakeFailed
from kombu_actors.supervisors.events import ChildReady
from tests.support.brokers import RabbitMQNode
from tests.support.certs import Credential
from tests.support.erlang import binary
from tests.support.proxy import FaultProxy

from .observing import happened, recorded
from .tls_listeners import EXTERNAL_CONF, LOCAL, Authority, Listeners

TIMEOUT = 20.0
"""Seconds for what takes some milliseconds on an idle machine."""


@pytest.fixture(scope="module")
def directory(node_directory: Path) -> Path:
    """Where this module's certificates lie."""
    made = node_directory / "tls"
    made.mkdir()
    return made


@pytest.fixture(scope="module")
def authority(directory: Path) -> Authority:
    """The authority that the clients of this module trust."""
    return Authority(directory, "authority")


@pytest.fixture(scope="module")
def strangers(directory: Path) -> Authority:
    """An authority that nobody trusts."""
    return Authority(directory, "strangers")


@pytest.fixture(scope="module")
def listeners(authority: Authority, own_rabbitmq: Callable[..., RabbitMQNode]) -> Listeners:
    """A node that lets client certificates log in."""
    node = own_rabbitmq(conf=EXTERNAL_CONF, plugins=("rabbitmq_auth_mechanism_ssl",))
    return Listeners(node, authority)


@pytest.fixture(scope="module")
def server(authority: Authority) -> Credential:
    """The right certificate for a broker on this machine."""
    return authority.issue("server", *LOCAL)


@pytest.fixture(scope="module")
def port(listeners: Listeners, server: Credential) -> int:
    """Where the broker listens with the right certificate, for clients without one."""
    return listeners.open(server)


@pytest.fixture
def vhost(listeners: Listeners, request: pytest.FixtureRequest) -> Iterator[str]:
    """A virtual host for this test alone."""
    name = request.node.name
    listeners.node.add_vhost(name)
    yield name
    listeners.node.delete_vhost(name)


def with_certificate(authority: Authority, credential: Credential) -> dict[str, Any]:
    return {"ca_certs": str(authority.certificate), "certfile": credential.certificate, "keyfile": credential.key}


def exchange_messages(connection: Connection, bodies: list[Any]) -> list[Any]:
    """Publish bodies and consume them again, acknowledged."""
    queue = Queue("q")
    received: list[Any] = []

    def take(body: Any, message: Any) -> None:
        received.append(body)
        message.ack()

    with Producer(connection) as producer:
        for body in bodies:
            producer.publish(body, routing_key="q", declare=[queue], retry=True)
    with Consumer(connection, [queue], callbacks=[take]):
        while len(received) < len(bodies):
            connection.drain_events(timeout=TIMEOUT)
    return received


# --- it works ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["amqps", "amqp", "pyamqp"])
def test_messages_travel_over_verified_tls(
    scheme: str, listeners: Listeners, authority: Authority, port: int, vhost: str
) -> None:
    """`amqps://`, or `ssl=` on a plain scheme: TLS 1.3 to the broker, small and large bodies both ways."""
    bodies = [{"n": n} for n in range(100)] + ["x" * 1_000_000]
    ca = {"ca_certs": str(authority.certificate)}
    with Connection(f"{scheme}://localhost:{port}/{vhost}", ssl=ca) as connection:
        assert exchange_messages(connection, bodies) == bodies
        sessions = listeners.sessions(vhost)
    assert sessions == [{"user": "guest", "ssl": True, "protocol": "tlsv1.3", "mechanism": "PLAIN"}]


def test_the_documented_dict_logs_in_by_certificate_alone(
    listeners: Listeners, authority: Authority, server: Credential, vhost: str
) -> None:
    """`login_method="EXTERNAL"` with `ca_certs`, `certfile`, `keyfile`, `cert_reqs`: kombu's own example."""
    port = listeners.open(server, client_certificate=True)
    client = authority.issue("client", "client@tests.example", common_name="guest")
    options = {**with_certificate(authority, client), "cert_reqs": ssl.CERT_REQUIRED}
    with Connection(f"amqp://localhost:{port}/{vhost}", login_method="EXTERNAL", ssl=options) as connection:
        assert exchange_messages(connection, [1, 2, 3]) == [1, 2, 3]
        (session,) = listeners.sessions(vhost)
    assert session == {"user": "guest", "ssl": True, "protocol": "tlsv1.3", "mechanism": "EXTERNAL"}


@pytest.mark.parametrize("spelling", ["query", "context", "redis-py", "py-amqp"])
def test_other_spellings_of_the_same_settings_connect(
    spelling: str, authority: Authority, port: int, vhost: str
) -> None:
    """Query parameters, a context of one's own, and the keys that users of kombu's transports know."""
    ca = str(authority.certificate)
    url = f"amqps://127.0.0.1:{port}/{vhost}"
    option: Any = {
        "query": False,
        "context": ssl.create_default_context(cafile=ca),
        "redis-py": {"ssl_ca_certs": ca, "ssl_cert_reqs": "required", "ssl_check_hostname": True},
        "py-amqp": {
            "ca_certs": ca,
            "ssl_version": ssl.PROTOCOL_TLS_CLIENT,
            "server_hostname": "localhost",
            "ciphers": "ECDHE+AESGCM",
            "tls_maximum_version": ssl.TLSVersion.TLSv1_2,
        },
    }[spelling]
    if spelling == "query":
        url += f"?ssl_ca_certs={ca}&ssl_cert_reqs=required"
    with Connection(url, ssl=option) as connection:
        assert exchange_messages(connection, ["hello"]) == ["hello"]


async def test_the_native_api_takes_the_same_settings(authority: Authority, port: int, vhost: str) -> None:
    """`open_broker(tls=...)`: a confirmed publish, and its delivery."""
    ca = {"ca_certs": str(authority.certificate)}
    async with open_broker(f"amqps://localhost:{port}/{vhost}", tls=ca) as broker:
        await broker.declare(QueueSpec(name="q"))
        await broker.publish({"n": 1}, routing_key="q")
        async with broker.subscribe("q") as messages:
            async for message in messages:
                assert message.payload == {"n": 1}
                message.ack()
                break


# --- it holds ----------------------------------------------------------------------------------------


def test_killed_connections_come_back_over_tls(
    listeners: Listeners,
    authority: Authority,
    port: int,
    vhost: str,
    fault_proxy: Callable[[int], FaultProxy],
) -> None:
    """Reset amid publishing and consuming, five times: nothing is lost, the consumer goes on by itself."""
    proxy = fault_proxy(port)
    ca = {"ca_certs": str(authority.certificate)}
    queue = Queue("q")
    received: set[int] = set()

    def take(body: int, message: Any) -> None:
        received.add(body)
        message.ack()

    with Connection(f"amqps://localhost:{proxy.port}/{vhost}", ssl=ca) as connection:
        with Producer(connection) as producer, Consumer(connection, [queue], callbacks=[take]):
            for number in range(500):
                if number % 100 == 50:
                    proxy.reset()
                producer.publish(number, routing_key="q", declare=[queue], retry=True)
            while len(received) < 500:
                connection.drain_events(timeout=TIMEOUT)
        sessions = listeners.sessions(vhost)
    assert received == set(range(500))
    assert [session["ssl"] for session in sessions] == [True]
    assert proxy.accepted > 1


def test_each_broker_of_a_failover_list_must_have_its_own_name(
    listeners: Listeners,
    authority: Authority,
    vhost: str,
    fault_proxy: Callable[[int], FaultProxy],
) -> None:
    """One certificate is for the name, the other for the address; taken the wrong way round, both are refused."""
    by_name = fault_proxy(listeners.open(authority.issue("by-name", "localhost")))
    by_address = fault_proxy(listeners.open(authority.issue("by-address", "127.0.0.1")))
    ca = {"ca_certs": str(authority.certificate)}
    urls = f"amqps://localhost:{by_name.port}/{vhost};amqps://127.0.0.1:{by_address.port}/{vhost}"

    with Connection(urls, ssl=ca) as connection:
        assert exchange_messages(connection, [1]) == [1]
        assert connection.port == by_name.port
        with recorded(connection) as recording:
            by_name.refuse()
            by_name.reset()
            recording.until(happened(ChildReady, "topology"), TIMEOUT)
        assert exchange_messages(connection, [2]) == [2]
        assert connection.port == by_address.port

    by_name.heal()
    swapped = f"amqps://127.0.0.1:{by_name.port}/{vhost};amqps://localhost:{by_address.port}/{vhost}"
    with pytest.raises(BrokerUnreachable) as refused, Connection(swapped, ssl=ca) as connection:
        connection.connect()
    assert "IP address mismatch, certificate is not valid for '127.0.0.1'" in str(refused.value)
    assert "Hostname mismatch, certificate is not valid for 'localhost'" in str(refused.value)


def test_renewed_files_count_at_the_next_dial(
    listeners: Listeners, authority: Authority, server: Credential, directory: Path, vhost: str
) -> None:
    """Certificates of a day's life: what lies in the files now is shown, without a restart of the program."""
    everything = '<<".*">>'
    listeners.node.eval(
        'ok = rabbit_auth_backend_internal:add_user(<<"renewed">>, <<"unused">>, <<"tests">>),'
        f'ok = rabbit_auth_backend_internal:set_permissions(<<"renewed">>, {binary(vhost)},'
        f' {everything}, {everything}, {everything}, <<"tests">>)'
    )
    port = listeners.open(server, client_certificate=True)
    first = authority.issue("first", "client@tests.example", common_name="guest")
    renewed = authority.issue("renewed", "client@tests.example", common_name="renewed")
    shown = Credential(directory / "shown.pem", directory / "shown.key")

    def lay_out(credential: Credential) -> None:
        shown.certificate.write_bytes(credential.certificate.read_bytes())
        shown.key.write_bytes(credential.key.read_bytes())

    lay_out(first)
    options = with_certificate(authority, shown)
    with Connection(f"amqps://localhost:{port}/{vhost}", login_method="EXTERNAL", ssl=options) as connection:
        with recorded(connection) as recording:
            assert [session["user"] for session in listeners.sessions(vhost)] == ["guest"]
            lay_out(renewed)
            listeners.node.close_all_connections(vhost=vhost)
            recording.until(happened(ChildReady, "topology"), TIMEOUT)
        assert [session["user"] for session in listeners.sessions(vhost)] == ["renewed"]


# --- it refuses, and says why ------------------------------------------------------------------------


def refusal(url: str, **options: Any) -> str:
    """How connecting fails; the password is in no part of it."""
    with pytest.raises(HandshakeFailed) as failed, Connection(url, password="canary-secret", **options) as connection:
        connection.connect()
    seen: BaseException | None = failed.value
    while seen is not None:
        assert "canary-secret" not in repr(seen) + str(seen)
        seen = seen.__cause__ or seen.__context__
    return str(failed.value)


def test_a_broker_that_fails_a_check_is_refused_and_the_check_named(
    listeners: Listeners, authority: Authority, strangers: Authority, server: Credential, port: int
) -> None:
    """Unknown authority, self-signed, other name, other address, expired; each with what to do about it."""
    ca = {"ca_certs": str(authority.certificate)}
    cases: list[tuple[str, str, int, Any, str, str]] = [
        ("system", "localhost", port, True, "self-signed certificate in certificate chain", "ca_certs"),
        (
            "stranger",
            "localhost",
            listeners.open(strangers.issue("stranger", *LOCAL)),
            ca,
            "unable to get local issuer certificate",
            "ca_certs",
        ),
        ("self-signed", "localhost", listeners.open(strangers.itself), ca, "self-signed certificate", "ca_certs"),
        (
            "other name",
            "localhost",
            listeners.open(authority.issue("other", "other.example")),
            ca,
            "Hostname mismatch, certificate is not valid for 'localhost'",
            "server_hostname",
        ),
        (
            "other address",
            "127.0.0.1",
            listeners.open(authority.issue("name-only", "localhost")),
            ca,
            "IP address mismatch, certificate is not valid for '127.0.0.1'",
            "server_hostname",
        ),
        (
            "expired",
            "localhost",
            listeners.open(authority.issue("expired", *LOCAL, expired=True)),
            ca,
            "certificate has expired",
            "clock",
        ),
    ]
    for name, host, where, option, check, advice in cases:
        text = refusal(f"amqps://{host}:{where}", ssl=option)
        assert f"{host}:{where}: its TLS certificate was not accepted for '{host}': {check}" in text, name
        assert advice in text, name
    # The same broker under the name its certificate is for, and by name unverified.
    other = cases[3][2]
    for option in ({**ca, "server_hostname": "other.example"}, {**ca, "check_hostname": False}, {"cert_reqs": "none"}):
        with Connection(f"amqps://localhost:{other}", ssl=option) as connection:
            connection.connect()


def test_old_protocols_are_refused(listeners: Listeners, authority: Authority, server: Credential, port: int) -> None:
    """A broker that speaks only TLS 1.1, and a client that wants more than the broker has."""
    ca = {"ca_certs": str(authority.certificate)}
    old = listeners.open(server, versions=["tlsv1.1"])
    assert "no TLS version in common: TLS 1.2 is the oldest" in refusal(f"amqps://localhost:{old}", ssl=ca)
    settled = listeners.open(server, versions=["tlsv1.2"])
    newest = {**ca, "tls_minimum_version": ssl.TLSVersion.TLSv1_3}
    assert "no TLS version in common" in refusal(f"amqps://localhost:{settled}", ssl=newest)


def test_plain_and_tls_ports_are_told_apart(listeners: Listeners, authority: Authority, port: int) -> None:
    """Each way round, the error names the other port."""
    ca = {"ca_certs": str(authority.certificate)}
    assert "it doesn't speak TLS: use amqp://" in refusal(f"amqps://localhost:{listeners.node.port}", ssl=ca)
    assert "use amqps:// (ssl=True)" in refusal(f"amqp://localhost:{port}")


@pytest.mark.parametrize("version", ["tlsv1.2", "tlsv1.3"])
def test_a_client_certificate_that_is_missing_or_refused_is_named(
    version: str, listeners: Listeners, authority: Authority, strangers: Authority, server: Credential
) -> None:
    """None, a stranger's, an expired one.  With TLS 1.3 the broker's word may get lost, never the hint."""
    strict = f"amqps://localhost:{listeners.open(server, client_certificate=True, versions=[version])}"
    foreign = strangers.issue(f"foreign-{version}", "client@tests.example", common_name="guest")
    late = authority.issue(f"late-{version}", "client@tests.example", common_name="guest", expired=True)

    assert "client certificate" in refusal(strict, ssl={"ca_certs": str(authority.certificate)})
    assert "our TLS client certificate (certfile)" in refusal(strict, ssl=with_certificate(authority, foreign))
    assert "our TLS client certificate (certfile)" in refusal(strict, ssl=with_certificate(authority, late))


def test_a_login_by_certificate_that_is_refused_blames_the_certificate(
    listeners: Listeners, authority: Authority, server: Credential, port: int
) -> None:
    """A name that is no user, no certificate at all, and a plain connection; never "user guest"."""
    ca = {"ca_certs": str(authority.certificate)}
    strict = listeners.open(server, client_certificate=True)
    nobody = with_certificate(authority, authority.issue("nobody", "client@tests.example", common_name="nobody"))
    for where, option, blamed in [
        (strict, nobody, "the user named by our TLS client certificate"),
        (port, ca, "us without TLS client certificate"),
    ]:
        url = f"amqps://localhost:{where}"
        with pytest.raises(AccessRefused) as refused, Connection(url, ssl=option, login_method="EXTERNAL") as client:
            client.connect()
        assert f"localhost:{where} refused {blamed}, virtual host '/': ACCESS_REFUSED" in str(refused.value)
        assert "guest" not in str(refused.value)
    plain = refusal(f"amqp://localhost:{listeners.node.port}", login_method="EXTERNAL")
    assert "login method EXTERNAL is not offered by the broker, but PLAIN; it needs TLS" in plain
