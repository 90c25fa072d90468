"""What is done about each message: acked, put off, dead-lettered, answered, returned; counted by one owner."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping

import attrs
import trio

from .._logs import get_logger
from ..errors import PublishReturned, PublishUnknown
from ..supervisors import ActorContext
from ..supervisors._interrupts import protected
from ..supervisors.events import Event
from . import events
from ._cut import Cut
from ._delays import Delay, delay_near, delay_of
from ._headers import (
    ATTEMPT,
    FIRST_AT,
    REASON,
    REASON_MAX,
    STACK,
    Copy,
    copy_of,
    cut,
    dead_headers,
    error_headers,
    retry_headers,
    text_of,
)
from ._letters import dead_letter_queue
from ._outgoing import Outgoing
from ._plans import ConsumerPlan
from ._publishing import encodable
from ._tally import Tally
from ._tracing import Settlement, Tracing, publishing
from .errors import PayloadError
from .message import Message
from .policy import DeadLettered, Decision, Reject, RetryLater, SnoozeFor, decide

logger = get_logger("kombu_actors.fleet")

PUBLISH_TIMEOUT = 10.0
"""Seconds for the confirm of a retry, dead letter or reply: longer than a new session takes, shorter than a drain."""
SETTLEMENTS: Mapping[type[Decision], Settlement] = {
    SnoozeFor: "snooze",
    RetryLater: "retry",
    DeadLettered: "dead-letter",
}
BACKOFF_FIRST, BACKOFF_MAX = 0.5, 30.0
"""Seconds before a message returns to its queue when it can't be put off: doubled at each failure in a row."""


