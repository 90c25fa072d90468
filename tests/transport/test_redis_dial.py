"""Dialling Redis: what works, and for everything that can't, which words say what failed, where, and what to do."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
import trio.testing
from amqp import exceptions as amqp_errors

from kombu_actors._values.endpoint import Endpoint, LinkOptions, parse_url
from kombu_actors._values.tls_settings import tls_settings
from kombu_actors.errors import BrokerUnreachable, HandshakeFailed, InvalidURL
from kombu_actors.transport.redis.dial import OpenedWire, open_wire
from kombu_actors.transport.redis.options import pulse_interval
from tests.support.brokers import RedisNode
from tests.support.certs import Certificates
from tests.support.proxy import Direction, FaultProxy
from tests.support_redis_server import FakeClient, Script, call, fake_redis, hello

SECRET = "canary-secret"


def options(*, connect_timeout: float = 5.0, **transport_options: Any) -> LinkOptions:
    return LinkOptions(connect_timeout=connect_timeout, transport_options=transport_options)


@asynccontextmanager
async def opened(url: str, *, tls: Any = None, **given: Any) -> AsyncIterator[OpenedWire]:
    """Open a wire and serve it while the block runs."""
    found = await open_wire(parse_url(url, tls=tls_settings(tls)), options(**given), role="main")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(found.wire.run_reader)
        nursery.start_soon(found.wire.run_writer)
        try:
            yield found
        finally:
            found.wire.kill(ConnectionError("the test is over"))


async def failure(url: str, *, tls: Any = None, **given: Any) -> BaseException:
    """Try to open a wire; return the error, which must not show the password, nor must what led to it."""
    with pytest.raises(Exception) as caught:
        await open_wire(parse_url(url, tls=tls_settings(tls)), options(**given), role="main")
    unseen: list[BaseException | None] = [caught.value]
    while unseen:
        error = unseen.pop()
        if error is not None:
            assert SECRET not in repr(error) + str(error)
            unseen += [error.__cause__, error.__context__]
    return caught.value


async def failure_against(script: Script, *, userinfo: str = "", path: str = "", **given: Any) -> BaseException:
    """The same, against a scripted server."""
    async with fake_redis(script) as port:
        error = await failure(f"redis://{userinfo}127.0.0.1:{port}{path}", **given)
        assert f"127.0.0.1:{port}" in str(error)
    return error


def answering(*replies: bytes, hang_up: bool = False) -> Script:
    """Take a command for each reply; afterwards hang up, or wait until the client does."""

    async def script(client: FakeClient) -> None:
        await client.answer(*replies)
        if not hang_up:
            await client.until_hangup()

    return script


# -- what works --------------------------------------------------------------------------------


async def test_a_wire_is_logged_in_named_and_on_its_database(redis_server: RedisNode, redis_url: str) -> None:
    """RESP3, the database of the URL, our name in CLIENT LIST, and who the server is."""
    url = redis_server.url(db=3)
    async with opened(url) as found:
        listed = await call(found.wire, "CLIENT", "LIST", "ID", found.server.client_id)
        info = await call(found.wire, "INFO", "server")
        await call(found.wire, "SET", "here", "1")
    assert f"id={found.server.client_id} ".encode() in listed
    assert b" name=kombu_actors:main " in listed
    assert b" db=3 " in listed
    assert b" resp=3" in listed
    assert f"run_id:{found.server.run_id}".encode() in info
    assert f"redis_version:{found.server.version}".encode() in info
    assert (found.host, found.port) == ("127.0.0.1", redis_server.port)
    async with opened(redis_server.url(db=0)) as other:
        assert await call(other.wire, "EXISTS", "here") == 0


async def test_the_name_is_the_option_where_one_is_given(redis_server: RedisNode) -> None:
    """kombu's client_name."""
    async with opened(redis_server.url(), client_name="billing") as found:
        assert await call(found.wire, "CLIENT", "GETNAME") == b"billing"


@pytest.mark.parametrize("query", ["", "?virtual_host=2", "?db=2"])
async def test_a_unix_socket_is_dialled_by_its_path(redis_server: RedisNode, query: str) -> None:
    """kombu's redis+socket://, with the database in the query."""
    async with opened(f"redis+socket://{redis_server.socket_path}{query}") as found:
        listed = await call(found.wire, "CLIENT", "LIST", "ID", found.server.client_id)
    assert (b" db=2 " if query else b" db=0 ") in listed
    assert found.wire.name == str(redis_server.socket_path)


