"""Connecting with wrong parameters, or to no broker: told at once, what and where, never the password."""

from __future__ import annotations

import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio
from amqp.exceptions import AccessRefused, NotAllowed

from kombu_actors import Connection
from kombu_actors.broker import open_broker
from kombu_actors.errors import BrokerUnreachable, HandshakeFailed, InvalidURL, UnsupportedScheme
from tests.support.brokers import RabbitMQNode, free_port
from tests.support.proxy import FaultProxy

CANARY = "canary-secret"
PATIENCE = 10.0
"""Seconds: more than any of these failures may take."""


def by_facade(url: Any, **options: Any) -> BaseException:
    """Connect; return how that failed."""
    try:
        with Connection(url, **options) as connection:
            connection.connect()
    except Exception as error:
        return error
    raise AssertionError("connected")


def by_facade_publishing(url: Any, **options: Any) -> BaseException:
    """Connect by publishing, as most programs do."""
    policy = {"max_retries": 1, "interval_start": 0, "interval_step": 0}
    try:
        with Connection(url, transport_options=policy, **options) as connection:
            connection.Producer().publish("m", routing_key="q")
    except Exception as error:
        return error
    raise AssertionError("published")


def natively(url: Any, **options: Any) -> BaseException:
    """Connect with the trio-native API; return how that failed."""
    if "ssl" in options:
        options["tls"] = options.pop("ssl")

    async def connect() -> None:
        with trio.fail_after(PATIENCE):
            async with open_broker(url, **options):
                pass

    try:
        trio.run(connect)
    except Exception as error:
        return error
    raise AssertionError("connected")


def insisting(url: Any, **options: Any) -> BaseException:
    """Connect with a broker that may be away: dialling goes on for as long as that may help."""
    return natively(url, keep_dialling=True, **options)


Attempt = Callable[..., BaseException]
WAYS = pytest.mark.parametrize("attempt", [by_facade, natively])


