"""Sends script calls to a real server over redis-py, as a link would, and looks at what they left there."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any, TypeVar

import attrs
import redis

from kombu_actors._values.model import BindingKind, BindingSpec, ExchangeSpec, QueueInfo, QueueSpec
from kombu_actors.protocols.redis import consuming_calls, publish_calls, topology_calls
from kombu_actors.protocols.redis.bindings import arguments_text
from kombu_actors.protocols.redis.calls import Call, Death
from kombu_actors.protocols.redis.layout import Layout
from kombu_actors.protocols.redis.preparing import PreparedMessage, message_arguments, prepare
from kombu_actors.protocols.redis.publish_calls import Code, Published
from kombu_actors.protocols.redis.scripts import ALL_SCRIPTS

T = TypeVar("T")
Client = Any
"""A ``redis.Redis``, whose annotations speak of its asynchronous twin as well and so say nothing."""
FAR = 2**52
"""A deadline in ms that no lease of a test reaches."""
_owners = count(1)


@attrs.define(eq=False)
class Driver:
    """One owner: a lease, and a connection to send its calls over."""

    client: Client
    layout: Layout = attrs.field(factory=Layout)
    owner: str = attrs.field(factory=lambda: f"{next(_owners):032x}")
    body_max: int = 64 * 1024 * 1024
    settings: publish_calls.Settings = attrs.field(init=False)
    tags: Iterator[int] = attrs.field(factory=lambda: count(1))

    @settings.default
    def _default_settings(self) -> publish_calls.Settings:
        return publish_calls.settings(self.layout.fanout_prefix.format(db=0), fanout_patterns=True)

    def __attrs_post_init__(self) -> None:
        self.client.zadd(self.key("owners"), {self.owner: FAR})

    def another(self) -> Driver:
        """A second owner on the same server."""
        return Driver(self.client, self.layout)

    def lose_lease(self) -> None:
        """As if another owner had found this one overdue."""
        self.client.zrem(self.key("owners"), self.owner)

    # calling

    def send(self, command: tuple[bytes, ...]) -> Any:
        try:
            return self.client.execute_command(*command)
        except redis.exceptions.NoScriptError:
            for script in ALL_SCRIPTS.values():
                self.client.script_load(script.text)
            return self.client.execute_command(*command)

    def run(self, call: Call[T]) -> T:
        return call.parse(*self.send(call.command(self.layout.common(self.owner, self.body_max))))

    def finish_work(self) -> None:
        """Beat until nothing that takes several steps is left."""
        while self.run(consuming_calls.beat(FAR / 1000, 60, renew=False)).next_timer == 0:
            pass

    # topology

    def exchange(self, name: str, kind: str = "direct", *, passive: bool = False, **options: Any) -> None:
        self.run(topology_calls.exchange_declare(ExchangeSpec(name=name, type=kind, **options), passive=passive))

    def delete_exchange(self, name: str, *, if_unused: bool = False) -> None:
        self.run(topology_calls.exchange_delete(name, if_unused=if_unused))

    def queue(
        self, name: str, arguments: dict[str, Any] | None = None, *, passive: bool = False, **options: Any
    ) -> QueueInfo:
        spec = QueueSpec(name=name, arguments=arguments, **options)
        return self.run(topology_calls.queue_declare(spec, passive=passive))

    def delete_queue(self, name: str, **options: Any) -> int:
        return self.run(topology_calls.queue_delete(name, **options))

    def purge(self, name: str) -> int:
        return self.run(topology_calls.queue_purge(name))

    def bind(self, source: str, queue: str, key: str = "", *, durable: bool = False, **arguments: Any) -> BindingSpec:
        return self.bind_as(to_queue(source, queue, key, **arguments), durable=durable)

    def bind_exchange(self, source: str, destination: str, key: str = "", **arguments: Any) -> BindingSpec:
        return self.bind_as(to_exchange(source, destination, key, **arguments))

    def bind_as(self, binding: BindingSpec, *, durable: bool = False) -> BindingSpec:
        self.run(topology_calls.bind(binding, durable=durable))
        return binding

    def unbind(self, binding: BindingSpec) -> None:
        self.run(topology_calls.unbind(binding))

    # publishing

    def message(
        self, key: str, body: bytes = b"", exchange: str = "", mandatory: bool = False, **properties: Any
    ) -> Any:
        return prepare(
            body, exchange=exchange, routing_key=key, properties=properties, layout=self.layout,
            new_tag=lambda: f"tag-{next(self.tags)}", mandatory=mandatory,
        )  # fmt: skip

    def publish_all(self, *messages: PreparedMessage) -> Published:
        return self.run(publish_calls.publish(self.settings, [message.arguments for message in messages]))

    def publish(
        self, key: str, body: bytes = b"", exchange: str = "", mandatory: bool = False, **properties: Any
    ) -> Code:
        """Publish one message; its code."""
        (code,) = self.publish_all(self.message(key, body, exchange, mandatory, **properties)).codes
        return Code(code)

    def publish_in_steps(self, *messages: PreparedMessage) -> list[Published]:
        """One batch, and the answers to all calls that it takes."""
        waiting = [message.arguments for message in messages]
        answers: list[Published] = []
        state = b""
        while waiting:
            answer = self.run(publish_calls.publish(self.settings, waiting, state))
            del waiting[: len(answer.codes)]
            state = answer.state
            answers.append(answer)
        return answers

    def bury(self, claim: int, key: str, exchange: str = "", never_to: tuple[str, ...] = ()) -> Published | None:
        message = message_arguments(exchange, (key,), b'{"body": "letter"}', step=0, never_to=never_to)
        return self.run(publish_calls.bury(Death(claim, "", "", "", None, b""), self.settings, message))

    def bury_in_steps(self, death: Death, letter: tuple[bytes, ...]) -> int:
        """The calls that it takes."""
        calls, state = 0, b""
        while True:
            answer = self.run(publish_calls.bury(death, self.settings, letter, state))
            calls += 1
            assert answer is not None
            if answer.codes:
                return calls
            state = answer.state

    # looking

    def key(self, name: str) -> str:
        return self.layout.namespace.decode() + name

    def raw(self, queue: str) -> list[bytes]:
        """All envelopes of a queue, the next to be served first."""
        return [raw for name in self.layout.list_keys(queue) for raw in reversed(self.client.lrange(name, 0, -1))]

    def bodies(self, queue: str) -> list[Any]:
        """Bodies in the order they would be served."""
        return [body_of(raw) for raw in self.raw(queue)]

    def everything(self) -> dict[bytes, Any]:
        """All that the database holds, but for who has the watch: that ends by the clock, between two looks, too."""
        readers: dict[bytes, Callable[[Any], Any]] = {
            b"none": lambda name: None,  # it ended meanwhile
            b"string": self.client.get,
            b"list": lambda name: self.client.lrange(name, 0, -1),
            b"set": self.client.smembers,
            b"hash": self.client.hgetall,
            b"zset": lambda name: self.client.zrange(name, 0, -1, withscores=True),
        }
        names = set(self.client.scan_iter()) - {self.key("watch").encode()}
        return {name: readers[self.client.type(name)](name) for name in names}

    def leftovers(self) -> set[bytes]:
        """The keys that are there besides the owners', and those that go by themselves."""
        late = set(self.client.scan_iter(self.key("late.*")))
        return set(self.client.scan_iter()) - {self.key("owners").encode()} - late


def body_of(raw: bytes) -> Any:
    envelope = json.loads(raw)
    body = envelope["body"]
    if envelope.get("properties", {}).get("body_encoding") == "base64":
        return base64.b64decode(body)
    return body


def headers_member(queue: str, arguments: Mapping[str, object]) -> str:
    """A queue's binding as the hash of a headers exchange has it."""
    return json.dumps(["queue", queue, "", arguments_text(arguments)], separators=(",", ":"))


def to_queue(source: str, queue: str, key: str = "", **arguments: Any) -> BindingSpec:
    return BindingSpec(kind=BindingKind.QUEUE, source=source, destination=queue, routing_key=key, arguments=arguments)


def to_exchange(source: str, destination: str, key: str = "", **arguments: Any) -> BindingSpec:
    return BindingSpec(
        kind=BindingKind.EXCHANGE, source=source, destination=destination, routing_key=key, arguments=arguments
    )
