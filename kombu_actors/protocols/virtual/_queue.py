"""One queue: what waits in it, who consumes from it, and what it gives up."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import attrs

from ..._values.model import QueueSpec
from ._arguments import QueuePolicy
from ._message import Entry, Message
from ._ready import Lane, PriorityLanes, Ready
from ._rotation import Rotation, RoundRobin, SingleActive
from ._timers import Timers

if TYPE_CHECKING:
    from ._session import Session


@attrs.define(eq=False)
class Upkeep:
    """What the queues of one broker share."""

    now: float = 0.0
    """The broker's clock; only its driver knows where the time comes from."""
    memory: int = 0
    """Bytes held by messages, waiting or unacknowledged."""
    timers: Timers = attrs.field(factory=Timers)
    letters: deque[tuple[Queue, Message, str]] = attrs.field(factory=deque)
    """Messages given up, with the reason; the broker dead-letters them before its operation ends."""


def _new_ready(queue: Queue) -> Ready:
    highest = queue.policy.max_priority
    return Lane() if highest is None else PriorityLanes(highest)


def _new_rotation(queue: Queue) -> Rotation:
    return SingleActive() if queue.policy.single_active else RoundRobin()


@attrs.define(eq=False)
class Queue:
    """The single owner of a queue's messages that wait; those delivered belong to their channel.

    Bounds: ``policy``'s limits on what waits; nothing when the declaration set none, as in
    RabbitMQ (the broker's memory alarm is the limit then).
    """

    spec: QueueSpec
    policy: QueuePolicy
    owner: Session | None
    """The session that declared it exclusive."""
    upkeep: Upkeep
    ready: Ready = attrs.field(default=attrs.Factory(_new_ready, takes_self=True))
    rotation: Rotation = attrs.field(default=attrs.Factory(_new_rotation, takes_self=True))
    deleted: bool = False
    used_at: float = 0.0
    """When it was last declared, polled or left by its last consumer (``x-expires``)."""
    _arrivals: int = 0

    def offer(self, message: Message) -> bool:
        """Take a published message; False when the queue is full and refuses."""
        policy = self.policy
        ready = self.ready
        if policy.bounded and policy.overflow != "drop-head" and self._is_full(1, len(message.body)):
            if policy.overflow == "reject-publish-dlx":
                self._give_up(message, "maxlen")
            return False
        self._arrivals += 1
        entry = Entry(message, self, self._arrivals, self._expiry(message))
        self.upkeep.memory += message.size
        if not ready.count:
            consumer = self.rotation.take()
            if consumer is not None:
                consumer.deliver(entry)
                return True
        ready.append(entry)
        if policy.bounded:
            self._drop_surplus()
        if entry.expires is not None:
            self.expire()
        return True

    def dispatch(self) -> None:
        """Hand out what waits to consumers that have room."""
        ready = self.ready
        if not ready.count:
            return
        self.expire()
        while ready.count:
            consumer = self.rotation.take()
            if consumer is None:
                return
            consumer.deliver(ready.pop())
            self.expire()

    def poll(self) -> Entry | None:
        """Take the first message for ``basic.get``."""
        self.use()
        self.expire()
        if not self.ready.count:
            return None
        entry = self.ready.pop()
        self.expire()
        return entry

    def settle(self, entry: Entry) -> None:
        """Forget a delivered message: it was acknowledged, or needed no acknowledgement."""
        self.upkeep.memory -= entry.message.size

    def reject(self, entry: Entry) -> None:
        """Give up a delivered message that its consumer does not want."""
        self.settle(entry)
        if not self.deleted:
            self._give_up(entry.message, "rejected")

    def put_back(self, entry: Entry) -> None:
        """Return a delivered message to its place; ``restored`` must follow when all are back."""
        if self.deleted:
            self.settle(entry)
            return
        entry.redelivered = True
        entry.consumer = None
        entry.returns += 1
        limit = self.policy.delivery_limit
        if limit is not None and entry.returns > limit:
            self.settle(entry)
            self._give_up(entry.message, "delivery_limit")
            return
        if self.policy.quorum:
            entry.message = entry.message.with_header("x-delivery-count", entry.returns)
        self.ready.put_back(entry)

    def restored(self) -> None:
        """Go on after messages came back: limits first, then whoever has room."""
        if self.deleted:
            return
        if self.policy.bounded:
            self._drop_surplus()
        self.expire()
        self.dispatch()

    def purge(self) -> int:
        """Drop what waits; what is unacknowledged stays so.  Returns how many were dropped."""
        dropped = self.ready.count
        for entry in self.ready.entries():
            self.settle(entry)
        self.ready.clear()
        return dropped

    def drop_transient(self) -> None:
        """Drop what would not survive a restart of the broker."""
        entries = self.ready.entries()
        self.ready.clear()
        for entry in entries:
            if entry.message.persistent:
                self.ready.append(entry)
            else:
                self.settle(entry)

    def expire(self) -> None:
        """Give up what has expired at the head, and plan the next look."""
        expires = self.ready.next_expiry()
        if expires is None:
            return
        if expires <= self.upkeep.now:
            for entry in self.ready.take_expired(self.upkeep.now):
                self.settle(entry)
                self._give_up(entry.message, "expired")
            expires = self.ready.next_expiry()
        if expires is not None:
            self.upkeep.timers.set((self, "messages"), expires)

    def use(self) -> None:
        """Note that somebody needs the queue, and plan its end (``x-expires``) from now on."""
        limit = self.policy.idle_limit
        if limit is not None:
            self.used_at = self.upkeep.now
            self.upkeep.timers.set((self, "queue"), self.used_at + limit)

    def has_outlived_use(self) -> bool:
        """Whether its ``x-expires`` has run out; plans another look when it hasn't."""
        limit = self.policy.idle_limit
        if limit is None or len(self.rotation):
            return False
        if self.used_at + limit <= self.upkeep.now:
            return True
        self.upkeep.timers.set((self, "queue"), self.used_at + limit)
        return False

    def _expiry(self, message: Message) -> float | None:
        lifetime = message.lifetime
        shared = self.policy.lifetime
        if shared is not None and (lifetime is None or shared < lifetime):
            lifetime = shared
        return None if lifetime is None else self.upkeep.now + lifetime

    def _is_full(self, more: int = 0, bytes_more: int = 0) -> bool:
        ready = self.ready
        return ready.count + more > self.policy.max_length or ready.size + bytes_more > self.policy.max_bytes

    def _drop_surplus(self) -> None:
        while self.ready.count and self._is_full():
            entry = self.ready.pop()
            self.settle(entry)
            self._give_up(entry.message, "maxlen")

    def _give_up(self, message: Message, reason: str) -> None:
        if self.policy.dead_letter_exchange is not None:
            self.upkeep.letters.append((self, message, reason))