def keeps_the_secret(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """No password in message, repr, traceback, causes or logs."""
    assert CANARY not in "".join(traceback.format_exception(error)) + caplog.text
    seen, waiting = set[int](), [error]
    while waiting:
        each = waiting.pop()
        if id(each) not in seen:
            seen.add(id(each))
            assert CANARY not in str(each) + repr(each) + repr(each.args)
            waiting += filter(None, (each.__cause__, each.__context__))


# -- URLs ---------------------------------------------------------------------------------------------

URLS: dict[str, tuple[Any, str]] = {
    "a port that is no number": (f"amqp://u:{CANARY}@host:port//", "port .* not a number.*percent-encode"),
    "a password with a slash": (f"amqp://u:{CANARY}/x@host//", "percent-encode"),
    "a password with a hash": (f"amqp://u:{CANARY}#x@host//", "%23"),
    "a port beyond 65535": (f"amqp://u:{CANARY}@host:99999//", "99999; a port lies between 1 and 65535"),
    "port 0": (f"amqp://u:{CANARY}@host:0//", "between 1 and 65535"),
    "an open bracket": (f"amqp://u:{CANARY}@[::1//", "closing bracket"),
    "no scheme": (f"://u:{CANARY}@host//", "starts with a scheme"),
    "two transports": (["amqp://host//", "memory://x"], "same transport"),
    "an empty list": ([], "at least one"),
    "one slash": (f"amqp:/u:{CANARY}@host", "://"),
    "a database that is no number": (f"redis://u:{CANARY}@host/abc", "number of a database.*'abc' is none"),
    "a negative database": (f"redis://u:{CANARY}@host/-1", "number of a database"),
    "a redis password with a slash": (f"redis://:12/{CANARY}@host/0", "percent-encode"),
    "a Unix socket without a file": (f"redis+socket://:{CANARY}@", "three slashes"),
    "a Unix socket on a host": (f"redis+socket://:{CANARY}@host/tmp/x", "three slashes"),
    "a Unix socket with two databases": ("redis+socket:///tmp/x?db=1&virtual_host=2", "once"),
    "sentinels to two servers": (f"sentinel://:{CANARY}@a;sentinel://:{CANARY}2@b", "different values for password"),
    "sentinels to two databases": ("sentinel://a/1;b/2", "different values for virtual_host"),
    "a number": (3, "string"),
    "a number among URLs": (["amqp://host//", 3], "string"),
}


@WAYS
@pytest.mark.parametrize("what", URLS)
def test_a_malformed_url_is_refused(attempt: Attempt, what: str, caplog: pytest.LogCaptureFixture) -> None:
    """InvalidURL, which is a ValueError: what is wrong and how it is written, without the password."""
    url, says = URLS[what]
    error = attempt(url)
    assert isinstance(error, InvalidURL)
    assert isinstance(error, ValueError)
    keeps_the_secret(error, caplog)
    with pytest.raises(InvalidURL, match=says):
        raise error


@WAYS
def test_an_unknown_scheme_is_refused(attempt: Attempt, caplog: pytest.LogCaptureFixture) -> None:
    """Also a KeyError, as in kombu; the schemes that there are are named."""
    error = attempt(f"kafka://u:{CANARY}@host//")
    assert isinstance(error, UnsupportedScheme)
    assert isinstance(error, KeyError)
    assert "'kafka'" in str(error)
    assert "amqp, amqps, memory" in str(error)
    keeps_the_secret(error, caplog)


def test_nothing_shows_the_password() -> None:
    """repr, str, as_uri, of the connection and of its channel and producer; asked for by name, it is shown."""
    with Connection(f"memory://u:{CANARY}@secretive") as connection:
        channel = connection.channel()
        producer, consumer = connection.Producer(channel), connection.Consumer([], channel)
        shown = [connection, channel, producer, consumer, connection.connect()]
        assert CANARY not in "".join(map(repr, shown)) + connection.as_uri() + "".join(map(str, shown))
        assert CANARY in connection.as_uri(include_password=True)


# -- refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("attempt", [by_facade, by_facade_publishing, natively, insisting])
def test_wrong_credentials_are_refused_once(
    rabbitmq: RabbitMQNode,
    fault_proxy: Callable[[int], FaultProxy],
    attempt: Attempt,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """AccessRefused at once, who and where: asking again would lock the account, not open it."""
    proxy = fault_proxy(rabbitmq.port)
    started = time.monotonic()
    error = attempt(rabbitmq.url(password=CANARY, port=proxy.port))
    assert time.monotonic() - started < 5
    assert isinstance(error, AccessRefused)
    assert "ACCESS_REFUSED" in str(error)
    assert f"127.0.0.1:{proxy.port}" in str(error)
    assert "user 'guest'" in str(error)
    assert proxy.accepted == 1
    keeps_the_secret(error, caplog)


@pytest.mark.parametrize("attempt", [by_facade, by_facade_publishing, natively, insisting])
def test_a_wrong_virtual_host_is_refused_once(
    rabbitmq: RabbitMQNode, fault_proxy: Callable[[int], FaultProxy], attempt: Attempt
) -> None:
    """NotAllowed at once, with the virtual host's name and the user's."""
    proxy = fault_proxy(rabbitmq.port)
    error = attempt(rabbitmq.url(vhost="no such place", port=proxy.port))
    assert isinstance(error, NotAllowed)
    assert "virtual host 'no such place'" in str(error)
    assert "user 'guest'" in str(error)
    assert proxy.accepted == 1


@WAYS
def test_a_refusal_is_not_failed_over(
    rabbitmq: RabbitMQNode, fault_proxy: Callable[[int], FaultProxy], attempt: Attempt
) -> None:
    """The next broker of a cluster knows the same users: it isn't asked."""
    first, second = fault_proxy(rabbitmq.port), fault_proxy(rabbitmq.port)
    error = attempt([rabbitmq.url(password=CANARY, port=proxy.port) for proxy in (first, second)])
    assert isinstance(error, AccessRefused)
    assert (first.accepted, second.accepted) == (1, 0)


@WAYS
def test_an_unknown_login_method_is_refused_before_dialling(attempt: Attempt) -> None:
    """ValueError, with those there are."""
    error = attempt("amqp://host.invalid//", login_method="GSSAPI")
    assert isinstance(error, ValueError)
    assert "'PLAIN', 'AMQPLAIN' or 'EXTERNAL', not 'GSSAPI'" in str(error)


@WAYS
def test_an_unknown_tls_option_is_refused_before_dialling(attempt: Attempt) -> None:
    """ValueError: a misspelt ``ca_certs`` must not quietly verify against something else."""
    error = attempt("amqps://host.invalid//", ssl={"ca_cert": "x.pem"})
    assert isinstance(error, ValueError)
    assert "unknown TLS option 'ca_cert'" in str(error)
    assert "ca_certs" in str(error)


# -- not a broker -------------------------------------------------------------------------------------


class Impostor:
    """Something that listens on a port and is no broker: says ``answer`` to whatever it hears."""

    def __init__(self, answer: bytes | None, *, hang_up: bool) -> None:
        self._answer = answer
        self._hang_up = hang_up
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.visits = 0
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                visitor, _ = self._listener.accept()
            except OSError:
                return
            self.visits += 1
            if self._answer is not None:
                visitor.recv(4096)
                visitor.sendall(self._answer)
            if self._hang_up:
                visitor.close()
            else:
                self._open.append(visitor)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for visitor in self._open:
            visitor.close()


@pytest.fixture
def impostor() -> Iterator[Callable[..., Impostor]]:
    """Make impostors."""
    made: list[Impostor] = []

    def make(answer: bytes | None, *, hang_up: bool) -> Impostor:
        made.append(Impostor(answer, hang_up=hang_up))
        return made[-1]

    yield make
    for each in made:
        each.close()


IMPOSTORS: dict[str, tuple[bytes | None, bool, type[Exception], str]] = {
    "an HTTP server": (b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", True, HandshakeFailed, "HTTP"),
    "an SSH server": (b"SSH-2.0-OpenSSH_9.2\r\n", False, HandshakeFailed, "AMQP"),
    "another AMQP": (b"AMQP\x00\x01\x00\x00", True, HandshakeFailed, "AMQP 0-9-1"),
    "silent": (None, False, BrokerUnreachable, "did not answer within 0.4 s"),
    "closes at once": (None, True, BrokerUnreachable, "plain AMQP port|reset|closed"),
}


@WAYS
@pytest.mark.parametrize("what", IMPOSTORS)
def test_what_is_no_broker_is_found_out(impostor: Callable[..., Impostor], attempt: Attempt, what: str) -> None:
    """BrokerUnreachable (HandshakeFailed where it spoke), with host and port, by the connect timeout; dialled once."""
    answer, hang_up, kind, says = IMPOSTORS[what]
    other = impostor(answer, hang_up=hang_up)
    started = time.monotonic()
    error = attempt(f"amqp://127.0.0.1:{other.port}//", connect_timeout=0.4)
    assert time.monotonic() - started < 3
    assert isinstance(error, kind)
    assert isinstance(error, BrokerUnreachable)
    with pytest.raises(BrokerUnreachable, match=says):
        raise error
    assert f"127.0.0.1:{other.port}" in str(error)
    assert other.visits == 1


@WAYS
def test_a_port_where_nobody_listens_is_unreachable(attempt: Attempt) -> None:
    """With the operating system's word."""
    port = free_port()
    error = attempt(f"amqp://127.0.0.1:{port}//")
    assert type(error) is BrokerUnreachable
    assert f"127.0.0.1:{port}: Connection refused" in str(error)


@WAYS
def test_plain_amqp_to_a_tls_port_says_so(rabbitmq: RabbitMQNode, attempt: Attempt) -> None:
    """HandshakeFailed that names amqps://; not a timeout."""
    error = attempt(rabbitmq.url(port=rabbitmq.tls_port), connect_timeout=5)
    assert isinstance(error, HandshakeFailed)
    assert "amqps://" in str(error)
    assert f"127.0.0.1:{rabbitmq.tls_port}" in str(error)


@WAYS
def test_tls_to_a_plain_port_says_so(rabbitmq: RabbitMQNode, attempt: Attempt) -> None:
    """HandshakeFailed that names amqp://."""
    error = attempt(rabbitmq.tls_url(port=rabbitmq.port), connect_timeout=5)
    assert isinstance(error, HandshakeFailed)
    assert "TLS" in str(error)
    assert f"localhost:{rabbitmq.port}" in str(error)


@WAYS
def test_a_broker_nobody_vouches_for_is_not_trusted(rabbitmq: RabbitMQNode, attempt: Attempt) -> None:
    """``amqps://`` verifies: a certificate by an unknown authority ends the attempt."""
    error = attempt(rabbitmq.tls_url())
    assert isinstance(error, HandshakeFailed)
    assert "certificate" in str(error)
    assert f"localhost:{rabbitmq.tls_port}" in str(error)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"heartbeat": "often"}, "heartbeat"),
        ({"heartbeat": -1}, "heartbeat"),
        ({"connect_timeout": "soon"}, "connect_timeout"),
        ({"connect_timeout": -1}, "connect_timeout"),
        ({"failover_strategy": "psychic"}, "failover_strategy"),
    ],
)
@WAYS
def test_an_option_without_sense_is_refused(attempt: Attempt, options: dict[str, Any], names: str) -> None:
    """ValueError or TypeError with the option's name, on every transport."""
    for url in ("memory://options", f"amqp://127.0.0.1:{free_port()}//"):
        error = attempt(url, **options)
        assert isinstance(error, (ValueError, TypeError)), error
        assert names in str(error)


@pytest.mark.parametrize("scheme", ["amqp", "redis"])
def test_info_makes_the_same_connection_of_an_ipv6_address(scheme: str) -> None:
    """``info`` names the host without brackets; what is made of it dials the same address."""
    connection = Connection(f"{scheme}://user:secret@[::1]:7000/1")
    again = Connection(**connection.info())
    assert again.as_uri(include_password=True) == connection.as_uri(include_password=True)


def test_no_timeout_for_connecting_is_the_default_one() -> None:
    """`connect_timeout=None` is what Celery's workers of greenlets ask for, some settings say 0; nothing waits for ever
    here, nor gives up before it began."""
    assert Connection("amqp://localhost", connect_timeout=None).connect_timeout == 5
    assert Connection("amqp://localhost", connect_timeout=0).connect_timeout == 5
    assert Connection("amqp://localhost//?connect_timeout=0").connect_timeout == 5