async def test_tls_is_verified_with_the_authority_named(redis_server: RedisNode, certificates: Certificates) -> None:
    """rediss:// with ca_certs, by host name."""
    async with opened(redis_server.tls_url(db=1), tls={"ca_certs": str(certificates.ca)}) as found:
        assert await call(found.wire, "PING") == b"PONG"


@pytest.mark.parametrize("userinfo", [f":{SECRET}@", f"default:{SECRET}@", f"worker:{SECRET}@", "guest@"])
async def test_users_and_passwords_open_the_door(own_redis: Callable[..., RedisNode], userinfo: str) -> None:
    """requirepass, the default user by name, an ACL user, and one that needs no password."""
    node = own_redis(
        conf=[f"requirepass {SECRET}", f"user worker on >{SECRET} +@all ~* &*", "user guest on nopass +@all ~* &*"]
    )
    async with opened(f"redis://{userinfo}127.0.0.1:{node.port}") as found:
        user = await call(found.wire, "ACL", "WHOAMI")
    assert user.decode() == (userinfo.partition(":")[0].strip("@") or "default")


async def test_few_permissions_are_enough(own_redis: Callable[..., RedisNode]) -> None:
    """HELLO needs none; without INFO the run isn't known, without PING there is no harm."""
    node = own_redis(conf=[f"user least on >{SECRET} resetchannels -@all +select"])
    async with opened(f"redis://least:{SECRET}@127.0.0.1:{node.port}/1") as found:
        assert found.server.run_id == ""
        assert found.server.client_id > 0


@pytest.mark.parametrize("wanted", [None, True, False])
async def test_keepalive_is_as_asked(redis_server: RedisNode, wanted: bool | None) -> None:
    """On unless turned off, with TCP's options, by number or by name."""
    given: dict[str, Any] = {} if wanted is None else {"socket_keepalive": wanted}
    keepalive = {trio.socket.TCP_KEEPIDLE: 61, "TCP_KEEPCNT": 3}
    async with opened(redis_server.url(), socket_keepalive_options=keepalive, **given) as found:
        sock = found.wire._stream.socket
        assert sock.getsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_KEEPALIVE) == (wanted is not False)
        assert sock.getsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_KEEPIDLE) == 61
        assert sock.getsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_KEEPCNT) == 3


async def test_a_second_wire_goes_where_the_first_one_went(redis_server: RedisNode) -> None:
    """``at`` wins over the URL: the server that a Sentinel names may change between two dials."""
    endpoint = parse_url("sentinel://nobody.invalid/1")
    found = await open_wire(
        endpoint, options(master_name="tests"), role="listener", at=("127.0.0.1", redis_server.port)
    )
    found.wire.kill(ConnectionError("seen"))
    assert found.port == redis_server.port


@pytest.mark.parametrize(
    ("heartbeat", "given", "expected"),
    [
        (15, {}, 15),
        (15, {"health_check_interval": 5}, 5),
        (15, {"health_check_interval": 0}, 15),
        (15, {"socket_timeout": 4}, 2),
        (0, {}, 0),
        (0, {"health_check_interval": 25}, 25),
    ],
)
def test_the_pulse_is_the_quickest_of_what_was_asked_for(
    heartbeat: float, given: dict[str, Any], expected: float
) -> None:
    """A server that owes an answer for socket_timeout seconds is given up: two intervals."""
    assert pulse_interval(LinkOptions(heartbeat=heartbeat, transport_options=given)) == expected


# -- who is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("userinfo", [f":{SECRET}2@", f"worker:{SECRET}2@", f"nobody:{SECRET}@", f"off:{SECRET}@"])
async def test_wrong_credentials_are_access_refused(own_redis: Callable[..., RedisNode], userinfo: str) -> None:
    """403, naming the user and the server, and showing no password."""
    node = own_redis(
        conf=[f"requirepass {SECRET}", f"user worker on >{SECRET} +@all ~* &*", f"user off off >{SECRET} +@all ~*"]
    )
    error = await failure(f"redis://{userinfo}127.0.0.1:{node.port}")
    assert isinstance(error, amqp_errors.AccessRefused)
    assert error.code == error.reply_code == 403
    name = userinfo.partition(":")[0]
    assert f"127.0.0.1:{node.port} refused {f'user {name!r}' if name else 'the default user'}" in str(error)


async def test_a_forgotten_password_is_access_refused(own_redis: Callable[..., RedisNode]) -> None:
    """And the error shows where it goes."""
    node = own_redis(conf=[f"requirepass {SECRET}"])
    error = await failure(f"redis://127.0.0.1:{node.port}")
    assert isinstance(error, amqp_errors.AccessRefused)
    assert "wants a password" in str(error)
    assert "redis://:password@" in str(error)


