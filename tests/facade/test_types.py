"""What type checkers see of kombu's API: mistakes are found, and programs as users write them are not."""

from __future__ import annotations

import re
from pathlib import Path

from tests.test_native_types import mypy

PROGRAM = """
from typing import Any

from kombu_actors import Connection, Consumer, Exchange, Message, Producer, Queue
from kombu_actors.asynchronous.timer import Timer
from kombu_actors.common import collect_replies, ignore_errors, insured, maybe_declare
from kombu_actors.log import LogMixin, get_loglevel, setup_logging
from kombu_actors.matcher import register as register_matcher
from kombu_actors.mixins import ConsumerMixin
from kombu_actors.pidbox import Mailbox
from kombu_actors.pools import PoolGroup, ProducerPool, connections, producers
from kombu_actors.resource import Resource
from kombu_actors.serialization import register

class Worker(ConsumerMixin):
    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def get_consumers(self, Consumer: Any, channel: Any) -> list[Consumer]:
        return [Consumer(Queue("jobs"), callbacks=[self.work])]

    def work(self, body: dict[str, int], message: Message) -> None:
        print(body["job"], message.headers["who"].upper(), message.delivery_info["routing_key"].split("."))
        message.ack()
        message.akc()  # wrong

class Publisher(Producer):
    def publish(self, body: Any, *args: Any, **kwargs: Any) -> Any:
        return super().publish(body, *args, **kwargs)

    def maybe_declare(self, entity: Any, retry: bool = False, **retry_policy: Any) -> Any:
        return super().maybe_declare(entity, retry, **retry_policy)

class Publishers(PoolGroup):
    def create(self, resource: Connection, limit: int | None) -> ProducerPool:
        return ProducerPool(connections[resource], limit=limit)

class Numbers(Resource[int]):
    def new(self) -> int:
        return 1

class Logger(LogMixin):
    def log(self, severity: int, *args: object, **kwargs: Any) -> None:
        super().log(severity, *args, **kwargs)

def on_error(error: Exception) -> None: ...
def encode(data: dict[str, int]) -> bytes: return b""
def decode(body: bytes) -> dict[str, int]: return {}
def fits(data: str, pattern: str) -> bool: return data == pattern

register("mine", encode, decode, "application/x-mine")
register_matcher("mine", fits)
Publishers(limit=10)
Publishers(limit="10")  # wrong
Numbers(limit=3, preload=1)
Logger().info("%s", 1, exc_info=True)
Logger().info("%s", 1, exc_inf=True)  # wrong
setup_logging(get_loglevel("INFO"), "a.log")
texts: dict[str, str] = {"end": ""}
Timer(on_error=on_error).call_after(1, print, ("a",), texts)
mailbox = Mailbox("shop")
node = mailbox.Node("worker", state={"n": 1})

@node.handler
def ping(state: dict[str, int], n: int = 0) -> str:
    return "pong"

ping({}, 1).upper()
ping({}, "1")  # wrong

options: dict[str, object] = {"confirm_publish": True}
with Connection("memory://", transport_options=options) as connection:
    Connection(**connection.info())
    connection.Pool(5, preload=2)
    connection.Pool(5, prelaod=2)  # wrong
    for reply in mailbox(connection).multi_call("ping", texts) or []:
        print(reply["worker"].upper())
    policy: dict[str, Any] = {"max_retries": 3}
    queue = Queue("q", Exchange("x", arguments={"a": 1}), queue_arguments={"x-max-length": 1})
    producer = connection.Producer(serializer="json")
    connection.Producer(None, Exchange("x"), "key", "json")
    connection.Producer(serialiser="json")  # wrong
    connection.Consumer([queue], callbacks=[print], accept=["json"])
    connection.Consumer([queue], calbacks=[print])  # wrong
    connection.default_channel.Consumer(queue, no_ack=True)
    connection.default_channel.Producer(exchange=queue)  # wrong
    producer.publish({"a": 1}, retry=True, retry_policy=policy, reply_to=queue, correlation_id="1").then(print)
    producer.maybe_declare(queue, retry=True, max_retries=3)
    producer.maybe_declare(queue, retry=True, max_retires=3)  # wrong
    maybe_declare(queue, connection.default_channel, retry=True, **policy)
    connection.autoretry(lambda channel: 1, **policy)()[0].bit_length()
    connection.autoretry(lambda channel: 1, max_retries="3")  # wrong
    insured(connections[connection], print, (1,), {"a": 1}, max_retries=3)
    insured(connections[connection], print, (1,), {"a": 1}, interval=3)  # wrong
    connection.SimpleQueue("q", serializer="json").put({"a": 1}, retry=True)
    connection.SimpleQueue("q", serialiser="json")  # wrong
    connection.get_manager(hostname="a").get_queues()[0]["name"].upper()
    connection.get_manager(host="a")  # wrong
    with ignore_errors(connection):
        (ignore_errors(connection, len, [1]) or 0).bit_length()
    for body in collect_replies(connection, connection.default_channel, queue, limit=2, no_ack=True):
        print(body["a"])
    with producers[connection].acquire(block=True) as pooled:
        pooled.publish(1)
        pooled.publsh(1)  # wrong
    queue.as_dict()["name"].upper()
    Exchange("x")(connection).Message("text", headers={"a": 1}, priority=1)
    Exchange("x")(connection).Message("text", header={"a": 1})  # wrong
"""
WRONG = [number for number, line in enumerate(PROGRAM.splitlines(), 1) if line.endswith("# wrong")]


def test_a_type_checker_finds_each_mistake_and_nothing_else(tmp_path: Path) -> None:
    """Misspelt options and values of the wrong type; not what users subclass, hand over and get back."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    said = mypy(tmp_path, program)
    assert {int(line) for line in re.findall(r"program\.py:(\d+): error", said)} == set(WRONG), said
