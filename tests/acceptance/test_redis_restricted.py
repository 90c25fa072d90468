"""Redis as services sell it: commands are blocked by ACL, by configuration, or by what stands before the server.

What can be done without is done without; the rest is refused at the connect, by a sentence that says what is missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis
from amqp.exceptions import AccessRefused

from kombu_actors import Connection, Queue
from kombu_actors.errors import HandshakeFailed
from kombu_actors.message import Message
from kombu_actors.protocols.redis.scripts import ALL_SCRIPTS
from tests.protocols.redis.member import Member
from tests.support.brokers import RedisNode
from tests.support.front import RedisFront, refusing
from tests.support.processes import wait_until

MESSAGES = 10
BLOCKED = "This command is not supported by the service: '{}'"
"""How no two services say it the same way."""
BEATS = 3.0
"""Seconds in which everybody has looked after everybody else."""


@pytest.fixture
def stock(own_redis: Callable[..., RedisNode]) -> Iterator[Callable[..., tuple[RedisNode, redis.Redis]]]:
    """Start a server with lines of configuration; with it, a stock client of it."""
    with ExitStack() as clients:

        def start(*conf: str) -> tuple[RedisNode, redis.Redis]:
            node = own_redis(conf=conf)
            return node, clients.enter_context(redis.Redis(port=node.port))

        yield start


def allowed_all_but(command: str) -> str:
    """The line for an ACL."""
    return f"user default on nopass ~* &* +@all -{command}"


def calls(client: redis.Redis, *commands: str) -> int:
    """How often these have been executed."""
    stats = client.info("commandstats")
    return sum(int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"]) for command in commands)


def work(url: str, **options: Any) -> list[float]:
    """Publish, consume, ack, give back and receive again; the seconds from each publish to its delivery."""
    delays: list[float] = []
    with (
        Connection(url, transport_options={"confirm_publish": True, **options}) as connection,
        Connection(url, transport_options=options) as worker,
        worker.Consumer([Queue("q"), Queue("r")], on_message=lambda message: got.append(message)) as _,
    ):
        got: list[Message] = []
        producer = connection.Producer()
        for number in range(MESSAGES):
            began = time.monotonic()
            producer.publish(number, routing_key="qr"[number % 2], priority=number % 10)
            while not got:
                worker.drain_events(timeout=10)
            delays.append(time.monotonic() - began)
            message = got.pop()
            assert message.payload == number
            if number == 0:
                message.requeue()
                while not got:
                    worker.drain_events(timeout=10)
                message = got.pop()
            message.ack()
    return delays


def test_without_client_tracking_arrivals_are_seen_by_looking_ten_times_a_second(
    stock: Callable[..., tuple[RedisNode, redis.Redis]],
) -> None:
    """``CLIENT`` blocked as a whole: messages come within the pause, and idle consumers ask no more often."""
    node, client = stock('rename-command CLIENT ""')
    delays = work(node.url())
    assert sorted(delays)[MESSAGES // 2] < 0.15
    with (
        Connection(node.url()) as idle,
        Connection(node.url()) as other,
        idle.Consumer([Queue("q"), Queue("r")], on_message=lambda message: message.ack()),
        other.Consumer([Queue("q")], on_message=lambda message: message.ack()),
    ):
        before = calls(client, "exists", "evalsha")
        time.sleep(1)
        assert 5 < calls(client, "exists", "evalsha") - before < 35


def test_a_server_that_forgets_what_is_watched_keeps_nobody_busy(
    stock: Callable[..., tuple[RedisNode, redis.Redis]],
) -> None:
    """``tracking-table-max-keys`` below the lists of the queues: idle consumers ask no more often than without
    tracking, and messages come."""
    node, client = stock("tracking-table-max-keys 3")
    with (
        Connection(node.url()) as one,
        Connection(node.url()) as two,
        one.Consumer([Queue("a"), Queue("b")], on_message=lambda message: message.ack()),
        two.Consumer([Queue("c"), Queue("d")], on_message=lambda message: message.ack()),
    ):
        time.sleep(0.5)  # until they have lost their faith
        before = calls(client, "exists", "evalsha")
        time.sleep(1)
        assert calls(client, "exists", "evalsha") - before < 35
    assert max(work(node.url())) < 1


@pytest.mark.parametrize("by", ["configuration", "permission"])
def test_without_script_load_each_script_is_sent_once(
    stock: Callable[..., tuple[RedisNode, redis.Redis]], by: str
) -> None:
    """``SCRIPT`` blocked: the first call of each script over a connection has its text, and all others its name."""
    node, client = stock(*['rename-command SCRIPT ""'] if by == "configuration" else [allowed_all_but("script")])
    work(node.url())
    assert calls(client, "eval") <= 2 * len(ALL_SCRIPTS)
    assert calls(client, "evalsha") > MESSAGES


@pytest.mark.parametrize("by", ["configuration", "permission"])
def test_without_evalsha_scripts_are_sent_each_time(
    stock: Callable[..., tuple[RedisNode, redis.Redis]], by: str
) -> None:
    """``EVALSHA`` blocked, ``EVAL`` not."""
    node, client = stock(*['rename-command EVALSHA ""'] if by == "configuration" else [allowed_all_but("evalsha")])
    work(node.url())
    assert calls(client, "eval") > MESSAGES


def test_scripts_are_loaded_where_who_loads_them_is_not_who_runs_them(redis_server: RedisNode) -> None:
    """``SCRIPT LOAD`` that has no effect (each of several servers keeps its own): scripts are sent with each call."""
    redis_server.flush()
    redis_server.ask("SCRIPT", "FLUSH")

    def elsewhere(command: list[bytes]) -> tuple[str, ...] | None:
        return ("ECHO", "loaded") if command[:2] == [b"SCRIPT", b"LOAD"] else None

    with RedisFront(redis_server.port, elsewhere) as front:
        work(redis_server.url(port=front.port))
    assert front.substituted > 0


def test_where_no_scripts_run_the_connect_says_so(stock: Callable[..., tuple[RedisNode, redis.Redis]]) -> None:
    """``EVALSHA`` and ``EVAL`` blocked: refused at once, with what would have to be allowed, and nothing repeated."""
    node, _ = stock('rename-command EVALSHA ""', 'rename-command EVAL ""')
    with (
        pytest.raises(AccessRefused, match=r"runs no scripts.*\+evalsha \+script\|load.*\+eval") as refused,
        Connection(node.url()) as connection,
    ):
        connection.connect()
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("command", ["lpush", "zadd", "publish", "hincrby", "time", "sunionstore"])
def test_a_command_that_the_scripts_want_and_may_not_use_is_named_at_the_connect(
    stock: Callable[..., tuple[RedisNode, redis.Redis]], command: str
) -> None:
    """By a permission, or by the server's configuration: before there is any message that could get lost."""
    for conf in (allowed_all_but(command), f'rename-command {command.upper()} ""'):
        node, client = stock(conf)
        with (
            pytest.raises(AccessRefused, match=rf"not use {command.upper()}:.*\+{command},"),
            Connection(node.url()) as connection,
        ):
            connection.connect()
        assert client.keys() == []


