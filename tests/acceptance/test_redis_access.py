"""Who may use Redis and how: minimal permissions, refusals that say why, and no secret anywhere."""

from __future__ import annotations

import logging
import re
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import attrs
import pytest
import trio
from amqp.exceptions import AccessRefused

from kombu_actors import Connection, Exchange, Queue
from kombu_actors.broker import open_broker
from kombu_actors.errors import BrokerUnreachable, ConnectionLost, HandshakeFailed, PublishRefused, UnsupportedScheme
from kombu_actors.message import Message
from tests.support.brokers import RedisNode

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "redis.md"
SECRET = "s3cr:t/with@all#of?them%"
PREFIX = "fleet:"
BEATS = 2.5
"""Seconds in which every connection has looked after the others."""
LUA = ROOT / "kombu_actors" / "protocols" / "redis" / "lua"


def documented() -> list[str]:
    """The words of the ``ACL SETUSER`` in the document."""
    block = re.search(r"```text\n(ACL SETUSER .+?)```", DOCUMENT.read_text(), re.DOTALL)
    assert block is not None
    return block[1].split()


@attrs.frozen
class Fleet:
    """A user with the documented permissions."""

    node: RedisNode

    @property
    def url(self) -> str:
        return f"redis://fleet:{quote(SECRET, safe='')}@127.0.0.1:{self.node.port}/1"

    @property
    def options(self) -> dict[str, Any]:
        return {"global_keyprefix": PREFIX, "confirm_publish": True}

    def forbid(self, *words: str) -> None:
        """Take permissions away.  Anew, as Redis before 7.0 can't take away half of a command."""
        kept = [word for word in documented() if word not in {f"+{each}" for each in words}]
        self.node.ask(*kept[:3], "reset", *(f">{SECRET}" if word == ">secret" else word for word in kept[3:]))

    def denied(self) -> list[bytes]:
        """What it was not allowed to do, by the server's log."""
        return [dict(zip(entry[::2], entry[1::2], strict=True))[b"object"] for entry in self.node.ask("ACL", "LOG")]


@pytest.fixture
def fleet(redis_server: RedisNode) -> Iterator[Fleet]:
    """One on the run's server; the user is gone afterwards."""
    redis_server.flush()
    redis_server.ask("ACL", "LOG", "RESET")
    redis_server.ask(*(f">{SECRET}" if word == ">secret" else word for word in documented()))
    yield Fleet(redis_server)
    redis_server.wait_until_no_clients()
    redis_server.ask("ACL", "DELUSER", "fleet")


def drain(connection: Connection, got: list[Any], count: int) -> None:
    """Receive until there are so many."""
    while len(got) < count:
        connection.drain_events(timeout=10)


def test_the_documented_permissions_suffice(fleet: Fleet) -> None:
    """Every kind of exchange, every policy of queues, priorities, settlements, expiry, dead letters, broadcasts both
    ways, deletion, a reconnect and a lost process: nothing is denied."""
    got: list[Any] = []

    def handle(body: Any, message: Message) -> None:
        got.append(body)
        message.ack()

    def reject(body: Any, message: Message) -> None:
        got.append(body)
        message.reject()

    dead = Queue("dead", Exchange("dlx", "fanout"))
    dlx = {"x-dead-letter-exchange": "dlx"}
    queues = [
        dead,
        Queue("direct", Exchange("d", "direct"), "k", queue_arguments=dlx),
        Queue("topic", Exchange("t", "topic"), "a.#", max_length=1, queue_arguments=dlx),
        Queue("headers", Exchange("h", "headers"), binding_arguments={"colour": "red"}, max_priority=9),
        Queue("fleeting", Exchange("e", auto_delete=True), "k", expires=2, message_ttl=0.05, queue_arguments=dlx),
        Queue("mine", Exchange("f", "fanout"), exclusive=True, auto_delete=True),
    ]
    durable = {**fleet.options, "durable_fanout": True, "lease": 5}
    with (
        Connection(fleet.url, transport_options=durable) as connection,
        Connection(fleet.url, transport_options=fleet.options) as listener,
    ):
        producer = connection.Producer()
        for queue in queues:
            queue(connection.default_channel).declare()
        broadcasts: list[Any] = []
        heard = Queue("heard", Exchange("f", "fanout"), auto_delete=True)
        with listener.Consumer([heard], on_message=lambda message: broadcasts.append(message.payload)):
            producer.publish("all", exchange="f")
            drain(listener, broadcasts, 1)
        for number in range(3):
            producer.publish(number, exchange="t", routing_key=f"a.{number}")
        producer.publish("red", exchange="h", headers={"colour": "red"}, priority=7)
        producer.publish("short", exchange="e", routing_key="k")
        producer.publish("k", exchange="d", routing_key="k", mandatory=True)
        message = queues[1](connection.default_channel).get()
        assert message is not None
        message.requeue()
        with connection.Consumer(queues[1:2], callbacks=[reject]):
            drain(connection, got, 1)
        with connection.Consumer([*queues[2:4], queues[5], dead], callbacks=[handle], prefetch_count=3):
            # Its own, red, all; and the letters: two too many, one that expired, one that was rejected.
            drain(connection, got, 1 + 3 + 4)
            connection.call(_lose_session, connection.connect().actor)
            producer.publish("again", exchange="d", routing_key="k", retry=True)
            producer.publish("red", exchange="h", headers={"colour": "red"}, retry=True)
            drain(connection, got, 9)
        channel = connection.channel()
        assert channel.queue_purge("direct") == 1
        queues[1](channel).unbind_from("d", "k")
        for queue in queues[:4]:
            queue(channel).delete()
        channel.exchange_delete("d")
    assert fleet.denied() == []
    assert {key[: len(PREFIX)] for key in fleet.node.ask("KEYS", "*")} <= {PREFIX.encode()}


