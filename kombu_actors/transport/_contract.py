"""What a transport is: the contract between bytes and actors.

A ``Link`` is one live connection to a broker.  It has one life: it is opened, serves, dies,
and is thrown away; making the next one is its supervisor's business.  Everything here runs
in the trio thread; methods without ``async`` never block.

It is for type checkers: no module imports it at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from .._values.endpoint import Endpoint, LinkOptions
from .._values.model import (
    BindingSpec,
    Capabilities,
    ConsumerSpec,
    Delivery,
    ExchangeSpec,
    Properties,
    QueueInfo,
    QueueSpec,
    Returned,
    Sent,
)
from ._alarm import AlarmWatcher

if TYPE_CHECKING:
    from socket import socket as Socket

    from trio.socket import SocketType

Prepared = Any
"""A message validated and encoded by the transport that will send it; opaque to everyone else."""

DeliverySink = Callable[[list[Delivery]], None]
"""Takes one batch, in order; called in the trio thread, or in a second reader's, must not block or raise."""


class Upstream(Protocol):
    """The owner of a link, to other connections of the process whose program must find what it published."""

    @property
    def unwritten(self) -> bool:
        """Whether threads have published what isn't written yet.  Any thread."""

    async def wait_seen_elsewhere(self) -> None:
        """Wait until the broker has seen what has been published so far; from any run of trio."""


class LonePublish(Protocol):
    """One publish that a thread sends past everything that waits."""

    @property
    def begun(self) -> bool:
        """Whether the broker gets it, some of it in a moment perhaps."""


class Mortal(Protocol):
    """What lives once: when it is dead, another is made."""

    @property
    def closed(self) -> BaseException | None:
        """Why it is dead; None while it lives."""

    async def wait_closed(self) -> BaseException:
        """Wait until it is dead and say why."""


class Pulsing(Mortal, Protocol):
    """One wire to a peer.  Times are trio's clock's, in seconds."""

    @property
    def last_heard(self) -> float:
        """When bytes last came, or when somebody last had reason not to look."""

    @property
    def last_sent(self) -> float:
        """When bytes last went."""

    def beat(self) -> None:
        """Have the peer hear from us, unless it is about to anyway."""

    def lose(self, text: str) -> None:
        """The peer is gone."""


