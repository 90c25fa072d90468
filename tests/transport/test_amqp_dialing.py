"""Opening AMQP connections that can't be opened: each failure says what failed, where, and what to do."""

from __future__ import annotations

import ssl
from contextlib import suppress
from functools import partial

import pytest
import trio
from amqp import exceptions as amqp_errors
from amqp import spec

from kombu_actors._values.endpoint import Endpoint, LinkOptions
from kombu_actors._values.tls_settings import tls_settings
from kombu_actors.errors import BrokerUnreachable, HandshakeFailed
from kombu_actors.transport.amqp import AMQPTransport
from tests import support_amqp_server as peer
from tests.support.certs import Certificates, Credential
from tests.support_amqp_server import FakeConnection, fake_broker


async def failure(endpoint: Endpoint, **options: object) -> BaseException:
    """Try to connect; return the error, which must not show the password."""
    with pytest.raises(Exception) as caught:
        await AMQPTransport().connect(endpoint, LinkOptions(**options))  # type: ignore[arg-type]
    seen: BaseException | None = caught.value
    while seen is not None:
        assert "canary-secret" not in repr(seen) + str(seen)
        seen = seen.__cause__ or seen.__context__
    return caught.value


async def answer_with(connection: FakeConnection, data: bytes) -> None:
    await connection.greet()
    await connection.send(data)
    await connection.until_hangup()


async def test_a_refused_port_is_unreachable_by_name() -> None:
    """Host, port and the operating system's reason."""
    with trio.socket.socket() as closed:
        await closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        error = await failure(Endpoint(scheme="amqp", host="127.0.0.1", port=port))
    assert type(error) is BrokerUnreachable
    assert f"127.0.0.1:{port}: Connection refused" in str(error)


async def test_a_host_without_address_is_unreachable_by_name() -> None:
    """The reserved top-level domain .invalid never resolves."""
    error = await failure(Endpoint(scheme="amqp", host="broker.invalid", port=5672), connect_timeout=30)
    assert type(error) is BrokerUnreachable
    assert "broker.invalid:5672" in str(error)


@pytest.mark.parametrize("silent_after", ["greeting", "start", "tune"])
async def test_a_silent_peer_is_given_up_in_time(silent_after: str) -> None:
    """One deadline for all of connecting; the error says what was waited for; the socket is closed."""
    hung_up = trio.Event()

    async def script(connection: FakeConnection) -> None:
        await connection.greet()
        if silent_after != "greeting":
            await connection.send(peer.start())
        if silent_after == "tune":
            await connection.send(peer.tune())
        await connection.until_hangup()
        hung_up.set()

    async with fake_broker(script) as endpoint:
        started = trio.current_time()
        error = await failure(endpoint, connect_timeout=0.2)
        assert trio.current_time() - started < 2
        await hung_up.wait()
    assert type(error) is BrokerUnreachable
    waited_for = {"greeting": "awaiting start", "start": "awaiting tune", "tune": "awaiting open-ok"}[silent_after]
    assert f"127.0.0.1:{endpoint.port} did not answer within 0.2 s (AMQP handshake, {waited_for})" in str(error)