def test_the_documented_permissions_are_no_more_than_is_used() -> None:
    """The scripts' commands, and those of the connection itself."""
    permitted = {word[1:] for word in documented() if word.startswith("+")}
    used = {
        command.lower() for path in LUA.glob("*.lua") for command in re.findall(r"call\('([A-Z]+)'", path.read_text())
    }
    own = {"auth", "hello", "ping", "select", "info", "evalsha", "script|load", "wait", "setrange"}
    own |= {"client|list", "client|setname", "client|tracking"}
    own |= {"subscribe", "unsubscribe", "psubscribe", "punsubscribe", "exists", "smembers"}
    assert permitted == used | own


def test_every_command_that_the_scripts_use_is_tried_before_there_is_a_message() -> None:
    """``hello`` tries them all: one that is forbidden is found then, and not by a script that has done half its work.

    Used a new one?  It goes into ``rights.lua``, and into the permissions of ``docs/redis.md``.
    """
    tried = re.findall(r"(?:\{|try\()'([A-Z]+)'", (LUA / "rights.lua").read_text())
    used = {command for path in LUA.glob("*.lua") for command in re.findall(r"call\('([A-Z]+)'", path.read_text())}
    assert len(tried) == len(set(tried))
    assert set(tried) == used


FORBIDDEN = {
    "evalsha": r"\+evalsha \+script\|load.*\+eval",
    "script|load": r"\+evalsha \+script\|load.*\+eval",
    "subscribe": r"NOPERM.*'subscribe'",
    "lpush": r"LPUSH.*\+lpush",
}


@pytest.mark.parametrize("forbidden", FORBIDDEN)
def test_what_is_forbidden_is_named(fleet: Fleet, forbidden: str) -> None:
    """AccessRefused at the connect, with the command; there is no endless retry."""
    fleet.node.ask("SCRIPT", "FLUSH")
    fleet.forbid(forbidden)
    started = time.monotonic()
    with pytest.raises(AccessRefused, match=FORBIDDEN[forbidden]):
        _declare_and_publish(fleet)
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("holder", ["may ask", "may not ask"])
def test_who_may_not_ask_who_is_there_takes_nobody_for_dead(fleet: Fleet, holder: str) -> None:
    """Without ``+info +client|list`` everything works, and neither side gives back what the other, alive, holds."""
    full = {"global_keyprefix": PREFIX, "lease": 5}
    fleet.forbid("info", "client|list")
    urls = [fleet.node.url(db=1), fleet.url]
    held: list[Message] = []
    with (
        Connection(urls[holder == "may not ask"], transport_options=full) as holding,
        Connection(urls[holder == "may ask"], transport_options=full) as other,
        holding.Consumer([Queue("q")], on_message=held.append),
    ):
        other.Producer().publish("m", routing_key="q")
        while not held:
            holding.drain_events(timeout=10)
        with other.Consumer([Queue("q")], on_message=held.append), pytest.raises(TimeoutError):
            other.drain_events(timeout=BEATS)
        held[0].ack()
    assert len(held) == 1