async def test_a_database_that_is_not_there_is_not_allowed(redis_server: RedisNode) -> None:
    """530, as RabbitMQ's for a missing virtual host."""
    error = await failure(redis_server.url(db=99))
    assert isinstance(error, amqp_errors.NotAllowed)
    assert error.reply_code == 530
    assert "no database 99" in str(error)


async def test_a_database_one_may_not_select_is_access_refused(own_redis: Callable[..., RedisNode]) -> None:
    """NOPERM names the command and the user."""
    node = own_redis(conf=[f"user half on >{SECRET} +@all -select ~* &*"])
    error = await failure(f"redis://half:{SECRET}@127.0.0.1:{node.port}/2")
    assert isinstance(error, amqp_errors.AccessRefused)
    assert "user 'half' may not SELECT database 2" in str(error)


# -- what is no server for us ------------------------------------------------------------------


async def test_a_cluster_is_refused_where_keys_are_in_many_slots(own_redis: Callable[..., RedisNode]) -> None:
    """With what puts them into one, and what to use instead."""
    node = own_redis(cluster=True)
    error = await failure(node.url())
    assert type(error) is HandshakeFailed
    assert "Redis Cluster" in str(error)
    assert "sentinel://" in str(error)
    assert "global_keyprefix" in str(error)


async def test_a_replica_is_unreachable_so_that_another_is_tried(
    own_redis: Callable[..., RedisNode], redis_server: RedisNode
) -> None:
    """Not for good: it may be the primary tomorrow, or the next URL is."""
    node = own_redis(conf=[f"replicaof 127.0.0.1 {redis_server.port}"])
    error = await failure(node.url())
    assert type(error) is BrokerUnreachable
    assert f"127.0.0.1:{node.port} is a replica" in str(error)


OTHER_SERVERS: dict[str, tuple[tuple[bytes, ...], type[BaseException], str]] = {
    "Redis 5, which repeats the password": (
        (f"-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `{SECRET}`\r\n".encode(),),
        HandshakeFailed,
        "6.2 or newer",
    ),
    "Redis 6.0": ((hello(version="6.0.16"), b"+PONG\r\n", b"$0\r\n\r\n"), HandshakeFailed, "is Redis 6.0.16"),
    "RESP2 only": ((b"-NOPROTO unsupported protocol version\r\n",), HandshakeFailed, "RESP3"),
    "an answer of RESP2": ((b"*0\r\n",), HandshakeFailed, "not version 3"),
    "an echo server": ((b"$13\r\n" + SECRET.encode() + b"\r\n",), HandshakeFailed, "not version 3"),
    "a Sentinel": ((hello(mode="sentinel"),), HandshakeFailed, "use sentinel://"),
    "loading": (
        (hello(), b"-LOADING Redis is loading the dataset in memory\r\n", b"$0\r\n\r\n"),
        BrokerUnreachable,
        "not ready yet: LOADING",
    ),
    "a replica without its primary": (
        (hello(), b"-MASTERDOWN Link with MASTER is down\r\n", b"$0\r\n\r\n"),
        BrokerUnreachable,
        "MASTERDOWN",
    ),
    "full": ((b"-ERR max number of clients reached\r\n",), BrokerUnreachable, "max number of clients"),
    "in protected mode": (
        (b"-DENIED Redis is running in protected mode because ...\r\n",),
        amqp_errors.AccessRefused,
        "protected mode",
    ),
    "repeating the password in an error": (
        (f"-ERR what is {SECRET}?\r\n".encode(),),
        BrokerUnreachable,
        "what is **?",
    ),
}


@pytest.mark.parametrize("hangs_up", [False, True])
@pytest.mark.parametrize("case", OTHER_SERVERS)
async def test_a_server_that_will_not_do_is_told_apart(case: str, hangs_up: bool) -> None:
    """By its answer to HELLO, whether or not it hangs up after that."""
    replies, kind, text = OTHER_SERVERS[case]
    script = answering(*replies, hang_up=hangs_up)
    error = await failure_against(script, userinfo=f":{SECRET}@")
    assert type(error) is kind
    assert text in str(error)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", "HTTP server"),
        (b"AMQP\x00\x00\x09\x01", "RabbitMQ"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "TLS alert: use rediss://"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
        (b"*1000000000\r\n", "million elements"),
        (b"", "closed the connection during the handshake"),
    ],
)
async def test_what_is_no_redis_at_all_is_named(data: bytes, text: str) -> None:
    """A wrong port is the most common mistake."""

    async def script(client: FakeClient) -> None:
        await client.command()
        await client.send(data)

    error = await failure_against(script)
    assert type(error) is HandshakeFailed
    assert text in str(error)


