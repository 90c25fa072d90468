"""``kombu-actors doctor``: for each way in which a broker can't be used, which check failed and what to do."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from kombu_actors.cli.verbs import program
from tests.support.certs import Certificates, Credential
from tests.support.processes import free_port, wait_until
from tests.support.rabbitmq import RabbitMQNode
from tests.support.redis_server import RedisNode, SentinelGroup, start_sentinel_group

from .program import run

SECRET = "s3cr%24t"


def examined(url: str, *arguments: str, code: int = 1) -> dict[str, dict[str, Any]]:
    """What it finds, by check; the URL is given by its variable.  In this process: to start one takes half a second."""
    ended = CliRunner().invoke(program, ["doctor", *arguments, "-j"], env={"KOMBU_ACTORS_URL": url})
    assert (ended.exit_code, ended.stderr) == (code, "")
    assert "s3cr" not in ended.stdout
    return {one["check"]: one for one in json.loads(ended.stdout)}


def failed(url: str, *arguments: str) -> tuple[str, str, str]:
    """The check that failed, what it says, and what to do; all above it is well, and nothing below it tried."""
    found = examined(url, *arguments)
    verdicts = [one["verdict"] for check, one in found.items() if check != "open files"]
    at = verdicts.index("failed")
    assert set(verdicts[:at]) <= {"ok", "warning"}
    assert set(verdicts[at + 1 :]) <= {"skipped"}
    (one,) = [one for one in found.values() if one["verdict"] == "failed"]
    return one["check"], one["text"], one["advice"] or ""


# -- brokers that are well -------------------------------------------------------------------------


def test_a_rabbitmq_that_is_well(rabbitmq: RabbitMQNode, amqp_url: str, certificates: Certificates) -> None:
    """Every check, with what it found; nothing is left at the broker."""
    found = examined(amqp_url, code=0)
    assert list(found) == [
        *("name", "port", "protocol", "credentials", "virtual host", "server", "limits", "permissions", "open files")
    ]
    assert "RabbitMQ" in found["server"]["text"]
    assert "consumer_timeout" in found["limits"]["text"]
    secured = examined(rabbitmq.tls_url(), "--ca-certs", str(certificates.ca), code=0)
    assert "TLSv1.3; the certificate is for 'localhost', by" in secured["TLS"]["text"]
    assert [queue for queue in rabbitmq.list_queues("/") if "doctor" in str(queue)] == []


def test_a_redis_that_is_well(redis_url: str) -> None:
    """Its clock, memory and disk are looked at, too; a warning is no failure."""
    ended = run("doctor", redis_url)
    assert ended.code == 0
    for line in (
        "  ok    clock: within",
        "  warn  disk: no append-only file",
        "        do: a crash",
        "  ok    open files:",
    ):
        assert line in ended.out


# -- names, ports ----------------------------------------------------------------------------------


def test_a_name_that_nobody_knows() -> None:
    """And it asks whether the name server is the right one."""
    check, text, advice = failed(f"amqp://me:{SECRET}@broker.invalid//")
    assert check == "name"
    assert "'broker.invalid' can't be resolved" in text
    assert "name server" in advice


@pytest.mark.parametrize("scheme", ["amqp", "redis"])
def test_a_closed_port(scheme: str) -> None:
    """And it names the usual ports."""
    check, text, advice = failed(f"{scheme}://:{SECRET}@127.0.0.1:{free_port()}")
    assert check == "port"
    assert "Connection refused" in text
    assert "is the broker running" in advice
    assert "5672" in advice


@pytest.mark.parametrize("scheme", ["amqp", "redis", "rediss"])
def test_a_port_that_says_nothing(scheme: str) -> None:
    """It has a deadline, and says what that may be."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        check, text, advice = failed(f"{scheme}://127.0.0.1:{silent.getsockname()[1]}", "--timeout", "0.3")
    assert check == ("TLS" if scheme == "rediss" else "protocol")
    assert "within 0.3 s" in text
    assert "TLS port" in advice


@pytest.mark.parametrize("scheme", ["amqp", "redis"])
def test_a_proxy_that_speaks_http(scheme: str) -> None:
    """It is told from a broker, and from one whose port is another."""
    with web_server() as port:
        check, text, advice = failed(f"{scheme}://127.0.0.1:{port}", "--timeout", "1")
    assert check == "protocol"
    assert "speaks HTTP" in text
    assert "TCP" in advice


