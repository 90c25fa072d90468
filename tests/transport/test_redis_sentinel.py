"""Dialling by way of a Sentinel: the primary of the moment, and clear words when there is none."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from amqp import exceptions as amqp_errors

from kombu_actors._values.endpoint import LinkOptions, parse_url
from kombu_actors._values.tls_settings import tls_settings
from kombu_actors.errors import BrokerUnreachable, HandshakeFailed, InvalidURL
from kombu_actors.transport.redis.dial import OpenedWire, open_wire
from tests.support.brokers import RedisNode, SentinelGroup, free_port, start_sentinel_group
from tests.support.certs import Certificates
from tests.support_redis_server import FakeClient, Script, fake_redis

SECRET = "canary-secret"


@pytest.fixture(scope="module")
def group(node_directory: Path) -> Iterator[SentinelGroup]:
    """A group that this module's tests leave as it is."""
    group = start_sentinel_group(Path(tempfile.mkdtemp(prefix="group-", dir=node_directory)), sentinels=2)
    try:
        group.wait_ready()
        yield group
    finally:
        group.close()


async def find(url: str, *, tls: Any = None, timeout: float = 5.0, **given: Any) -> OpenedWire:
    """Open a wire and drop it."""
    options = LinkOptions(connect_timeout=timeout, transport_options={"master_name": "tests", **given})
    found = await open_wire(parse_url(url, tls=tls_settings(tls)), options, role="main")
    found.wire.kill(ConnectionError("seen"))
    return found


async def failure(url: str, **given: Any) -> BaseException:
    """Try to; the error shows no password, nor does what led to it."""
    with pytest.raises(Exception) as caught:
        await find(url, **given)
    unseen: list[BaseException | None] = [caught.value]
    while unseen:
        error = unseen.pop()
        if error is not None:
            assert SECRET not in repr(error) + str(error)
            unseen += [error.__cause__, error.__context__]
    return caught.value


def watching(name: str, node: RedisNode, *more: str, port: int | None = None) -> dict[str, Any]:
    """The arguments of a sentinel that watches one server."""
    return {"sentinel": True, "conf": [f"sentinel monitor {name} 127.0.0.1 {port or node.port} 1", *more]}


async def test_any_sentinel_leads_to_the_primary(group: SentinelGroup) -> None:
    """With the database of the URL."""
    for sentinel in group.sentinels:
        found = await find(f"sentinel://127.0.0.1:{sentinel.port}/3", min_other_sentinels=1)
        assert (found.host, found.port) == ("127.0.0.1", group.primary.port)
        assert found.wire.name == f"127.0.0.1:{group.primary.port}"


async def test_a_group_that_the_sentinel_does_not_know_is_named(group: SentinelGroup) -> None:
    """Another sentinel may know it."""
    error = await failure(f"sentinel://127.0.0.1:{group.sentinels[0].port}", master_name="nobody")
    assert type(error) is BrokerUnreachable
    assert "watches no primary named 'nobody' (option master_name)" in str(error)


async def test_a_group_without_a_name_is_an_error_before_anything_is_dialled() -> None:
    """kombu's rule; no sentinel listens there."""
    error = await failure("sentinel://127.0.0.1:1", master_name=None)
    assert isinstance(error, InvalidURL)
    assert "master_name" in str(error)


async def test_a_sentinel_that_sees_too_few_others_is_not_believed(group: SentinelGroup) -> None:
    """``min_other_sentinels``: it may be the one that is cut off."""
    error = await failure(f"sentinel://127.0.0.1:{group.sentinels[0].port}", min_other_sentinels=2)
    assert type(error) is BrokerUnreachable
    assert "sees 1 other sentinels; min_other_sentinels asks for 2" in str(error)