class LinkChannel(Mortal, Protocol):
    """One channel of a link.  Dies alone (404, 406, ...) or with its link.

    Every ``async`` method raises the channel's death as py-amqp's exception class when the
    broker closes the channel over it, and ``ConnectionLost`` when the link dies.  Deadlines
    are the caller's cancel scopes; a cancelled request leaves the channel usable: its late
    reply is consumed by the request it belongs to.
    """

    number: int
    reorders: bool
    """Whether a request may reach the broker before what was published on the channel before it."""

    @property
    def highest_tag(self) -> int:
        """The highest delivery tag that has been handed over, to a sink or by ``get``; 0 before the first."""

    def on_closed(self, watcher: Callable[[], object] | None) -> None:
        """Have ``watcher()`` called once, when the channel dies; it must not raise.  There is one; None is nobody.

        Of a channel that is dead already nobody is told.
        """

    async def aclose(self) -> None:
        """Close politely; a no-op when already dead."""

    async def exchange_declare(self, spec: ExchangeSpec, *, passive: bool = False) -> None: ...
    async def exchange_delete(self, name: str, *, if_unused: bool = False) -> None: ...
    async def exchange_bind(self, binding: BindingSpec) -> None: ...
    async def exchange_unbind(self, binding: BindingSpec) -> None: ...
    async def queue_declare(self, spec: QueueSpec, *, passive: bool = False) -> QueueInfo: ...
    async def queue_delete(self, name: str, *, if_unused: bool = False, if_empty: bool = False) -> int: ...
    async def queue_bind(self, binding: BindingSpec) -> None: ...
    async def queue_unbind(self, binding: BindingSpec) -> None: ...
    async def queue_purge(self, name: str) -> int: ...

    def prefetch(self, count: int) -> None:
        """Bound what may be unacknowledged of whoever consumes from now on; 0 is no bound.

        Nobody waits for an answer: no broker refuses it.
        """

    async def qos(self, *, prefetch_count: int = 0, prefetch_size: int = 0, apply_global: bool = False) -> None:
        """``prefetch`` in all its forms, of which brokers refuse some."""

    async def consume(self, spec: ConsumerSpec, sink: DeliverySink, on_cancel: Callable[[], None]) -> str:
        """Subscribe; return the tag once the broker said consume-ok.

        ``on_cancel`` is called when the *broker* ends the subscription (its queue went away).
        """

    async def cancel(self, tag: str) -> None:
        """End a subscription; its sink gets nothing after this returns."""

    async def get(self, queue: str, *, no_ack: bool = False) -> tuple[Delivery, int] | None:
        """Poll one message; with it, how many are left in the queue."""

    async def recover(self, *, requeue: bool = False) -> None: ...
    async def flow(self, active: bool) -> None: ...
    def confirm_select(
        self,
        on_confirm: Callable[[int, bool, bool], None],
        on_return: Callable[[Returned], None],
        owed: Callable[[], bool] | None = None,
        on_refused: Callable[[int, BaseException], None] | None = None,
    ) -> None:
        """Turn on confirms: ``on_confirm(tag, multiple, accepted)``, tags counting from 1.

        Nobody waits for an answer: the first publish may follow at once.

        The caller counts them: it raises ``LookupError`` for a tag that it has not reached.  While
        ``owed()`` says that confirms are due, reading goes on though it is paused.  ``on_refused(tag, error)``
        is told before the channel ends over a publish, by a broker that says which (Redis).
        """

    async def wait_taken(self) -> None:
        """Wait until the broker has taken everything published before: what it refuses has ended the channel by then.

        It need not have confirmed it.
        """

    def flush(self) -> None:
        """Let what was appended leave at once if nothing stands in its way; else it leaves as soon as it can.

        For callers that have gathered a batch themselves: saves a task switch.
        """

    def check(self, prepared: Prepared) -> None:
        """Raise ``ValueError`` for a message that doesn't fit the limits agreed on with the broker.  Any thread."""

    def publish(self, prepared: Prepared) -> None:
        """Append one publish to the outbox.  Never blocks; the caller bounds what is under way.

        Raises:
            ValueError: it fails ``check``, having been prepared for a session with other limits.
        """

    def withdraw(self, prepared: Prepared) -> bool:
        """Take one publish back that surely hasn't reached the broker; False when nobody can be sure of that."""

    def publish_now(self, prepared: Prepared, note: Callable[[LonePublish], object]) -> Sent:
        """``publish`` from any thread, past everything that waits, if nothing waits and the socket takes it.

        What ``note`` gets says afterwards whether the message has left, even when an interrupt
        (Ctrl-C) took the answer's place; it isn't called where nothing can leave this way.  The
        caller keeps all other publishes of this channel away meanwhile, and after PART, or an
        interrupt, has ``flush`` called in the link's thread.
        """

    def ack_now(self, tag: int, *, multiple: bool = False) -> Sent:
        """``ack`` from any thread; as ``publish_now``.  Nothing is sent once the channel is dead."""

    def ack(self, tag: int, *, multiple: bool = False) -> None: ...
    def ack_each(self, tags: list[int]) -> None:
        """Acknowledge these deliveries, and no others, in any order."""

    def nack(self, tag: int, *, multiple: bool = False, requeue: bool = True) -> None: ...
    def reject(self, tag: int, *, requeue: bool = False) -> None: ...

    def watch_gaps(self, tag: str, watcher: Callable[[float, float, int], None]) -> bool:
        """Whether what is published for this consumer while it isn't subscribed is lost (Redis Pub/Sub).

        Then ``watcher(since, until, count)`` is told of messages that were dropped because its queue's consumers are
        too far behind: how many, and when the first and the last of them came, in seconds since the epoch.
        """


