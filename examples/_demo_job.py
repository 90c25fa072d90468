"""The demonstration's job: a producer and a fleet of handlers, supervised, on one work queue.

This is the part to copy.  Three rules keep every message:

* the producer takes a message off its list only when the broker has confirmed it;
* a handler acknowledges a message only when its work is done;
* everybody may be restarted at any moment, so what must survive lives outside of them (``Account``).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import attrs
import trio

from kombu_actors.broker import Broker, Delivered
from kombu_actors.errors import ConnectionBlocked, DeadlineExceeded, PublishUnknown
from kombu_actors.supervisors import ActorContext, Backoff, ChildSpec, Restart, RestartLimit, SupervisorSpec

PUBLISHERS = 16
"""Publishes under way at a time; each waits for its confirm, so one alone would be bound by the round trip."""
PREFETCH = 20
"""Messages the broker sends ahead to each handler: what is delivered twice at most when it dies."""


@attrs.define
class Account:
    """What became of each message, by its number.  It alone tells whether any was lost."""

    total: int
    attempted: set[int] = attrs.field(factory=set)
    confirmed: set[int] = attrs.field(factory=set)
    handled: set[int] = attrs.field(factory=set)
    duplicates: int = 0
    complete: trio.Event = attrs.field(factory=trio.Event)

    @property
    def lost(self) -> set[int]:
        """Confirmed by the broker, and never handled."""
        return self.confirmed - self.handled

    def note_confirmed(self, number: int) -> None:
        self.confirmed.add(number)
        self._check_complete()

    def note_handled(self, number: int) -> None:
        """A real handler would do its work here, once: it knows the number if it has done it before."""
        self.duplicates += number in self.handled
        self.handled.add(number)
        self._check_complete()

    def _check_complete(self) -> None:
        if len(self.confirmed) >= self.total and len(self.handled) >= self.total:
            self.complete.set()


@attrs.frozen(kw_only=True)
class Job:
    """Publish ``account.total`` messages at ``rate`` per second, and handle them, ``work`` seconds each."""

    broker: Broker
    queue: str
    account: Account
    rate: float
    handlers: int
    work: float
    before_ack: Callable[[Delivered], None]
    """Called when a message's work is done and its ack is not sent yet: where a fault hurts most."""

    def spec(self) -> SupervisorSpec:
        """The job's tree: handlers first, so that somebody listens when the producer begins."""
        return SupervisorSpec(
            id="job",
            children=(
                SupervisorSpec(
                    id="handlers",
                    # A crash concerns one handler, and no number of crashes may end the fleet.
                    limit=RestartLimit(max_restarts=None),
                    backoff=Backoff(first=0.0, base=0.1, maximum=1.0, reset_after=2.0),
                    children=tuple(
                        # No grace: a message that is not acknowledged goes back to its queue.
                        ChildSpec(id=f"handler-{number}", start=self._handle, stop_grace=0)
                        for number in range(1, self.handlers + 1)
                    ),
                ),
                ChildSpec(id="producer", start=self._produce, restart=Restart.TRANSIENT, stop_grace=0),
            ),
        )

    async def _handle(self, ctx: ActorContext) -> None:
        async with self.broker.subscribe(self.queue, prefetch=PREFETCH) as messages:
            ctx.ready()
            async for message in messages:
                await trio.sleep(self.work)
                self.account.note_handled(message.payload_as(dict)["number"])
                self.before_ack(message)
                message.ack()  # too late when its channel died while we worked: then it is delivered again

    async def _produce(self, ctx: ActorContext) -> None:
        # After a restart this is exactly what is still to be done.
        numbers = iter(sorted(set(range(self.account.total)) - self.account.confirmed))
        start = trio.current_time()

        async def publish() -> None:
            for count, number in numbered:
                await trio.sleep_until(start + count / self.rate)
                await self._publish(number)

        numbered = iter(enumerate(numbers))
        ctx.ready()
        async with trio.open_nursery() as nursery:
            for _ in range(PUBLISHERS):
                nursery.start_soon(publish)

    async def _publish(self, number: int) -> None:
        """Publish one message until the broker has confirmed it."""
        self.account.attempted.add(number)
        while number not in self.account.confirmed:
            # ``publish`` waits across lost sessions and sends again by itself; these say that even that
            # took too long.  Trying again may double the message, giving up may lose it: so we try again.
            with suppress(PublishUnknown, DeadlineExceeded, ConnectionBlocked):
                await self.broker.publish({"number": number}, routing_key=self.queue, mandatory=True)
                self.account.note_confirmed(number)