@protected
class Settling:
    """Settles the messages of one consumer; owns its tally."""

    def __init__(self, plan: ConsumerPlan, tally: Tally, outgoing: Outgoing, cut: Cut, tracing: Tracing | None) -> None:
        self.plan = plan
        self.tally = tally
        self.under_way = 0
        """Retries, dead letters and replies that wait for their confirm."""
        self.draining = trio.Event()
        """Set: no message waits for a better moment any more."""
        self._publishing = outgoing.broker
        self._postponer = outgoing.postponer
        self._publishes = outgoing.publishes
        self._cut = cut
        self._tracing = tracing
        self._ctx: ActorContext | None = None
        self._misses = 0
        """Messages in a row that could not be put off."""
        self._degraded = False
        """Whether the consumer has said so."""

    def begin(self, ctx: ActorContext) -> None:
        """A shift begins, in this incarnation of the consumer: tell of what happens there."""
        self._ctx = ctx
        self.draining = trio.Event()

    def succeeded(self, message: Message) -> None:
        """The handler has done it."""
        if self._tracing is None:
            self._ack(message)
        else:
            with self._tracing.settling(message, "ack"):
                self._ack(message)

    def _ack(self, message: Message) -> None:
        if message._delivered.ack():
            self.tally.acked += 1
        else:
            self.tally.unknown += 1
            logger.warning("%r was handled too late for its session: the broker delivers it again", message)

    async def answered(self, message: Message, result: object) -> None:
        """The handler has done it, and what it returned is for who asked."""
        try:
            await self._confirmed(lambda: self._reply(message, encodable(result, None), {}))
        except Exception as problem:
            await self._return_later(message, problem, "the reply")
        else:
            self.succeeded(message)

    def decide(self, message: Message, error: Exception) -> Decision:
        """What becomes of a message whose handler failed."""
        return decide(self.plan.retry, message.attempt - 1, error)

    async def failed(self, message: Message, error: Exception) -> None:
        """The handler raised: what its policy says is done."""
        if message._delivered.stale:
            # The broker delivers it again: a copy of ours would be a second one.
            self.returned(message)
            return
        decision = self.decide(message, error)
        if self._tracing is None:
            await self._carry_out(decision, message, error)
        else:
            with self._tracing.settling(message, "ack" if message.asked else SETTLEMENTS[type(decision)]):
                await self._carry_out(decision, message, error)

    async def _carry_out(self, decision: Decision, message: Message, error: Exception) -> None:
        """Publish the message to where the decision says, and ack it then."""
        asked = message.asked
        try:
            if isinstance(decision, SnoozeFor):
                snooze = delay_near(decision.delay)
                await self._confirmed(lambda: self._postpone(message, self._kept(message), snooze))
            elif asked:
                await self._confirmed(lambda: self._reply(message, text_of(error), error_headers(error)))
            else:
                decision = await self._put_off(decision, message, error)
        except Exception as problem:
            names = {SnoozeFor: "the snooze", RetryLater: "the retry", DeadLettered: "the dead letter"}
            await self._return_later(message, problem, "the error reply" if asked else names[type(decision)])
            return
        self._misses = 0
        if self._degraded and self._ctx is not None:
            self._degraded = False
            self._ctx.ready()
        if not message._delivered.ack():
            self.tally.unknown += 1
        elif asked and not isinstance(decision, SnoozeFor):
            self.tally.acked += 1
        elif isinstance(decision, DeadLettered):
            self.tally.dead_lettered += 1
            self.tally.rejected += decision.kind == "rejected"
            self.tally.condemned += decision.kind == "condemned"
            self.tally.undecodable += decision.kind == "undecodable"
            self.tally.given_up += decision.kind == "given_up"
        else:
            self.tally.retried += 1
            self.tally.snoozed += isinstance(decision, SnoozeFor)
        if not asked or isinstance(decision, SnoozeFor):
            self.tell(decision, message, error)

    def tell(self, decision: Decision, message: Message, error: Exception) -> None:
        """Tell what has been decided about a message that was not handled, and done."""
        about = {"queue": self.plan.name, "message_id": message.id}
        if isinstance(decision, SnoozeFor):
            self._report(events.MessageSnoozed, delay=decision.delay, **about)
        elif isinstance(decision, RetryLater):
            failed, delay = decision.failed, decision.delay
            self._report(events.MessageRetried, failed=failed, delay=delay, error=error, **about)
            logger.warning(
                "attempt %d at message %s of queue %r failed with %s: %s; tried again in %g s",
                *(failed, message.id, self.plan.name, type(error).__name__, text_of(error), delay),
            )
        else:
            attempts, reason = decision.attempts, decision.reason
            self._report(events.MessageDeadLettered, attempts=attempts, reason=reason, error=error, **about)
            logger.error(
                "message %s of queue %r is dead-lettered to %r after %d attempt(s): %s",
                *(message.id, self.plan.name, self.plan.dead_letter, attempts, reason),
                exc_info=None if isinstance(error, Reject | PayloadError) else error,  # theirs says nothing more
            )

    def returned(self, message: Message) -> None:
        """Back into the queue as it came: no attempt."""
        if not message._delivered.settled:
            message._delivered.requeue()
            self.tally.returned += 1

    def _report(self, kind: type[Event], **details: object) -> None:
        """Tell listeners of the fleet."""
        if self._ctx is not None:
            self._ctx.report(kind, **details)

    # -- publishing ---------------------------------------------------------------------------

    async def _confirmed(self, publish: Callable[[], Awaitable[None]]) -> None:
        """Publish, also when the drain is over meanwhile: else the copy might be there, and the message come again."""
        self.under_way += 1
        try:
            with self._cut.last_words(PUBLISH_TIMEOUT) as scope:
                await self._publishes.confirmed(publish())
        finally:
            self.under_way -= 1
        if scope.cancelled_caught:
            raise PublishUnknown(f"no confirm within {PUBLISH_TIMEOUT:g} s, or the fleet's end was cut short")

    def _kept(self, message: Message) -> dict[str, object]:
        """The headers of ours that a snoozed message has already."""
        failed = message.attempt - 1
        return {ATTEMPT: failed, FIRST_AT: message.first_at or time.time()} if failed else {}

    async def _put_off(self, decision: RetryLater | DeadLettered, message: Message, error: Exception) -> Decision:
        """Publish a failed message to its delay, or to the dead letters; returns what has been done in the end."""
        if isinstance(decision, RetryLater):
            retry = decision
            try:
                await self._confirmed(lambda: self._retry(message, retry, error))
                return retry
            except ValueError as problem:
                # Returned to its queue it would come again for ever.
                decision = DeadLettered(f"it can't be tried again, for its own headers: {problem}", retry.failed)
        dead = decision
        await self._confirmed(lambda: self._bury(message, dead, error))
        return dead

    async def _retry(self, message: Message, decision: RetryLater, error: Exception) -> None:
        headers = retry_headers(
            queue=self.plan.name,
            failed=decision.failed,
            first_at=message.first_at or time.time(),
            error=error,
            handler=self.plan.handler.name,
        )
        delay = delay_of(decision.delay)
        try:
            await self._postpone(message, headers, delay)
        except ValueError:
            # Together with the headers that it had they don't fit a frame: what counts is how often it failed.
            await self._postpone(message, {name: headers[name] for name in (ATTEMPT, FIRST_AT)}, delay)

    async def _postpone(self, message: Message, headers: Mapping[str, object], delay: Delay) -> None:
        copy = copy_of(message._delivered, message.id, headers)
        await self._postponer.postpone(copy, self.plan.name, delay, timeout=PUBLISH_TIMEOUT)

    async def _bury(self, message: Message, decision: DeadLettered, error: Exception) -> None:
        now = time.time()
        headers = dead_headers(
            queue=self.plan.name,
            attempts=decision.attempts,
            first_at=message.first_at or now,
            dead_at=now,
            error=error,
            reason=decision.reason,
            handler=self.plan.handler.name,
        )
        copy = copy_of(message._delivered, message.id, headers)
        brief = {name: value for name, value in headers.items() if name != STACK}
        reason = f"{decision.reason} (its publisher's headers leave no room for the cause, and were dropped)"
        # Where they don't fit a frame together with the headers that it had.
        shorter = (
            copy_of(message._delivered, message.id, brief),
            attrs.evolve(copy, headers={**headers, REASON: cut(reason, REASON_MAX)}),
        )
        for less in shorter:
            try:
                await self._publish_dead(copy)
                return
            except ValueError:
                copy = less
        await self._publish_dead(copy)

    async def _publish_dead(self, copy: Copy) -> None:
        for last in (False, True):
            try:
                await self._publishing.publish(
                    copy.body,
                    routing_key=self.plan.dead_letter,
                    content_type=copy.content_type,
                    content_encoding=copy.content_encoding,
                    headers=copy.headers,
                    mandatory=True,
                    timeout=PUBLISH_TIMEOUT,
                    **copy.properties,
                )
                return
            except PublishReturned:
                if last:
                    raise
                # Somebody has deleted it.
                await self._publishing.declare(dead_letter_queue(self.plan.dead_letter), timeout=PUBLISH_TIMEOUT)

    async def _reply(self, message: Message, body: object, headers: Mapping[str, object]) -> None:
        reply_to = message.reply_to
        assert reply_to is not None  # asked before
        number = message.correlation_id
        try:
            with publishing(self._tracing, reply_to, headers, None, number, because=message) as given:
                await self._publishing.publish(
                    body,
                    routing_key=reply_to,
                    headers=given,
                    mandatory=True,
                    persistent=False,
                    timeout=PUBLISH_TIMEOUT,
                    correlation_id=number,
                )
        except PublishReturned:
            self.tally.unclaimed += 1
            logger.info("nobody waits for the reply to message %s of queue %r any more", message.id, self.plan.name)

    async def _return_later(self, message: Message, problem: Exception, what: str) -> None:
        """Not at once: it would come again at once, and meet the same obstacle."""
        wait = min(BACKOFF_FIRST * 2 ** min(self._misses, 10), BACKOFF_MAX)
        self._misses += 1
        logger.error(
            "%s of message %s of queue %r could not be published (%s: %s); it returns to its queue in %g s",
            *(what, message.id, self.plan.name, type(problem).__name__, text_of(problem), wait),
        )
        if self._ctx is not None:
            self._degraded = True
            self._ctx.degraded(f"{what} could not be published: {text_of(problem)}")
        with trio.move_on_after(wait):
            await self.draining.wait()
        self.returned(message)
        self._report(events.MessageReturned, queue=self.plan.name, message_id=message.id, error=problem)