def test_wait_is_asked_for_at_the_connect_where_it_is_needed(
    stock: Callable[..., tuple[RedisNode, redis.Redis]],
) -> None:
    """``confirm_replicas`` without ``WAIT`` is refused; without the option nobody asks."""
    node, _ = stock('rename-command WAIT ""')
    work(node.url())
    with (
        pytest.raises(AccessRefused, match="WAIT, which confirm_replicas needs"),
        Connection(node.url(), transport_options={"confirm_replicas": 1}) as connection,
    ):
        connection.connect()


def test_where_hello_is_blocked_the_connect_says_so(redis_server: RedisNode) -> None:
    """By a front that speaks an older protocol; whatever its words, nothing that we said is shown."""
    with (
        RedisFront(redis_server.port, refusing("HELLO", saying=BLOCKED)) as front,
        pytest.raises(HandshakeFailed, match=r"doesn't take HELLO: Redis 6\.2.*blocks HELLO 3") as refused,
        Connection(f"redis://fleet:s3cret@127.0.0.1:{front.port}/0") as connection,
    ):
        connection.connect()
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    "names", [("CLIENT",), ("CLIENT TRACKING",), ("CLIENT LIST",), ("INFO",), ("CONFIG",)], ids=" ".join
)
def test_what_a_front_refuses_in_words_of_its_own_is_done_without(
    redis_server: RedisNode, names: tuple[str, ...]
) -> None:
    """No error code that Redis knows: the same as a missing permission."""
    redis_server.flush()
    with RedisFront(redis_server.port, refusing(*names, saying=BLOCKED)) as front:
        assert max(work(redis_server.url(port=front.port))) < 1


@pytest.mark.parametrize("listed", ["everybody", "nobody", "only those who ask"])
def test_a_list_of_clients_without_ourselves_is_not_believed(redis_server: RedisNode, listed: str) -> None:
    """An owner whose connection isn't in the list and who misses beats is dead, if the list has us who ask.

    A service that answers with nothing says nothing: then leases alone tell.
    """
    redis_server.flush()

    def answer(command: list[bytes]) -> tuple[Any, ...] | None:
        if command[:2] != [b"CLIENT", b"LIST"] or listed == "everybody":
            return None
        return ("ECHO", "") if listed == "nobody" else tuple(command[:4])

    with redis.Redis.from_url(redis_server.url(), protocol=3) as client, RedisFront(redis_server.port, answer) as front:
        holder = Member(client).join(lease=60, run="", client_id=2**40)
        holder.queue("q")
        client.lpush("q", "{}")
        assert len(holder.claim("q").messages) == 1
        with Connection(redis_server.url(port=front.port)) as connection:
            connection.connect()
            if listed == "nobody":
                time.sleep(BEATS)
                assert client.llen("q") == 0
            else:
                wait_until(lambda: client.llen("q") == 1, timeout=BEATS, waiting_for="the message to come back")
        holder.close()
    assert (front.substituted == 0) == (listed == "everybody")


def test_a_living_link_is_not_taken_for_dead_by_a_list_that_misses_it(redis_server: RedisNode) -> None:
    """Several servers behind one address, each of which lists its own clients only: who renews its lease lives."""
    redis_server.flush()

    def own_only(command: list[bytes]) -> tuple[Any, ...] | None:
        return tuple(command[:4]) if command[:2] == [b"CLIENT", b"LIST"] else None

    held: list[Message] = []
    with (
        RedisFront(redis_server.port, own_only) as front,
        Connection(redis_server.url(port=front.port)) as holding,
        Connection(redis_server.url(port=front.port)) as other,
        holding.Consumer([Queue("q")], on_message=held.append),
    ):
        other.Producer().publish("m", routing_key="q")
        while not held:
            holding.drain_events(timeout=10)
        with other.Consumer([Queue("q")], on_message=held.append), pytest.raises(TimeoutError):
            other.drain_events(timeout=BEATS)
        held[0].ack()
    assert len(held) == 1
