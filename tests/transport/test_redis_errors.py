"""What the server's refusals mean, taken from a server that refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from amqp import exceptions as amqp_errors

from kombu_actors.errors import ConnectionBlocked, ConnectionLost, InconsistencyError, OperationalError
from kombu_actors.transport.redis.errors import Consequence, ErrorReply, consequence_of, translate
from tests.support.brokers import RedisNode
from tests.support_redis_server import call, open_test_wire


async def refusal(node: RedisNode, *commands: tuple[Any, ...]) -> str:
    """What the last command is refused with; the ones before are obeyed."""
    async with open_test_wire(node.port) as wire:
        for command in commands[:-1]:
            await call(wire, *command)
        with pytest.raises(ErrorReply) as refused:
            await call(wire, *commands[-1])
    assert refused.value.text.startswith(refused.value.code)
    return refused.value.text


def means(text: str, consequence: Consequence, kind: type[Exception], says: str) -> None:
    """The class, the words, and what has to happen."""
    error = translate(text, "to publish to 'orders'")
    assert consequence_of(text) is consequence
    assert type(error) is kind
    assert "Redis refused to publish to 'orders'" in str(error)
    assert says in str(error)
    assert text in str(error)


async def test_a_primary_that_became_a_replica_ends_the_link(
    own_redis: Callable[..., RedisNode], redis_server: RedisNode
) -> None:
    """READONLY: the next dial resolves again."""
    node = own_redis()
    text = await refusal(node, ("REPLICAOF", "127.0.0.1", redis_server.port), ("LPUSH", "q", "1"))
    means(text, Consequence.LINK_DIES, ConnectionLost, "replica")


async def test_full_memory_blocks(own_redis: Callable[..., RedisNode]) -> None:
    """OOM: reading and releasing go on."""
    node = own_redis(conf=["maxmemory 1", "maxmemory-policy noeviction"])
    means(await refusal(node, ("LPUSH", "q", "1")), Consequence.BLOCKED, ConnectionBlocked, "memory")


async def test_too_few_replicas_block(own_redis: Callable[..., RedisNode]) -> None:
    """NOREPLICAS."""
    node = own_redis(conf=["min-replicas-to-write 1"])
    means(await refusal(node, ("LPUSH", "q", "1")), Consequence.BLOCKED, ConnectionBlocked, "replicas")


async def test_a_script_that_runs_for_too_long_blocks(own_redis: Callable[..., RedisNode]) -> None:
    """BUSY, until somebody kills it."""
    node = own_redis(conf=["lua-time-limit 1"])
    async with open_test_wire(node.port) as runner, trio.open_nursery() as nursery:

        async def run() -> None:
            with pytest.raises(ErrorReply, match="Script killed"):
                await call(runner, "EVAL", "while true do end", 0)

        async with open_test_wire(node.port) as other:
            nursery.start_soon(run)
            text = ""
            with trio.fail_after(5):
                while not text:
                    try:
                        await call(other, "LPUSH", "q", "1")
                    except ErrorReply as error:
                        text = error.text
            await call(other, "SCRIPT", "KILL")
    means(text, Consequence.BLOCKED, ConnectionBlocked, "SCRIPT KILL")


async def test_scripts_that_are_gone_are_loaded_again(redis_server: RedisNode) -> None:
    """NOSCRIPT: a restart or SCRIPT FLUSH forgets them; the call did nothing."""
    text = await refusal(redis_server, ("EVALSHA", "0" * 40, 0))
    means(text, Consequence.RELOAD, InconsistencyError, "scripts")


async def test_a_missing_permission_is_access_refused(own_redis: Callable[..., RedisNode]) -> None:
    """NOPERM names the command."""
    node = own_redis(conf=["user default on nopass +@all -lpush ~* &*"])
    text = await refusal(node, ("LPUSH", "q", "1"))
    error = translate(text, "to publish")
    assert isinstance(error, amqp_errors.AccessRefused)
    assert error.reply_code == 403
    assert "'lpush'" in str(error)
    assert consequence_of(text) is Consequence.NONE


async def test_a_key_of_another_type_is_a_failed_precondition(redis_url: str, redis_server: RedisNode) -> None:
    """WRONGTYPE: somebody uses a queue's name for something else."""
    text = await refusal(redis_server, ("SET", "q", "1"), ("LPUSH", "q", "1"))
    error = translate(text, "to publish to 'q'")
    assert isinstance(error, amqp_errors.PreconditionFailed)
    assert error.reply_code == 406


