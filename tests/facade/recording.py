"""A channel that writes down what is asked of it: what the facade says to a channel is its promise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from amqp.exceptions import ChannelError, ConnectionError

from kombu_actors.message import Message


class RecordingConnection:
    """The connection of a ``RecordingChannel``."""

    connection_errors = (ConnectionError, OSError)
    channel_errors = (ChannelError,)

    def __init__(self) -> None:
        self.declared_entities: set[Any] = set()
        self.ensured: list[tuple[Any, dict[str, Any]]] = []
        self.opened = 0
        self._channel: RecordingChannel | None = None

    @property
    def default_channel(self) -> RecordingChannel:
        if self._channel is None:
            self.opened += 1
            self._channel = RecordingChannel(self)
        return self._channel

    def ensure(self, obj: Any, fun: Callable[..., Any], **policy: Any) -> Callable[..., Any]:
        """Retries once, as after a lost connection."""
        self.ensured.append((obj, policy))

        def ensured(*args: Any, **kwargs: Any) -> Any:
            try:
                return fun(*args, **kwargs)
            except ConnectionError:
                return fun(*args, **kwargs)

        return ensured


class RecordingChannel:
    """Answers what a broker would, and remembers each call with its arguments."""

    channel_id = 7

    def __init__(self, connection: RecordingConnection | None = None) -> None:
        self.connection = connection or RecordingConnection()
        self.events: dict[str, set[Callable[..., Any]]] = {"basic_return": set()}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.failures: dict[str, list[BaseException]] = {}
        self.waiting: list[Message] = []

    def called(self, name: str) -> list[dict[str, Any]]:
        """The arguments of all calls of that name."""
        return [arguments for called, arguments in self.calls if called == name]

    def names(self) -> list[str]:
        """The names of all calls, in order."""
        return [name for name, _ in self.calls]

    def _record(self, name: str, **arguments: Any) -> None:
        if self.failures.get(name):
            raise self.failures[name].pop(0)
        self.calls.append((name, arguments))

    def prepare_message(
        self,
        body: Any,
        priority: int | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        headers: Any = None,
        properties: Any = None,
    ) -> dict[str, Any]:
        return {
            "body": body,
            "priority": priority,
            "content_type": content_type,
            "content_encoding": content_encoding,
            "headers": headers,
            "properties": properties,
        }

    def basic_publish(self, message: Any, **options: Any) -> str:
        self._record("basic_publish", message=message, **options)
        return "published"

    def queue_declare(self, queue: str = "", **options: Any) -> tuple[str, int, int]:
        self._record("queue_declare", queue=queue, **options)
        return (queue or "amq.gen-1", 3, 1)

    def prepare_queue_arguments(self, arguments: Any, **options: Any) -> dict[str, Any]:
        return {**arguments, **{name: value for name, value in options.items() if value is not None}}

    def queue_purge(self, queue: str, nowait: bool = False) -> int | None:
        self._record("queue_purge", queue=queue)
        return None if nowait else 5

    def basic_get(self, queue: str, no_ack: bool = False) -> Message | None:
        self._record("basic_get", queue=queue, no_ack=no_ack)
        return self.waiting.pop(0) if self.waiting else None

    def basic_cancel(self, consumer_tag: str) -> None:
        self._record("basic_cancel", consumer_tag=consumer_tag)

    def basic_qos(self, prefetch_size: int, prefetch_count: int, a_global: bool) -> None:
        self._record("basic_qos", size=prefetch_size, count=prefetch_count, a_global=a_global)

    def basic_ack(self, delivery_tag: Any, multiple: bool = False) -> None:
        self._record("basic_ack", tag=delivery_tag, multiple=multiple)

    def basic_reject(self, delivery_tag: Any, requeue: bool = False) -> None:
        self._record("basic_reject", tag=delivery_tag, requeue=requeue)

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **options: self._record(name, **({"args": args} if args else {}), **options)


def recording_channel(connection: Any = None) -> Any:
    """A ``RecordingChannel`` that may stand where the types ask for a ``Channel``."""
    return RecordingChannel(connection)


def recording_connection() -> Any:
    """A ``RecordingConnection`` that may stand where the types ask for a ``Connection``."""
    return RecordingConnection()