async def test_a_mail_server_that_repeats_everything_does_not_betray_the_password() -> None:
    """It answers each line with the line."""

    async def script(client: FakeClient) -> None:
        await client.send(b"+OK POP3 ready\r\n")
        for line in (await client.stream.receive_some()).split(b"\r\n"):
            await client.send(b"-ERR unknown: " + line + b"\r\n")
        await client.until_hangup()

    error = await failure_against(script, userinfo=f"user:{SECRET}@")
    assert type(error) is HandshakeFailed


async def test_rabbitmq_is_recognized(rabbitmq: Any) -> None:
    """The real one."""
    error = await failure(f"redis://:{SECRET}@127.0.0.1:{rabbitmq.port}")
    assert type(error) is HandshakeFailed
    assert "is this RabbitMQ? then the URL begins with amqp://" in str(error)


# -- TLS ---------------------------------------------------------------------------------------


async def test_an_unknown_authority_is_not_trusted(redis_server: RedisNode) -> None:
    """rediss:// verifies, unlike kombu's."""
    error = await failure(redis_server.tls_url())
    assert type(error) is HandshakeFailed
    assert "ca_certs" in str(error)


async def test_a_certificate_for_another_name_is_not_trusted(
    redis_server: RedisNode, certificates: Certificates
) -> None:
    """The name dialled counts; check_hostname=False is what turns that off."""
    ca = str(certificates.ca)
    wrong = {"ca_certs": ca, "server_hostname": "elsewhere.invalid"}
    error = await failure(redis_server.tls_url(), tls=wrong)
    assert type(error) is HandshakeFailed
    assert "elsewhere.invalid" in str(error)
    async with opened(redis_server.tls_url(), tls={**wrong, "check_hostname": False}) as found:
        assert found.wire.closed is None


async def test_a_tls_port_dialled_without_tls_is_named(redis_server: RedisNode) -> None:
    """Redis just hangs up."""
    error = await failure(f"redis://:{SECRET}@localhost:{redis_server.tls_port}")
    assert type(error) is HandshakeFailed
    assert "rediss://" in str(error)


async def test_a_plain_port_dialled_with_tls_is_named(redis_server: RedisNode) -> None:
    """Redis waits for the end of a line that never comes."""
    error = await failure(f"rediss://localhost:{redis_server.port}", connect_timeout=0.5)
    assert isinstance(error, BrokerUnreachable)
    assert "TLS" in str(error)


async def test_a_missing_client_certificate_is_named(
    own_redis: Callable[..., RedisNode], certificates: Certificates
) -> None:
    """With TLS 1.3 the refusal comes after our side of the handshake is done."""
    node = own_redis(tls=certificates, require_client_certificate=True)
    ca = str(certificates.ca)
    error = await failure(node.tls_url(), tls={"ca_certs": ca})
    assert type(error) is HandshakeFailed
    assert "client certificate" in str(error)
    shown = {"certfile": str(certificates.client.certificate), "keyfile": str(certificates.client.key)}
    async with opened(node.tls_url(), tls={"ca_certs": ca, **shown, "cert_reqs": ssl.CERT_REQUIRED}) as found:
        assert found.wire.closed is None


# -- nobody there ------------------------------------------------------------------------------


async def test_a_refused_port_is_unreachable_by_name() -> None:
    """Host, port and the operating system's reason."""
    with trio.socket.socket() as closed:
        await closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        error = await failure(f"redis://:{SECRET}@127.0.0.1:{port}")
    assert type(error) is BrokerUnreachable
    assert f"127.0.0.1:{port}: Connection refused" in str(error)


async def test_a_socket_file_that_is_not_there_is_unreachable_by_name(redis_server: RedisNode) -> None:
    """Or isn't a socket."""
    missing = redis_server.socket_path.with_name("missing")
    error = await failure(f"redis+socket://:{SECRET}@{missing}")
    assert type(error) is BrokerUnreachable
    assert f"can't reach {missing}: No such file" in str(error)
    no_socket = redis_server.socket_path.with_name("redis.conf")
    assert type(await failure(f"redis+socket://{no_socket}")) is BrokerUnreachable


