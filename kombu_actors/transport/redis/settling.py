"""Settling over one link: what was decided about claims leaves in batches; what died gets its dead letter."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum
from functools import partial
from typing import Final, TypeVar

import attrs
import trio

from ..._logs import get_logger
from ...errors import ConnectionBlocked
from ...protocols.redis import consuming_calls as consuming
from ...protocols.redis import publish_calls
from ...protocols.redis.calls import Call, Death
from ...protocols.redis.consuming_calls import Settled
from ...protocols.redis.dead_letters import dead_letter_arguments
from ...protocols.redis.envelope import Envelope, UndecodableEnvelope, decode
from ...protocols.redis.publish_calls import Published
from .._oversized import report_oversized
from .caller import Caller
from .errors import LeaseLost
from .schedule import LATER, Schedule
from .tags import new_tag

__all__ = ["Decision", "Settlements", "Settling", "Taken", "report_late"]

T = TypeVar("T")

logger = get_logger("kombu_actors.redis")

SETTLE_AT: Final = 64
"""Settlements that leave without waiting for more; fewer wait at most ``LATER``."""


class Decision(Enum):
    """What became of a claimed message."""

    ACK = "ack"
    REQUEUE = "requeue"
    """Back to the head of its queue."""
    DISCARD = "discard"
    """Dropped, or a dead letter."""


Taken = tuple[list[int], list[int], list[int]]
"""Claims by what was decided: acks, requeues, discards."""


@attrs.define(eq=False)
class Settlements:
    """Claims decided upon, by their numbers.  Bounded by the prefetch limits of the channels."""

    _decided: dict[Decision, list[int]] = attrs.field(factory=lambda: {decision: [] for decision in Decision})
    count: int = 0

    def add(self, decision: Decision, claims: Sequence[int]) -> None:
        """Note what was decided about some claims."""
        self._decided[decision].extend(claims)
        self.count += len(claims)

    def put_back(self, taken: Taken) -> None:
        """Keep what was taken, before what came since."""
        for decision, claims in zip(Decision, taken, strict=True):
            self._decided[decision][:0] = claims
            self.count += len(claims)

    def take(self, most: int | None = None) -> Taken:
        """What has gathered, the first ones of each kind."""
        acks, requeues, discards = (self._decided[decision][:most] for decision in Decision)
        for decision in Decision:
            del self._decided[decision][:most]
        self.count -= len(acks) + len(requeues) + len(discards)
        return acks, requeues, discards


@attrs.define(eq=False)
class Batch:
    """Decisions on their way, and what is to be done when they have been carried out."""

    taken: Taken
    afterwards: list[Callable[[], None]]


class Settling:
    """Sends settlements, and sees to what scripts leave to their callers."""

    def __init__(self, caller: Caller, schedule: Schedule) -> None:
        self._name = caller.wires.main.name
        self._caller = caller
        self._schedule = schedule
        self._gathered = Settlements()
        self._under_way: list[Batch] = []
        self._afterwards: list[Callable[[], None]] = []
        """What is to be done when all that was decided before has been carried out.  Bounded by the channels."""
        self.waits: str | None = None
        """Why the server takes no writes: what was decided is sent with the next beat, and what follows it waits."""
        self._refused_before = False
        """That has been said."""

    @property
    def open(self) -> int:
        """How many decisions the server has not carried out, as far as we know."""
        return self._gathered.count + sum(len(claims) for batch in self._under_way for claims in batch.taken)

    def settle(self, decision: Decision, claims: Sequence[int]) -> None:
        """Note what was decided about claims; it leaves soon."""
        self._gathered.add(decision, claims)
        if self._gathered.count >= SETTLE_AT:
            self.settle_now()
        else:
            self._schedule.bring_forward("later", trio.current_time() + LATER)

    def settle_now(self) -> None:
        """Send what was decided."""
        if (self._gathered.count or self._afterwards) and self.waits is None and not self._caller.dead:
            batch = Batch(self._gathered.take(), self._afterwards)
            self._afterwards = []
            self._under_way.append(batch)
            call = consuming.settle(*batch.taken)
            self._caller.submit(call, partial(self._settled, batch), partial(self._refused, batch))

    def after(self, act: Callable[[], None]) -> None:
        """Do something when the server has carried out all that was decided before; also when the link dies."""
        if self._caller.dead or not (self._gathered.count or self._under_way or self.waits is not None):
            act()
        else:
            self._afterwards.append(act)
            self.settle_now()

    async def settled(self) -> None:
        """Wait until what was decided has been carried out, or the link is dead."""
        done = trio.Event()
        self.after(done.set)
        await done.wait()

    def _settled(self, batch: Batch, settled: Settled) -> None:
        self._under_way.remove(batch)
        self.attend(settled.deaths)
        if settled.unreached:
            self._gathered.put_back(([], [], list(settled.unreached)))
            self._schedule.bring_forward("later", trio.current_time())
        if not settled.done:
            self._unload()
        if settled.stale:
            logger.error(
                "%s: %d decisions (ack, reject, requeue) came too late: a stock kombu consumer had taken the messages"
                " for abandoned and put them back; raise its visibility_timeout",
                self._name,
                len(settled.stale),
            )
        if self.waits is not None or settled.unreached:  # those before were refused, or it was not all
            self._afterwards[:0] = batch.afterwards
            return
        self._refused_before = False
        for act in batch.afterwards:
            act()

    def _unload(self) -> None:
        """Go on with the return of what was requeued: the server does so much of it per call."""

        def unloaded(settled: Settled) -> None:
            self.attend(settled.deaths)
            if not settled.done:
                self._unload()

        self._submit(consuming.unload(), unloaded)

    def _refused(self, batch: Batch, error: BaseException) -> None:
        if self._caller.dead:
            return  # ``end`` has seen to it
        self._under_way.remove(batch)
        if isinstance(error, ConnectionBlocked):
            self._gathered.put_back(batch.taken)
            self._afterwards[:0] = batch.afterwards
            if self.waits is None:
                self.waits = str(error)
                if not self._refused_before:
                    logger.warning("%s: decisions (ack, reject, requeue) wait: %s", self._name, error)
                self._refused_before = True
                self._schedule.postpone(self.try_again)
        else:
            count = sum(map(len, batch.taken))
            logger.error("%s: %d decisions (ack, reject, requeue) are lost: %s", self._name, count, error)
            for act in batch.afterwards:
                act()

    def try_again(self) -> None:
        """If the server refused what was decided, see whether it still does."""
        self.waits = None
        self.settle_now()

    def insist(self, call: Call[T], done: Callable[[T], None], failed: Callable[[BaseException], None]) -> None:
        """Call a script, again with the next beat while the server takes no writes."""

        def refused(error: BaseException) -> None:
            if isinstance(error, ConnectionBlocked) and not self._caller.dead:
                self._schedule.postpone(lambda: self.insist(call, done, failed))
            else:
                failed(error)

        self._caller.submit(call, done, refused)

    def _submit(self, call: Call[T], done: Callable[[T], None]) -> None:
        def failed(error: BaseException) -> None:
            if not self._caller.dead:
                logger.error("%s: %s", self._name, error)

        self.insist(call, done, failed)

    def end(self, reason: BaseException) -> Settlements:
        """The link has died: returns what was decided and, as far as we know, not carried out, in order."""
        left = self._gathered
        afterwards = [act for batch in self._under_way for act in batch.afterwards] + self._afterwards
        for batch in reversed(self._under_way):
            left.put_back(batch.taken)
        self._under_way, self._afterwards = [], []
        self._gathered = Settlements()
        if left.count and isinstance(reason, LeaseLost):
            report_late(self._name, left.count, reason)
            left = Settlements()
        for act in afterwards:
            act()
        return left

    # -- what scripts leave to their callers -----------------------------------------------------

    def attend(self, deaths: Sequence[Death], next_timer: float | None = None, *, no_ack: bool = False) -> None:
        """See to dead letters that are to be written, and to a time (in so many seconds) to come back at.

        ``no_ack``: whoever met the dead wouldn't have acknowledged them.
        """
        if next_timer is not None:
            self._schedule.bring_forward("timer", trio.current_time() + next_timer)
        terms = self._caller.terms
        for death in deaths:
            if death.size:
                self._tell_oversized(death, no_ack=no_ack and not death.claim)
            if not death.claim:
                continue
            try:
                letter = dead_letter_arguments(
                    death,
                    layout=terms.layout,
                    new_tag=new_tag,
                    now=time.time(),
                    body_encoding=terms.options.body_encoding,
                )
            except UndecodableEnvelope as error:
                self._put_aside(death.queue, death.claim, error)
            else:
                self._bury(death, letter, b"")

    def _tell_oversized(self, death: Death, *, no_ack: bool) -> None:
        body_max = self._caller.terms.body_max
        envelope = None
        with suppress(UndecodableEnvelope):
            envelope = decode(death.raw, queue=death.queue)
        if envelope is None:
            fate = f"put aside, in list {self._aside}" if death.reason == "undecodable" else "dropped"
            logger.error(
                "%s: a message of %d bytes in queue %r is larger than body_max, %d, and not written by kombu; it is %s",
                *(self._name, death.size, death.queue, body_max, fate),
            )
            return
        report_oversized(
            death.size,
            body_max,
            queue=death.queue,
            exchange=envelope.exchange,
            routing_key=envelope.routing_key,
            no_ack=no_ack,
        )

    def _bury(self, death: Death, letter: tuple[bytes, ...], state: bytes) -> None:
        call = publish_calls.bury(death, self._caller.terms.settings, letter, state)
        self._submit(call, partial(self._buried, death, letter))

    def _buried(self, death: Death, letter: tuple[bytes, ...], answer: Published | None) -> None:
        if answer is not None:
            if not answer.codes:
                self._bury(death, letter, answer.state)
            for error in answer.errors.values():
                logger.error("%s: a dead letter could not be stored, its message is kept: %s", self._name, error)
            self.attend(answer.deaths, answer.next_timer)

    def decoded(self, queue: str, claim: int, raw: bytes, *, counted: bool = False) -> Envelope | None:
        """Read a claimed message; one that can't be read is put aside."""
        try:
            return decode(raw, queue=queue, counted=counted)
        except UndecodableEnvelope as error:
            self._put_aside(queue, claim, error)
            return None

    def turned_away(self, queue: str, claim: int, envelope: Envelope) -> bool:
        """Whether a claimed message is rejected as larger than ``body_max``, which the scripts can't tell of text."""
        body_max = self._caller.terms.body_max
        if len(envelope.body) <= body_max:
            return False
        report_oversized(
            len(envelope.body),
            body_max,
            queue=queue,
            exchange=envelope.exchange,
            routing_key=envelope.routing_key,
            no_ack=not claim,
        )
        if claim:
            self.settle(Decision.DISCARD, [claim])
        return True

    @property
    def _aside(self) -> str:
        return f"{self._caller.terms.layout.namespace.decode()}undecodable"

    def _put_aside(self, queue: str, claim: int, error: UndecodableEnvelope) -> None:
        fate = f"put aside, in list {self._aside}" if claim else "dropped (no_ack)"
        logger.error("%s: a message in queue %r can't be read; it is %s: %s", self._name, queue, fate, error)
        if claim:
            self._submit(consuming.quarantine(claim), lambda _: None)


def report_late(name: str, count: int, reason: BaseException) -> None:
    """Say of decisions that the messages are somebody else's by now."""
    logger.error("%s: %d decisions (ack, reject, requeue) came too late: %s", name, count, reason)