async def test_a_cancelled_attempt_leaves_no_socket() -> None:
    """Cancelled in the middle of the handshake: the peer sees the end of the stream."""
    reached, hung_up = trio.Event(), trio.Event()

    async def script(connection: FakeConnection) -> None:
        await connection.greet()
        reached.set()
        await connection.until_hangup()
        hung_up.set()

    async with fake_broker(script) as endpoint, trio.open_nursery() as nursery:
        nursery.start_soon(AMQPTransport().connect, endpoint, LinkOptions())
        await reached.wait()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await hung_up.wait()


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        (403, amqp_errors.AccessRefused, "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN"),
        (530, amqp_errors.NotAllowed, "NOT_ALLOWED - vhost shop not found"),
        (320, BrokerUnreachable, "CONNECTION_FORCED - broker is shutting down"),
    ],
)
async def test_a_refusal_keeps_the_brokers_words_and_names_who_was_refused(
    code: int, kind: type[Exception], text: str
) -> None:
    """py-amqp's classes for 403 and 530; user, virtual host and address in the message; close-ok is sent."""
    answered = trio.Event()

    async def script(connection: FakeConnection) -> None:
        await connection.greet()
        await connection.send(peer.start())
        await connection.expect(spec.Connection.StartOk)
        await connection.send(peer.connection_close(code, text))
        await connection.expect(spec.Connection.CloseOk)
        answered.set()

    async with fake_broker(script) as endpoint:
        error = await failure(endpoint.but(virtual_host="shop"))
        await answered.wait()
    assert type(error) is kind
    assert text in str(error)
    assert f"127.0.0.1:{endpoint.port}" in str(error)
    if code != 320:
        assert "user 'ann', virtual host 'shop'" in str(error)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "management port"),
        (b"\x15\x03\x03\x00\x02\x02\x50", "amqps://"),
        (b"AMQP\x00\x01\x00\x00", "doesn't accept AMQP 0-9-1"),
        (peer.start(mechanisms="GSSAPI"), "login method PLAIN is not offered"),
        (peer.start() + peer.tune(frame_max=100), "frame_max of 100"),
        (peer.start() + peer.frame(9, 0, b""), "unknown frame type 9"),
    ],
)
async def test_a_peer_that_cannot_be_understood_fails_the_handshake(data: bytes, says: str) -> None:
    """HandshakeFailed, which is also a BrokerUnreachable, with the engine's explanation."""
    async with fake_broker(partial(answer_with, data=data)) as endpoint:
        error = await failure(endpoint)
    assert type(error) is HandshakeFailed
    assert says in str(error)


@pytest.mark.parametrize(
    ("before", "says"),
    [(b"", "plain AMQP port"), (peer.start(), "user or password"), (peer.start() + peer.tune(), "virtual host")],
)
async def test_a_peer_that_hangs_up_fails_the_handshake_with_a_hint(before: bytes, says: str) -> None:
    """Old brokers close the socket instead of saying 403."""

    async def script(connection: FakeConnection) -> None:
        await connection.greet()
        await connection.send(before)
        if before:
            await connection.expect(spec.Connection.StartOk)
        if len(before) > len(peer.start()):
            await connection.expect(spec.Connection.TuneOk)
            await connection.expect(spec.Connection.Open)

    async with fake_broker(script) as endpoint:
        error = await failure(endpoint)
    assert type(error) is HandshakeFailed
    assert says in str(error)


async def test_an_unknown_login_method_is_refused_before_dialing() -> None:
    """ValueError, not a connection attempt."""
    error = await failure(Endpoint(scheme="amqp", host="broker.invalid", port=1), login_method="GSSAPI")
    assert type(error) is ValueError


# -- TLS -----------------------------------------------------------------------------------------


async def fail_against(certificates: Certificates, shown: Credential) -> BaseException:
    """Connect to a TLS broker that shows one credential; return how that failed."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(shown.certificate, shown.key)

    async def handle(stream: trio.SSLStream[trio.SocketStream]) -> None:
        with suppress(trio.BrokenResourceError):  # the client's refusal is what is tested
            await stream.receive_some()
        await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_ssl_over_tcp, handle, 0, context, host="127.0.0.1"))
        port = listeners[0].transport_listener.socket.getsockname()[1]
        tls = tls_settings({"ca_certs": str(certificates.ca)})
        error = await failure(Endpoint(scheme="amqps", host="localhost", port=port, tls=tls))
        nursery.cancel_scope.cancel()
    return error


@pytest.mark.parametrize(
    ("credential", "says"),
    [
        ("wrong_host", "Hostname mismatch"),
        ("expired", "certificate has expired"),
        ("stranger", "unable to get local issuer certificate"),
    ],
)
async def test_a_certificate_that_fails_a_check_says_which(
    certificates: Certificates, credential: str, says: str
) -> None:
    """Chain, host name and dates are checked by default."""
    error = await fail_against(certificates, getattr(certificates, credential))
    assert type(error) is HandshakeFailed
    assert says in str(error)
    assert "localhost:" in str(error)


async def test_tls_to_a_plain_port_says_so(certificates: Certificates) -> None:
    """A broker's plain port answers the TLS greeting with its protocol header."""

    async def plain(connection: FakeConnection) -> None:
        await connection.stream.receive_some()
        await connection.send(peer.GREETING)
        await connection.until_hangup()

    async with fake_broker(plain) as endpoint:
        tls = tls_settings({"ca_certs": str(certificates.ca)})
        error = await failure(endpoint.but(tls=tls, scheme="amqps"))
    assert type(error) is HandshakeFailed
    assert "doesn't speak TLS" in str(error)