async def test_a_cluster_node_ends_the_link(own_redis: Callable[..., RedisNode]) -> None:
    """CLUSTERDOWN, MOVED: not where we wanted to be."""
    node = own_redis(cluster=True)
    means(await refusal(node, ("LPUSH", "q", "1")), Consequence.LINK_DIES, ConnectionLost, "cluster")
    means("MOVED 3999 127.0.0.1:6381", Consequence.LINK_DIES, ConnectionLost, "cluster")


@pytest.mark.parametrize("code", ["MASTERDOWN", "LOADING", "NOAUTH"])
def test_a_server_that_is_not_ready_ends_the_link(code: str) -> None:
    """The next dial finds out what it is."""
    means(f"{code} because", Consequence.LINK_DIES, ConnectionLost, "")


def test_a_fenced_link_is_a_lost_connection() -> None:
    """Our own scripts' word: another took us for dead."""
    text = "FENCED 0123"
    assert consequence_of(text) is Consequence.LINK_DIES
    assert isinstance(translate(text, "to publish"), ConnectionLost)


def test_a_disk_that_is_full_blocks() -> None:
    """MISCONF."""
    means("MISCONF Redis is configured to save RDB snapshots", Consequence.BLOCKED, ConnectionBlocked, "disk")


async def test_a_command_that_the_server_does_not_have_is_access_refused(own_redis: Callable[..., RedisNode]) -> None:
    """``rename-command``: named, and nothing of what it was to do is repeated."""
    node = own_redis(conf=['rename-command LPUSH ""'])
    text = await refusal(node, ("LPUSH", "q", "s3cret"))
    error = translate(text, "to publish")
    assert isinstance(error, amqp_errors.AccessRefused)
    assert "LPUSH" in str(error)
    assert "s3cret" in text
    assert "s3cret" not in str(error)


REFUSED_BY_SCRIPT = "local call = redis.call {} call('LPUSH', 'q', 'm')"


@pytest.mark.parametrize(
    ("before", "after", "consequence"),
    [
        (("CONFIG", "SET", "maxmemory", 1), "", Consequence.BLOCKED),
        (("CONFIG", "SET", "min-replicas-to-write", 1), "", Consequence.BLOCKED),
        (("REPLICAOF", "127.0.0.1", 1), "", Consequence.LINK_DIES),
        (("SET", "q", "text"), "", Consequence.NONE),
        (("CONFIG", "SET", "maxmemory", 1), "local good, why = pcall(call, 'SET', 'a', 'b')", Consequence.BLOCKED),
    ],
    ids=["no memory", "no replicas", "replica", "another type", "caught before"],
)
async def test_what_a_script_meets_is_understood_as_what_a_command_meets(
    own_redis: Callable[..., RedisNode], before: tuple[Any, ...], after: str, consequence: Consequence
) -> None:
    """Each version says something else around it; the first word is the same."""
    node = own_redis()
    text = await refusal(node, before, ("EVAL", REFUSED_BY_SCRIPT.format(after), 0))
    assert consequence_of(text) is consequence
    assert text.partition(" ")[0] in ("OOM", "NOREPLICAS", "READONLY", "WRONGTYPE")


@pytest.mark.parametrize("text", ["ERR syntax error", "UNBLOCKED client unblocked via CLIENT UNBLOCK", "X"])
def test_anything_else_is_just_an_error(text: str) -> None:
    """The command failed; the link goes on."""
    means(text, Consequence.NONE, OperationalError, "")
