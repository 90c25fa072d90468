"""Settling over one link: what was decided about claims leaves in batches; what died gets its dead letter."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from enum import Enum
from typing import Final

import attrs
import trio

from ..protocols.redis import consuming_calls as consuming
from ..protocols.redis import publish_calls
from ..protocols.redis.calls import Death
from ..protocols.redis.consuming_calls import Settled
from ..protocols.redis.dead_letters import dead_letter_arguments
from ..protocols.redis.envelope import Envelope, UndecodableEnvelope, decode
from ..protocols.redis.publish_calls import Published
from ._redis_caller import Caller
from ._redis_errors import LeaseLost
from ._redis_schedule import LATER, Schedule
from ._redis_tags import new_tag

__all__ = ["Decision", "Settlements", "Settling"]

logger = logging.getLogger("kombu_actors.redis")

SETTLE_AT: Final = 64
"""Settlements that leave without waiting for more; fewer wait at most ``LATER``."""


class Decision(Enum):
    """What became of a claimed message."""

    ACK = "ack"
    REQUEUE = "requeue"
    """Back to the head of its queue."""
    DISCARD = "discard"
    """Dropped, or a dead letter."""


@attrs.define(eq=False)
class Settlements:
    """Claims decided upon, by their numbers.  Bounded by the prefetch limits of the channels."""

    _decided: dict[Decision, list[int]] = attrs.field(factory=lambda: {decision: [] for decision in Decision})
    count: int = 0

    def add(self, decision: Decision, claims: Sequence[int]) -> None:
        """Note what was decided about some claims."""
        self._decided[decision].extend(claims)
        self.count += len(claims)

    def take(self) -> tuple[list[int], list[int], list[int]]:
        """What has gathered: acks, requeues, discards."""
        acks, requeues, discards = (self._decided[decision] for decision in Decision)
        self._decided = {decision: [] for decision in Decision}
        self.count = 0
        return acks, requeues, discards


class Settling:
    """Sends settlements, and sees to what scripts leave to their callers."""

    def __init__(self, caller: Caller, schedule: Schedule) -> None:
        self._name = caller.wires.main.name
        self._caller = caller
        self._schedule = schedule
        self._settlements = Settlements()

    def settle(self, decision: Decision, claims: Sequence[int]) -> None:
        """Note what was decided about claims; it leaves soon."""
        self._settlements.add(decision, claims)
        if self._settlements.count >= SETTLE_AT:
            self.settle_now()
        else:
            self._schedule.bring_forward("later", trio.current_time() + LATER)

    def settle_now(self) -> None:
        """Send what was decided."""
        count = self._settlements.count
        if count and not self._caller.dead:
            call = consuming.settle(*self._settlements.take())
            self._caller.submit(call, self._settled, lambda error: self._not_settled(count, error))

    async def settled(self) -> None:
        """Wait until what was decided has been carried out."""
        self._settled(await self._caller.call(consuming.settle(*self._settlements.take())))

    def end(self, reason: BaseException) -> None:
        """The link dies: what was decided will not be carried out."""
        self._not_settled(self._settlements.count, reason)

    def _settled(self, settled: Settled) -> None:
        self.attend(settled.deaths)
        if settled.stale:
            logger.error(
                "%s: %d decisions (ack, reject, requeue) came too late: a stock kombu consumer had taken the messages"
                " for abandoned and put them back; raise its visibility_timeout",
                self._name,
                len(settled.stale),
            )

    def _not_settled(self, count: int, error: BaseException) -> None:
        # After any other loss nobody knows; what was not acknowledged comes again, as on every transport.
        if count and isinstance(error, LeaseLost):
            logger.error("%s: %d decisions (ack, reject, requeue) came too late: %s", self._name, count, error)
        elif count and not self._caller.dead:
            logger.error("%s: %s", self._name, error)

    # -- what scripts leave to their callers -----------------------------------------------------

    def attend(self, deaths: Sequence[Death], next_timer: float | None = None) -> None:
        """See to dead letters that are to be written, and to a time (in so many seconds) to come back at."""
        if next_timer is not None:
            self._schedule.bring_forward("timer", trio.current_time() + next_timer)
        terms = self._caller.terms
        for death in deaths:
            if death.size:
                self._tell_oversize(death)
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
                self._caller.submit(publish_calls.bury(death, terms.settings, letter), self._buried)

    def _tell_oversize(self, death: Death) -> None:
        fate = "dropped: the queue has no dead letter exchange"
        if death.claim:
            fate = f"a dead letter now, for exchange {death.exchange!r}"
        elif death.reason == "undecodable":
            fate = f"put aside, in list {self._caller.terms.layout.namespace.decode()}undecodable"
        logger.error(
            "%s: a message in queue %r has %d bytes, where body_max allows %d; it was not received, and is %s."
            " Raise body_max to receive such messages",
            *(self._name, death.queue, death.size, self._caller.terms.body_max, fate),
        )

    def _buried(self, answer: Published | None) -> None:
        if answer is not None:
            for error in answer.errors.values():
                logger.error("%s: a dead letter could not be stored, its message is kept: %s", self._name, error)
            self.attend(answer.deaths, answer.next_timer)

    def decoded(self, queue: str, claim: int, raw: bytes, *, counted: bool = False) -> Envelope | None:
        """Read a claimed message; one that can't be read is put aside, one that is too large is discarded."""
        try:
            envelope = decode(raw, queue=queue, counted=counted)
        except UndecodableEnvelope as error:
            self._put_aside(queue, claim, error)
            return None
        body_max = self._caller.terms.body_max
        if len(envelope.body) <= body_max:
            return envelope
        # The script can't tell when the body is written as text.
        logger.error(
            "%s: a message in queue %r has %d bytes, where body_max allows %d: it is rejected."
            " Raise body_max to receive such messages",
            *(self._name, queue, len(envelope.body), body_max),
        )
        if claim:
            self.settle(Decision.DISCARD, [claim])
        return None

    def _put_aside(self, queue: str, claim: int, error: UndecodableEnvelope) -> None:
        where = f"put aside, in list {self._caller.terms.layout.namespace.decode()}undecodable"
        fate = where if claim else "dropped (no_ack)"
        logger.error("%s: a message in queue %r can't be read; it is %s: %s", self._name, queue, fate, error)
        if claim:
            self._caller.submit(consuming.quarantine(claim), lambda _: None)