async def test_the_sentinels_have_credentials_of_their_own(own_redis: Callable[..., RedisNode]) -> None:
    """Those of the URL are the server's; neither is told to the other."""
    node = own_redis(conf=[f"requirepass {SECRET}-server"])
    sentinel = own_redis(
        **watching("tests", node, f"sentinel auth-pass tests {SECRET}-server", f"requirepass {SECRET}-sentinel")
    )
    url = f"sentinel://:{SECRET}-server@127.0.0.1:{sentinel.port}"
    found = await find(url, sentinel_kwargs={"password": f"{SECRET}-sentinel"})
    assert found.port == node.port
    for wrong, text in (({}, "sentinel_kwargs"), ({"password": f"{SECRET}-server"}, "wrong password")):
        error = await failure(url, sentinel_kwargs=wrong)
        assert isinstance(error, amqp_errors.AccessRefused)
        assert f"127.0.0.1:{sentinel.port}" in str(error)
        assert text in str(error)
    error = await failure(f"sentinel://127.0.0.1:{sentinel.port}", sentinel_kwargs={"password": f"{SECRET}-sentinel"})
    assert isinstance(error, amqp_errors.AccessRefused)
    assert f"127.0.0.1:{node.port} wants a password" in str(error)


async def test_an_acl_user_of_the_sentinel_needs_but_two_commands(
    own_redis: Callable[..., RedisNode], redis_server: RedisNode
) -> None:
    """Even one: what ``SENTINEL MASTER`` would tell is done without."""
    permissions = "-@all +sentinel|get-master-addr-by-name"
    sentinel = own_redis(**watching("tests", redis_server, f"user asker on >{SECRET} {permissions}"))
    found = await find(
        f"sentinel://127.0.0.1:{sentinel.port}", sentinel_kwargs={"username": "asker", "password": SECRET}
    )
    assert found.port == redis_server.port


async def test_a_password_for_a_sentinel_that_has_none_is_said(group: SentinelGroup) -> None:
    """A mistake in the settings, told before it hides another."""
    error = await failure(f"sentinel://127.0.0.1:{group.sentinels[0].port}", sentinel_kwargs={"password": SECRET})
    assert isinstance(error, amqp_errors.AccessRefused)
    assert "has no password, but one was given" in str(error)


async def test_tls_for_the_sentinels_and_for_the_server_are_two_things(
    own_redis: Callable[..., RedisNode], certificates: Certificates, redis_server: RedisNode
) -> None:
    """``ssl`` in sentinel_kwargs, and ``ssl=`` for the server, each verified."""
    sentinel = own_redis(**watching("tests", redis_server), tls=certificates)
    ca = {"ssl_ca_certs": str(certificates.ca)}
    assert (await find(sentinel_url(sentinel), sentinel_kwargs={"ssl": True, **ca})).port == redis_server.port
    assert (await find(sentinel_url(sentinel), sentinel_kwargs={"ssl": ca})).port == redis_server.port
    error = await failure(sentinel_url(sentinel), sentinel_kwargs={"ssl": True})
    assert type(error) is HandshakeFailed
    assert "ca_certs" in str(error)

    secured = own_redis(**watching("tests", redis_server, port=redis_server.tls_port))
    found = await find(f"sentinel://127.0.0.1:{secured.port}", tls=ca)
    assert found.port == redis_server.tls_port
    error = await failure(f"sentinel://127.0.0.1:{secured.port}", tls=True)
    assert type(error) is HandshakeFailed
    assert f"127.0.0.1:{redis_server.tls_port}" in str(error)


def sentinel_url(sentinel: RedisNode) -> str:
    return f"sentinel://localhost:{sentinel.tls_port}"


async def test_a_server_that_is_no_sentinel_is_told_apart(redis_server: RedisNode) -> None:
    """The URL's scheme is wrong, or its port."""
    error = await failure(f"sentinel://127.0.0.1:{redis_server.port}")
    assert type(error) is HandshakeFailed
    assert "is a Redis server, not a Sentinel" in str(error)


async def test_a_sentinel_that_is_no_server_is_told_apart(group: SentinelGroup) -> None:
    """The other way round."""
    error = await failure(f"redis://127.0.0.1:{group.sentinels[0].port}")
    assert type(error) is HandshakeFailed
    assert "is a Sentinel, not a server: use sentinel://" in str(error)