@pytest.mark.parametrize("fault", ["hang", "blackhole", "silent"])
@pytest.mark.parametrize("how", ["connect_timeout", "socket_connect_timeout"])
async def test_a_peer_that_does_not_answer_is_given_up_in_time(
    redis_server: RedisNode, fault_proxy: Callable[[int], FaultProxy], fault: str, how: str
) -> None:
    """One deadline for all of it; ``socket_connect_timeout`` wins where it is given."""
    proxy = fault_proxy(redis_server.port)
    if fault == "silent":
        proxy.discard(Direction.DOWN)
    else:
        getattr(proxy, fault)()
    given = {"connect_timeout": 0.3} if how == "connect_timeout" else {"socket_connect_timeout": 0.3}
    began = trio.current_time()
    error = await failure(redis_server.url(port=proxy.port), **given)
    assert 0.25 < trio.current_time() - began < 2
    assert type(error) is BrokerUnreachable
    assert f"127.0.0.1:{proxy.port} did not answer within 0.3 s (Redis handshake)" in str(error)


async def test_a_cancelled_or_failed_attempt_leaves_no_socket() -> None:
    """Cut off at its every checkpoint: the server sees the end of each connection it got."""
    open_now = 0

    async def script(client: FakeClient) -> None:
        nonlocal open_now
        open_now += 1
        try:
            await client.answer(hello())
            await trio.testing.wait_all_tasks_blocked()
            with suppress(EOFError):
                await client.answer(b"+PONG\r\n", b"$0\r\n\r\n")
            await client.until_hangup()
        finally:
            open_now -= 1

    async with fake_redis(script) as port:
        endpoint = parse_url(f"redis://127.0.0.1:{port}")
        finished, at = False, 0
        while not finished:
            at += 1
            steps = 0

            class Cuts(trio.abc.Instrument):
                task: trio.lowlevel.Task | None = None

                def after_task_step(self, task: trio.lowlevel.Task) -> None:
                    nonlocal steps
                    if task is self.task:
                        steps += 1
                        if steps == at:  # noqa: B023
                            scope.cancel()

            instrument = Cuts()
            trio.lowlevel.add_instrument(instrument)
            with trio.CancelScope() as scope:
                instrument.task = trio.lowlevel.current_task()
                found = await open_wire(endpoint, options(), role="main")
                finished = True
                found.wire.kill(ConnectionError("enough"))
            instrument.task = None
            trio.lowlevel.remove_instrument(instrument)
            with trio.fail_after(5):
                while open_now:
                    await trio.testing.wait_all_tasks_blocked()
    assert at > 3  # it was cut while connecting, at HELLO, and at what is asked then


# -- options -----------------------------------------------------------------------------------

BAD_OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "a name with a space": ({"client_name": "a b"}, "client_name"),
    "a timeout that is text": ({"socket_timeout": "5"}, "socket_timeout"),
    "a negative timeout": ({"socket_connect_timeout": -1}, "socket_connect_timeout"),
    "keepalive options that are none": ({"socket_keepalive_options": {"TCP_NONSENSE": 1}}, "socket_keepalive_options"),
    "keepalive options as a list": ({"socket_keepalive_options": [1]}, "socket_keepalive_options"),
    "keepalive options unknown to the kernel": ({"socket_keepalive_options": {9999: 1}}, "socket_keepalive_options"),
    "keepalive that is text": ({"socket_keepalive": "yes"}, "socket_keepalive"),
    "a misspelt sentinel argument": ({"sentinel_kwargs": {"passwort": SECRET}}, "did you mean password"),
    "sentinel arguments as text": ({"sentinel_kwargs": SECRET}, "sentinel_kwargs"),
    "a wrong TLS option for sentinels": ({"sentinel_kwargs": {"ssl_cert_reqs": "maybe"}}, "sentinel_kwargs"),
    "a group without a name": ({"master_name": ""}, "master_name"),
    "a negative number of sentinels": ({"min_other_sentinels": -1}, "min_other_sentinels"),
}


@pytest.mark.parametrize("case", BAD_OPTIONS)
async def test_an_option_that_cannot_be_used_is_named(redis_server: RedisNode, case: str) -> None:
    """``InvalidURL``, a ``ValueError`` that supervision doesn't ask about again."""
    given, text = BAD_OPTIONS[case]
    error = await failure(redis_server.url(), **given)
    assert isinstance(error, InvalidURL)
    assert text in str(error)


def test_passwords_are_no_part_of_what_is_shown() -> None:
    """Of endpoints, link options and what is made of them."""
    from kombu_actors.transport.redis.hello import Introduction
    from kombu_actors.transport.redis.options import DialOptions

    given = {"sentinel_kwargs": {"password": SECRET, "ssl_password": SECRET}}
    shown = [
        LinkOptions(transport_options=given),
        DialOptions.understood(given),
        Endpoint(scheme="redis", password=SECRET),
        Introduction(where="x", name="x", db=0, password=SECRET),
    ]
    assert SECRET not in repr(shown) + "".join(map(str, shown))