def test_who_may_not_listen_for_broadcasts_is_told(fleet: Fleet) -> None:
    """A consumer that would never hear one is refused with the topic; queues of other kinds need no such right."""
    fleet.node.ask("ACL", "SETUSER", "fleet", "resetchannels", f"&{PREFIX}*")
    with Connection(fleet.url, transport_options=fleet.options) as connection:
        got: list[Any] = []
        queue = Queue("heard", Exchange("f", "fanout"))
        with (
            pytest.raises(AccessRefused, match=r"PSUBSCRIBE fleet:/1\.f.*NOPERM"),
            connection.Consumer([queue], on_message=print),
        ):
            pass
        connection.Producer().publish("m", routing_key="work", declare=[Queue("work")])
        with connection.Consumer([Queue("work")], on_message=lambda message: got.append(message.payload)):
            drain(connection, got, 1)
    assert got == ["m"]


def test_a_publish_that_may_not_be_stored_is_refused(fleet: Fleet) -> None:
    """A command that only the scripts use is forbidden while we are connected: the publish is refused, with the
    server's words."""
    options = {**fleet.options, "lease": 60}
    with Connection(fleet.url, transport_options=options) as connection:
        Queue("q")(connection.default_channel).declare()
        fleet.node.ask("ACL", "SETUSER", "fleet", "-lpush")
        with pytest.raises(PublishRefused, match=r"could not store.*(can't run this command|no permissions to run)"):
            connection.Producer().publish("m", routing_key="q", timeout=5)


def _declare_and_publish(fleet: Fleet) -> None:
    with Connection(fleet.url, transport_options=fleet.options) as connection:
        Queue("q")(connection.default_channel).declare()
        connection.Producer().publish("m", routing_key="q", timeout=5)


def test_keys_outside_of_its_prefix_are_refused(fleet: Fleet) -> None:
    """A client that forgot the prefix is told so, and stays out."""
    with (
        pytest.raises(AccessRefused, match="NOPERM"),
        Connection(fleet.url, transport_options={"confirm_publish": True}) as connection,
    ):
        Queue("q")(connection.default_channel).declare()
    assert fleet.node.ask("KEYS", "*") == []


@pytest.mark.parametrize("wrong", ["password", "user", "no credentials"])
def test_secrets_are_never_shown(
    own_redis: Callable[..., RedisNode], caplog: pytest.LogCaptureFixture, wrong: str
) -> None:
    """Not in refusals and their tracebacks, logs of any level, ``repr``, URI and snapshot; nor after a lost session."""
    caplog.set_level(logging.DEBUG)
    node = own_redis(conf=[f"user fleet on >{SECRET} ~* &* +@all", "user default off"])
    secret, guessed = quote(SECRET, safe=""), "an0ther,s3cret"
    right = f"redis://fleet:{secret}@127.0.0.1:{node.port}/0"
    urls = {
        "password": right.replace(secret, guessed),
        "user": right.replace("fleet", "fl33t"),
        "no credentials": right.replace(f"fleet:{secret}@", ""),
    }
    shown: list[str] = []
    for act in (_refused, _refused_natively):
        with pytest.raises(AccessRefused) as refused:
            act(urls[wrong])
        shown += [str(refused.value), "".join(traceback.format_exception(refused.value))]
    with Connection(right, transport_options={"confirm_publish": True}) as connection:
        actor = connection.connect().actor
        connection.call(_lose_session, actor)
        connection.Producer().publish("m", routing_key="nobody", retry=True)
        shown += [repr(connection), connection.as_uri(), repr(actor), str(connection.call(_snapshot, actor))]
    shown += [caplog.text, *(str(record.__dict__) for record in caplog.records)]
    assert len(caplog.records) > 0
    for text in shown:
        for word in (SECRET, secret, guessed):
            assert word not in text


async def _lose_session(actor: Any) -> None:
    actor.session.require_link().kill(ConnectionLost("a test takes it away"))


async def _snapshot(actor: Any) -> Any:
    return actor.supervisor.snapshot()


def _refused(url: str) -> None:
    with Connection(url) as connection:
        connection.connect()


def _refused_natively(url: str) -> None:
    async def main() -> None:
        async with open_broker(url):
            raise AssertionError("nobody should be let in")

    trio.run(main)


def test_a_cluster_is_refused_with_what_to_do(own_redis: Callable[..., RedisNode]) -> None:
    """At the handshake, at once, natively and blocking; and its URL scheme, when the connection is made."""
    node = own_redis(cluster=True)
    with pytest.raises(HandshakeFailed, match=r"Redis Cluster.*standalone server.*sentinel://"):
        _refused(node.url())
    with pytest.raises(HandshakeFailed, match="Redis Cluster"):
        _refused_natively(node.url())
    assert issubclass(HandshakeFailed, BrokerUnreachable)
    with pytest.raises(UnsupportedScheme, match="rediscluster"):
        Connection("rediscluster://127.0.0.1")