def telling(*replies: bytes) -> Script:
    async def script(client: FakeClient) -> None:
        with suppress(EOFError):
            await client.answer(*replies)
        await client.until_hangup()

    return script


def texts(*words: str) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word.encode()) for word in words)


async def test_a_primary_held_for_dead_is_not_dialled(group: SentinelGroup) -> None:
    """It would cost connect_timeout if it hangs; but a new primary that is named already is."""
    port = str(free_port())
    dead = texts("ip", "127.0.0.1", "port", port, "flags", "master,s_down,o_down", "num-other-sentinels", "2")
    async with fake_redis(telling(texts("127.0.0.1", port), dead)) as sentinel:
        error = await failure(f"sentinel://127.0.0.1:{sentinel}")
    assert type(error) is BrokerUnreachable
    assert f"holds the primary 127.0.0.1:{port} for dead" in str(error)
    async with fake_redis(telling(texts("127.0.0.1", str(group.primary.port)), dead)) as sentinel:
        assert (await find(f"sentinel://127.0.0.1:{sentinel}")).port == group.primary.port


async def test_a_replica_named_as_primary_is_refused_by_both_names(group: SentinelGroup) -> None:
    """A sentinel may be behind: ask again, or another."""
    replica = group.replicas[0].port
    async with fake_redis(telling(texts("127.0.0.1", str(replica)), texts())) as sentinel:
        error = await failure(f"sentinel://127.0.0.1:{sentinel}")
    assert type(error) is BrokerUnreachable
    assert f"127.0.0.1:{replica} is a replica" in str(error)
    assert f"the primary by the sentinel 127.0.0.1:{sentinel}" in str(error)


@pytest.mark.parametrize(
    "replies",
    [
        (b":1\r\n", b":1\r\n"),
        (texts("127.0.0.1"), texts()),
        (texts("127.0.0.1", "many"), texts()),
        (texts("127.0.0.1", "1"), texts("num-other-sentinels", "many")),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n",),
        (),
    ],
)
async def test_what_answers_unlike_a_sentinel_is_no_sentinel(replies: tuple[bytes, ...]) -> None:
    """Named, and within the time for connecting."""

    async def script(client: FakeClient) -> None:
        await client.answer(*replies)

    async with fake_redis(script) as sentinel:
        error = await failure(f"sentinel://:{SECRET}@127.0.0.1:{sentinel}", timeout=1.0)
    assert type(error) is HandshakeFailed
    assert f"127.0.0.1:{sentinel}" in str(error)


async def test_a_silent_sentinel_is_given_up_in_time() -> None:
    """One deadline for sentinel and server together."""

    async def script(client: FakeClient) -> None:
        await client.until_hangup()

    async with fake_redis(script) as sentinel:
        began = trio.current_time()
        error = await failure(f"sentinel://127.0.0.1:{sentinel}", timeout=0.3)
        assert trio.current_time() - began < 2
    assert f"127.0.0.1:{sentinel} did not answer within 0.3 s (asking the sentinel)" in str(error)


@pytest.mark.slow
async def test_after_a_failover_the_sentinels_lead_to_the_new_primary(node_directory: Path) -> None:
    """Dialled again and again while the primary is dead: only clear refusals, and then the new one."""
    group = start_sentinel_group(Path(tempfile.mkdtemp(prefix="group-", dir=node_directory)))
    try:
        group.wait_ready()
        url = f"sentinel://127.0.0.1:{group.sentinels[0].port}"
        assert (await find(url)).port == group.primary.port
        group.primary.kill9()
        refusals: set[str] = set()
        with trio.fail_after(30):
            while True:
                try:
                    found = await find(url)
                    break
                except BrokerUnreachable as error:
                    refusals.add(str(error))
                    await trio.sleep(0.05)
        assert found.port == group.replicas[0].port
        assert refusals
        for refusal in refusals:
            assert "by the sentinel" in refusal or "for dead" in refusal
    finally:
        group.close()