class SecondReader(Protocol):
    """Reads a link's socket in a thread of the program's, which calls ``read`` whenever ``socket`` has something.

    Deliveries are handed to their consumers' sinks there; all else is left to the link's own reader, which rests while
    this one reads.  It ends with the link, whose owner makes another one for the next link.
    """

    socket: Socket
    """Closed when nobody has it any more, for its number may be another file's then."""
    over: bool
    """Whether it will read nothing any more."""

    def read(self) -> bool:
        """Read; False when ``look`` is to be called.  Interrupted, it wants ``spoil``."""

    def look(self) -> None:
        """Have the link's own reader see to what was left to it.  In the link's thread."""

    def spoil(self) -> None:
        """Its thread was interrupted: if nobody can know what it has handed over, the link is lost.  In its thread."""


class Link(Mortal, Protocol):
    """One live connection to a broker."""

    server_properties: Mapping[str, object]
    roles: Sequence[str]
    """The names of the tasks that keep the link alive, e.g. reader, writer, heartbeat."""
    upstream: Upstream | None
    """Set by its owner."""

    @property
    def channel_max(self) -> int:
        """How many channels it can have open at a time, the kept one included."""

    def neighbours(self) -> Sequence[Upstream]:
        """Those of the other links of this process to its broker, when that lives in this process, too."""

    @property
    def sock(self) -> SocketType:
        """The socket, for its address; ``AttributeError`` where there is none."""

    @property
    def last_heard(self) -> float:
        """When the broker last said anything, in seconds of trio's clock."""

    @property
    def blocked(self) -> str | None:
        """The broker's reason for not reading from publishers; None when it does."""

    def on_blocked(self, watcher: AlarmWatcher) -> Callable[[], None]:
        """Have ``watcher(reason)`` called when the broker blocks or gives another reason, ``watcher(None)`` when it
        unblocks; returns what ends that.
        """

    async def run(self, role: str) -> None:
        """Serve one role until the link dies, then raise why (return after ``aclose``)."""

    async def open_channel(self, *, kept: bool = False) -> LinkChannel:
        """Open a channel; raises ``ChannelLimitExceeded`` when no number is left.

        The last number is kept for who asks for the ``kept`` one: declarations go over a channel of
        their own, which in a new session is opened first.
        """

    async def wait_settled(self) -> None:
        """Wait until the broker has taken what was decided about deliveries (ack, nack), where it may refuse to."""

    async def aclose(self) -> None:
        """Say goodbye and close; safe in any state, bounded by the caller's cancel scope."""

    def flush(self) -> None:
        """Let what was appended leave at once if nothing stands in its way."""

    def pause_reading(self) -> None:
        """Take nothing more in until ``resume_reading``, except while a request waits for its answer."""

    def read_seldom(self) -> None:
        """Take in what comes in large pieces, if that spares anything, until ``resume_reading``: nobody waits for it.

        Answers that are waited for are read at once all the same.
        """

    def resume_reading(self) -> None:
        """Undo ``pause_reading`` and ``read_seldom``; a no-op otherwise."""

    def second_reader(self) -> SecondReader | None:
        """One more reader, for another thread; None where bytes can be read in one place only.  Any thread."""

    def kill(self, reason: BaseException) -> None:
        """Drop the connection at once; every waiter gets ``reason``."""


class Transport(Protocol):
    """Opens links for one URL scheme, and encodes messages for them."""

    name: str
    capabilities: Capabilities

    async def connect(self, endpoint: Endpoint, options: LinkOptions) -> Link:
        """Dial and shake hands; translates every foreign error to ``errors``' classes."""

    def prepare(
        self,
        body: bytes,
        *,
        exchange: str,
        routing_key: str,
        properties: Properties,
        mandatory: bool = False,
    ) -> Prepared:
        """Validate and encode one message in the caller's thread, before a byte is sent.

        Raises ``ValueError`` naming the wrong argument.
        """

    def content_of(self, prepared: Prepared) -> tuple[Mapping[str, object], bytes]:
        """Properties, as a receiver would see them, and body of a prepared message."""
