"""The steps of a program: plain data that reads as a sentence."""

from __future__ import annotations

from enum import Enum

import attrs

__all__ = [
    "AddQueue",
    "Bind",
    "Binding",
    "Cancel",
    "Check",
    "Consume",
    "DeclareExchange",
    "DeclareQueue",
    "DeleteExchange",
    "DeleteQueue",
    "Fault",
    "Harm",
    "Kind",
    "PeerReturns",
    "Publish",
    "RemoveQueue",
    "Side",
    "Step",
    "Unbind",
]


class Side(Enum):
    """Over whose connection something is done."""

    OURS = "we"
    """Over the connection under test."""
    PEER = "the peer"
    """Over the other connection: stock kombu's on RabbitMQ and Redis, a second one of ours in memory."""

    def does(self, verb: str) -> str:
        """The beginning of a sentence."""
        ending = "" if self is Side.OURS else "es" if verb.endswith("sh") else "s"
        return f"{self.value} {verb}{ending}"


class Kind(Enum):
    """What a queue is."""

    DURABLE = "durable"
    TRANSIENT = "transient"
    """Not durable, and stays without consumers: gone with a restart of the broker only."""
    AUTO_DELETE = "auto-delete"
    EXCLUSIVE = "exclusive"
    SERVER_NAMED = "server-named"
    """Exclusive, and called what the broker chooses in each session."""
    BROADCAST = "broadcast"
    """``kombu.common.Broadcast``: auto-delete, under a unique name, on a fanout exchange of its own."""

    @property
    def ends_unused(self) -> bool:
        """Whether the broker deletes it with its last consumer."""
        return self not in (Kind.DURABLE, Kind.TRANSIENT)

    @property
    def is_exclusive(self) -> bool:
        """Whether it belongs to the connection that declared it."""
        return self in (Kind.EXCLUSIVE, Kind.SERVER_NAMED)


@attrs.frozen
class Binding:
    """From an exchange to a queue; for a headers exchange the key is the value of the header ``k``."""

    exchange: str
    queue: str
    key: str

    def __str__(self) -> str:
        return f"{self.exchange} -{self.key or '*'}-> {self.queue}"


@attrs.frozen
class DeclareExchange:
    side: Side
    name: str
    type: str
    durable: bool

    def __str__(self) -> str:
        durable = "durable" if self.durable else "transient"
        return f"{self.side.does('declare')} {durable} {self.type} exchange {self.name}"


@attrs.frozen
class DeclareQueue:
    side: Side
    name: str
    kind: Kind
    bindings: tuple[Binding, ...] = ()

    def __str__(self) -> str:
        bound = f", bound {', '.join(map(str, self.bindings))}" if self.bindings else ""
        return f"{self.side.does('declare')} {self.kind.value} queue {self.name}{bound}"


@attrs.frozen
class Bind:
    side: Side
    binding: Binding

    def __str__(self) -> str:
        return f"{self.side.does('bind')} {self.binding}"


@attrs.frozen
class Unbind:
    side: Side
    binding: Binding

    def __str__(self) -> str:
        return f"{self.side.does('unbind')} {self.binding}"


@attrs.frozen
class DeleteQueue:
    side: Side
    name: str

    def __str__(self) -> str:
        return f"{self.side.does('delete')} queue {self.name}"


@attrs.frozen
class DeleteExchange:
    side: Side
    name: str

    def __str__(self) -> str:
        return f"{self.side.does('delete')} exchange {self.name}"


@attrs.frozen
class Consume:
    name: str
    channel: int
    queues: tuple[str, ...]
    no_ack: bool = False

    def __str__(self) -> str:
        return f"consumer {self.name} on channel {self.channel} consumes from {', '.join(self.queues)}" + (
            " without acks" if self.no_ack else ""
        )


@attrs.frozen
class AddQueue:
    consumer: str
    queue: str

    def __str__(self) -> str:
        return f"consumer {self.consumer} takes queue {self.queue} on"


@attrs.frozen
class RemoveQueue:
    consumer: str
    queue: str

    def __str__(self) -> str:
        return f"consumer {self.consumer} cancels queue {self.queue}"


@attrs.frozen
class Cancel:
    consumer: str

    def __str__(self) -> str:
        return f"consumer {self.consumer} is cancelled"


@attrs.frozen
class Publish:
    """Some messages; over our connection they are accepted or refused, and what was accepted must arrive."""

    side: Side
    exchange: str
    key: str
    count: int

    def __str__(self) -> str:
        where = f"exchange {self.exchange} by key {self.key!r}" if self.exchange else f"queue {self.key}"
        return f"{self.side.does('publish')} {self.count} to {where}"


class Harm(Enum):
    """What may happen."""

    RESET = "our connection is reset"
    FORCED = "the broker closes our connection (320; CLIENT KILL on Redis)"
    REFUSED = "our connection is reset, and dialling is refused for a moment"
    BLACKHOLE = "our network is a black hole for a moment"
    VANISHED = "the broker loses our connection, we are not told for a moment"
    ABANDONED = "we lose our connection, the broker is not told for a moment: exclusive queues stay locked"
    BAD_ACK = "a bad ack costs us the channel"
    NO_EXCHANGE = "a publish to no exchange costs us the channel"
    NO_QUEUE = "a passive declaration finds no queue"
    RESTART = "the broker is restarted"


@attrs.frozen
class Fault:
    """Harm; over with the step, but for the recovery from it."""

    harm: Harm
    channel: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        channel = f" {self.channel}" if self.harm in (Harm.BAD_ACK, Harm.NO_EXCHANGE) else ""
        return f"FAULT: {self.harm.value}{channel}{f' ({self.seconds:.2f} s)' if self.seconds else ''}"


@attrs.frozen
class PeerReturns:
    """The peer declares again, late, what is its and has gone."""

    seconds: float

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s later the peer declares what was its again"


@attrs.frozen
class Check:
    """All is well again, within the promised time."""

    def __str__(self) -> str:
        return "check: who should hear hears, who should not does not"


Step = (
    DeclareExchange
    | DeclareQueue
    | Bind
    | Unbind
    | DeleteQueue
    | DeleteExchange
    | Consume
    | AddQueue
    | RemoveQueue
    | Cancel
    | Publish
    | Fault
    | PeerReturns
    | Check
)
