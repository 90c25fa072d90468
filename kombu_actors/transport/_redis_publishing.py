"""Publishing over one link: batches, their confirmation, and waiting while the server takes none.

Publishes leave in the order they were appended, one batch at a time: what gathers while a batch is
under way is the next batch.  So their order survives a refusal (maxmemory), and batches grow with the load.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..protocols.redis import publish_calls
from ..protocols.redis.preparing import PreparedMessage
from ..protocols.redis.publish_calls import Published
from ._redis_caller import Caller
from ._redis_errors import Consequence, ErrorReply, consequence_of, translate

if TYPE_CHECKING:
    from ._redis_channel import RedisChannel
    from ._redis_settling import Settling

__all__ = ["Publish", "PublishQueue", "Publishing"]

logger = logging.getLogger("kombu_actors.redis")

BATCH_MESSAGES: Final = 250
"""Publishes per script call: some 2 ms of the server's time, during which it serves nobody else."""
BATCH_BYTES: Final = 1024 * 1024
"""Bytes per script call, for the same reason; one larger message goes alone."""
REPLICA_PATIENCE: Final = 1000
"""Milliseconds after which the server says how many replicas have it so far, and is asked again."""


class Publish(NamedTuple):
    """One message on its way, with its number on its channel."""

    channel: RedisChannel
    tag: int
    prepared: PreparedMessage


class PublishQueue:
    """The publishes of one link.  Bounded by the publishers' windows above it."""

    def __init__(self) -> None:
        self.waiting: deque[Publish] = deque()
        self.under_way: list[Publish] = []
        self.refused: str | None = None
        """The server's reason for taking none now."""

    @property
    def ready(self) -> bool:
        """Whether a batch may leave."""
        return bool(self.waiting) and not self.under_way and self.refused is None

    def take(self) -> Sequence[Publish]:
        """Begin the next batch."""
        size = count = 0
        for publish in islice(self.waiting, BATCH_MESSAGES):
            size += publish.prepared.size
            if count and size > BATCH_BYTES:
                break
            count += 1
        popleft = self.waiting.popleft
        self.under_way = [popleft() for _ in range(count)]
        return self.under_way

    def refuse(self, reason: str) -> None:
        """The batch under way was refused whole: nothing of it is stored.  It waits to be sent again."""
        self.refused = reason
        self.waiting.extendleft(reversed(self.under_way))
        self.under_way = []

    def answered(self) -> list[Publish]:
        """The batch under way has been answered: hand it over."""
        batch, self.under_way = self.under_way, []
        self.refused = None
        return batch

    def drop(self, channel: RedisChannel) -> None:
        """Forget what a dead channel has not sent; its publisher sends it again on the next one."""
        self.waiting = deque(publish for publish in self.waiting if publish.channel is not channel)

    def withdraw(self, channel: RedisChannel, prepared: PreparedMessage) -> bool:
        """Forget one publish, unless it is under way."""
        for index, publish in enumerate(self.waiting):
            if publish.prepared is prepared and publish.channel is channel:
                del self.waiting[index]
                return True
        return False

    def holds(self, channel: RedisChannel) -> bool:
        """Whether a channel has publishes without an answer."""
        return any(publish.channel is channel for publish in (*self.under_way, *self.waiting))


class Publishing:
    """Sends what the queue holds, and tells the channels what became of it."""

    def __init__(self, caller: Caller, settling: Settling) -> None:
        self.queue = PublishQueue()
        self.blocked: str | None = None
        """The server's reason for taking no publishes (its memory is full, ...); None when it does."""
        self._caller = caller
        self._settling = settling
        self._wire = caller.wires.publisher
        self._watchers: list[Callable[[str | None], None]] = []
        self._wire.gather = self._begin_batch

    def publish(self, publish: Publish) -> None:
        """Append one publish."""
        self.queue.waiting.append(publish)
        self._wire.wake()

    def on_blocked(self, watcher: Callable[[str | None], None]) -> Callable[[], None]:
        """Call ``watcher`` with the reason when the server blocks publishes, with None when it unblocks."""
        self._watchers.append(watcher)
        return partial(self._watchers.remove, watcher)

    def try_again(self) -> None:
        """If the server took no publishes, see whether it does now."""

        def answered(reply: Any) -> None:
            still = isinstance(reply, ErrorReply) and consequence_of(reply.text) is Consequence.BLOCKED
            if not still and not self._caller.dead:
                self.queue.refused = None
                self._set_blocked(None)
                self._wire.wake()

        if self.queue.refused is not None and self._caller.serves(self._wire):
            # This writes nothing, and is refused like a write.  Trying with what waits would make its fate
            # unknown whenever a deadline passes just then.
            self._wire.send(("SETRANGE", self._caller.terms.layout.namespace + b"nothing", 0, b""), answered)

    def _begin_batch(self) -> None:
        """Before the writer sends: what has gathered becomes a call."""
        if self.queue.ready:
            messages = [publish.prepared.arguments for publish in self.queue.take()]
            call = publish_calls.publish(self._caller.terms.settings, messages)
            done = self._await_replicas if self._caller.terms.options.confirm_replicas else self._published
            self._caller.submit(call, done, self._refused, wire=self._wire)

    def _await_replicas(self, answer: Published) -> None:
        """Ask until enough replicas have what was published: until then nobody is told that it is safe."""
        wanted = self._caller.terms.options.confirm_replicas

        def heard(reply: Any) -> None:
            if isinstance(reply, ErrorReply):
                self._caller.kill(translate(reply.text, "WAIT"))
            elif isinstance(reply, int) and reply >= wanted:
                self._published(answer)
            elif not isinstance(reply, BaseException):
                self._await_replicas(answer)

        if self._caller.serves(self._wire):
            self._wire.send(("WAIT", wanted, REPLICA_PATIENCE), heard)

    def _published(self, answer: Published) -> None:
        batch = self.queue.answered()
        self._set_blocked(None)
        for error in answer.errors:
            logger.error("%s: a publish could not be stored: %s", self._wire.name, error)
        self._settling.attend(answer.deaths, answer.next_timer)
        by_channel: dict[RedisChannel, list[tuple[Publish, int]]] = {}
        for publish, code in zip(batch, answer.codes, strict=True):
            by_channel.setdefault(publish.channel, []).append((publish, code))
        for channel, publishes in by_channel.items():
            channel.answered(publishes)
        if self.queue.waiting:
            self._wire.wake()

    def _refused(self, error: BaseException) -> None:
        """Nothing of the batch is stored: memory is full, mostly.  It is tried again with every beat."""
        if not self._caller.dead:
            self.queue.refuse(str(error))
            self._set_blocked(str(error))

    def _set_blocked(self, reason: str | None) -> None:
        changed = (reason is None) != (self.blocked is None)
        self.blocked = reason
        if changed:
            for watcher in tuple(self._watchers):
                watcher(reason)