@contextmanager
def web_server() -> Iterator[int]:
    """An HTTP server that nobody has taught anything."""

    class Quiet(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


# -- TLS -------------------------------------------------------------------------------------------


@contextmanager
def tls_server(shown: Credential) -> Iterator[int]:
    """A port that shakes hands with this certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(shown.certificate, shown.key)
    with socket.create_server(("127.0.0.1", 0)) as door:

        def serve() -> None:
            with suppress(OSError):  # its end, and clients that refuse the certificate
                while True:
                    peer, _ = door.accept()
                    with peer, suppress(OSError), context.wrap_socket(peer, server_side=True) as secured:
                        secured.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        yield door.getsockname()[1]
        door.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(
    ("credential", "said", "todo"),
    [
        ("stranger", "unable to get local issuer certificate", "ca_certs"),
        ("expired", "certificate has expired", "renew it at the broker"),
        ("wrong_host", "Hostname mismatch", "server_hostname"),
    ],
)
def test_a_certificate_that_fails_a_check(certificates: Certificates, credential: str, said: str, todo: str) -> None:
    """Which check it was, and what to do about that one."""
    with tls_server(getattr(certificates, credential)) as port:
        check, text, advice = failed(f"amqps://localhost:{port}", "--ca-certs", str(certificates.ca))
    assert check == "TLS"
    assert said in text
    assert todo in advice


def test_a_plain_port_that_is_asked_for_tls(rabbitmq: RabbitMQNode) -> None:
    """And the other way round."""
    check, text, _ = failed(f"amqps://localhost:{rabbitmq.port}")
    assert check == "TLS"
    assert "doesn't speak TLS: use amqp://" in text
    check, text, _ = failed(f"amqp://localhost:{rabbitmq.tls_port}")
    assert check == "protocol"
    assert "use amqps://" in text


# -- credentials, virtual hosts, roles, permissions ------------------------------------------------


def test_a_wrong_password(rabbitmq: RabbitMQNode, own_redis: Callable[..., RedisNode]) -> None:
    """It is never printed; a special character has to be percent-encoded."""
    for url in (
        rabbitmq.url(password=SECRET),
        own_redis(conf=["requirepass right"]).url().replace("//", f"//:{SECRET}@"),
    ):
        check, text, advice = failed(url)
        assert check == "credentials"
        assert "refused" in text
        assert "percent-encoded" in advice


def test_a_password_that_is_missing(own_redis: Callable[..., RedisNode]) -> None:
    """Redis wants one, and the URL has none."""
    check, text, _ = failed(own_redis(conf=["requirepass right"]).url())
    assert check == "credentials"
    assert "wants a password" in text


def test_a_virtual_host_that_is_not_there(rabbitmq: RabbitMQNode, redis_server: RedisNode) -> None:
    """With the commands that make it; of Redis, a database that is one too many."""
    check, text, advice = failed(rabbitmq.url(vhost="nowhere"))
    assert check == "virtual host"
    assert "'nowhere'" in text
    assert "rabbitmqctl add_vhost nowhere" in advice
    check, text, advice = failed(redis_server.url(db=999))
    assert check == "database"
    assert "999" in text


def test_a_redis_replica(redis_server: RedisNode, own_redis: Callable[..., RedisNode]) -> None:
    """Messages go to its primary; where that changes, a Sentinel tells."""
    replica = own_redis(conf=[f"replicaof 127.0.0.1 {redis_server.port}"])
    check, text, advice = failed(replica.url())
    assert check == "role"
    assert "is a replica" in text
    assert "master_host" in advice
    assert "sentinel://" in advice


def test_permissions_that_are_missing(rabbitmq: RabbitMQNode, own_redis: Callable[..., RedisNode], vhost: str) -> None:
    """Which of them, and how they are given."""
    rabbitmq.eval('rabbit_auth_backend_internal:add_user(<<"reader">>, <<"s3cret">>, <<"tests">>)')
    reads = f'<<"reader">>, <<"{vhost}">>, <<"">>, <<"">>, <<".*">>, <<"tests">>'
    rabbitmq.eval(f"rabbit_auth_backend_internal:set_permissions({reads})")
    check, text, advice = failed(rabbitmq.url(userid="reader", password="s3cret", vhost=vhost))
    assert check == "permissions"
    assert "declaring a queue (configure) was refused" in text
    assert "set_permissions" in advice
    node = own_redis(conf=["user reader on >s3cret ~* &* +@read +@connection +info +time"])
    check, text, advice = failed(node.url().replace("//", "//reader:s3cret@"))
    assert check == "permissions"
    assert "ACL" in text


def test_a_url_that_cant_be_one() -> None:
    """One line, and exit code 2, before anything is dialled."""
    ended = run("doctor", "ampq://localhost")
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert "known schemes: amqp" in ended.err
    assert run("doctor", "amqp://localhost", "--ca-certs", str(Path("/nowhere"))).code == 2


def test_a_redis_at_a_unix_socket(redis_server: RedisNode) -> None:
    """There is neither name nor port to look at."""
    found = examined(f"redis+socket://{redis_server.socket_path}", code=0)
    assert list(found)[:2] == ["protocol", "credentials"]


# -- Sentinels, alarms -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelGroup]:
    """Two Sentinels, of which the tests stop what they need."""
    made = start_sentinel_group(tmp_path_factory.mktemp("doctor"), service="shop", replicas=0, sentinels=2)
    try:
        yield made
    finally:
        made.close()


def test_a_group_that_the_sentinel_does_not_know(group: SentinelGroup) -> None:
    """It says what that watches instead; without any name nothing is dialled."""
    check, text, advice = failed(sentinel_url(group, 0), "--master-name", "shpo")
    assert check == "sentinel"
    assert "watches no primary named 'shpo' (option master_name), but 'shop'" in text
    assert "SENTINEL MASTERS" in advice
    ended = run("doctor", sentinel_url(group, 0))
    assert (ended.code, ended.out) == (2, "")
    assert "--master-name" in ended.err


def test_a_sentinel_that_is_down_its_primary_or_both(group: SentinelGroup) -> None:
    """Of each Sentinel in the URL it says whether it is well; and what the one that is left wants with its primary."""
    group.sentinels[0].kill9()
    ended = run("doctor", f"{sentinel_url(group, 0)};{sentinel_url(group, 1)}", "--master-name", "shop", "-j")
    assert ended.code == 1
    found = json.loads(ended.out)
    first, second = list(dict.fromkeys(one["where"] for one in found))[:2]
    (bad,) = [one for one in found if one["verdict"] == "failed"]
    assert (bad["where"], bad["check"]) == (first, "port")
    assert "Sentinel's 26379" in bad["advice"]
    well = {one["check"]: one["text"] for one in found if one["where"] == second}
    assert well["sentinel"] == f"it names 127.0.0.1:{group.primary.port} as the primary"
    assert "takes connections" in well["primary"]
    assert list(well)[:5] == ["name", "port", "sentinel", "primary", "protocol"]
    group.primary.kill9()
    check, text, advice = failed(sentinel_url(group, 1), "--master-name", "shop")
    if check == "primary":  # the Sentinel has not noticed yet
        assert "takes no connection: Connection refused" in text
        assert "replica-announce-ip" in advice
        sees = group.sentinels[1].ask
        wait_until(
            lambda: b"s_down" in b" ".join(sees("SENTINEL", "MASTER", "shop")),
            timeout=20,
            waiting_for="the Sentinel to notice",
        )
        check, text, advice = failed(sentinel_url(group, 1), "--master-name", "shop")
    assert check == "sentinel"
    assert f"holds the primary 127.0.0.1:{group.primary.port} for dead" in text
    assert "SENTINEL CKQUORUM" in advice


def sentinel_url(group: SentinelGroup, number: int) -> str:
    """Of one of them alone."""
    return f"sentinel://127.0.0.1:{group.sentinels[number].port}"


def test_a_memory_alarm(own_rabbitmq: Callable[..., RabbitMQNode]) -> None:
    """The broker's own word, and what there is to do; consumers are not concerned."""
    node = own_rabbitmq()
    node.set_memory_alarm()
    check, text, advice = failed(node.url(), "--timeout", "2")
    assert check == "permissions"
    assert text == "nothing can be published: low on memory, says the broker"
    assert "rabbitmq-diagnostics alarms" in advice
    assert "consumers go on" in advice
