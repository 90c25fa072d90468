"""Names of kombu's insides: what they are asked for is answered, and who would work with them is told what to do.

Programs ask ``isinstance(channel, kombu.transport.virtual.Channel)``; they also make channels of their own for brokers
of their own, or look into kombu's state, and that can't be had here.
"""

from __future__ import annotations

from typing import ClassVar, NoReturn

from .standard import StdChannel

__all__ = ["AMQPChannel", "Absent", "MemoryChannel", "RedisChannel", "VirtualChannel"]


class _Kind(type):
    """The class of classes that have the channels of some transports as instances."""

    drivers: frozenset[str]

    def __instancecheck__(cls, instance: object) -> bool:
        if not isinstance(instance, StdChannel):
            return False
        connection = getattr(instance, "connection", None)
        return connection is not None and connection.transport_driver.name in cls.drivers

    def __call__(cls, *args: object, **kwargs: object) -> NoReturn:
        raise NotImplementedError(f"{cls.__qualname__}: channels are made by connection.channel()")


class VirtualChannel(metaclass=_Kind):
    """The kind of channels of brokers without AMQP: Redis, and the one in memory."""

    drivers: ClassVar = frozenset({"redis", "memory"})

    def __init_subclass__(cls, **kwargs: object) -> None:
        if cls.__module__ != __name__:
            raise NotImplementedError(
                f"{cls.__module__}.{cls.__qualname__} can't be a channel: kombu_actors has AMQP 0-9-1, Redis and "
                "memory, and no transports of a program's own (docs/migrating-from-kombu.md)"
            )


class RedisChannel(VirtualChannel):
    """The kind of Redis's channels."""

    drivers = frozenset({"redis"})


class MemoryChannel(VirtualChannel):
    """The kind of channels of the broker in memory."""

    drivers = frozenset({"memory"})
    queues: ClassVar[dict[str, object]] = {}
    """kombu keeps its messages here, and test suites clear it.  Ours are the broker's, and go with its last connection:
    this is always empty."""


class AMQPChannel(VirtualChannel):
    """The kind of RabbitMQ's channels."""

    drivers = frozenset({"amqp"})


class Absent:
    """Stands for a name of kombu's insides: it can be imported, and says why it can't be used."""

    def __init__(self, name: str, instead: str) -> None:
        self._text = f"{name} is kombu's own state, which kombu_actors does not have: {instead}"

    def __repr__(self) -> str:
        return f"<Absent: {self._text}>"

    def __call__(self, *args: object, **kwargs: object) -> NoReturn:
        raise NotImplementedError(self._text)

    def __mro_entries__(self, bases: tuple[object, ...]) -> NoReturn:
        raise NotImplementedError(self._text)

    def __instancecheck__(self, instance: object) -> bool:
        return False

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(self._text)
