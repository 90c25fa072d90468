"""What the server has said of one channel's publishes, and the decisions that wait for that."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import trio
from amqp import exceptions as amqp_errors
from amqp import spec as amqp_spec

from ..._values.model import Returned
from ...protocols.redis.preparing import PreparedMessage
from ...protocols.redis.publish_calls import Code
from ...protocols.virtual._errors import Named, access_refused, named_method, not_found
from .._waiting import Ending
from .publishing import Answer
from .settling import Decision

__all__ = ["Confirms"]

HOST: Final = "0"


class Confirms:
    """Numbers the publishes of a channel from 1 (RabbitMQ, "Publisher Confirms").

    A decision (ack, reject, requeue) that follows publishes is given to ``settle`` when they have been answered: a
    worker that publishes its result and then acks must not lose both.
    """

    def __init__(self, ending: Ending, settle: Callable[[Decision, list[int]], None]) -> None:
        self.published = 0
        """The number of the last publish."""
        self._answered = 0
        self._ending = ending
        self._settle = settle
        self._held_back: deque[tuple[int, Decision, list[int]]] = deque()
        """Each with the number of the publish before it."""
        self._all_answered = trio.Event()
        self._on_confirm: Callable[[int, bool, bool], None] | None = None
        self._on_return: Callable[[Returned], None] | None = None
        self._on_refused: Callable[[int, BaseException], None] | None = None

    def select(
        self,
        on_confirm: Callable[[int, bool, bool], None],
        on_return: Callable[[Returned], None],
        on_refused: Callable[[int, BaseException], None] | None,
    ) -> None:
        """Whom to tell; see ``LinkChannel.confirm_select``."""
        self._on_confirm, self._on_return, self._on_refused = on_confirm, on_return, on_refused

    def next_number(self) -> int:
        """Number one more publish."""
        self.published += 1
        return self.published

    async def wait_answered(self) -> None:
        """Wait until everything published has been answered, or the channel is dead."""
        while self._answered < self.published and self._ending.reason is None:
            if self._all_answered.is_set():
                self._all_answered = trio.Event()
            await self._all_answered.wait()

    def settle(self, decision: Decision, claims: list[int]) -> None:
        """Carry out what was decided about claims, after the publishes before it."""
        if self._answered < self.published:
            self._held_back.append((self.published, decision, claims))
        else:
            self._settle(decision, claims)

    def answered_up_to(self, number: int) -> None:
        """Nothing up to this number is on its way any more."""
        self._answered = number
        self._release()
        if number == self.published:
            self._all_answered.set()

    def tell(self, publishes: Sequence[Answer]) -> BaseException | None:
        """Tell what became of some publishes; returns what the channel dies of, if it does."""
        confirm = self._on_confirm
        if self._ending.reason is not None or confirm is None:
            return None
        if not any(code for _, code, _ in publishes):
            confirm(publishes[-1][0].tag, True, True)
            return None
        fatal: BaseException | None = None
        for publish, code, unstored in publishes:
            if code == Code.NO_ROUTE and publish.prepared.mandatory and self._on_return is not None:
                self._on_return(publish.prepared.returned())
            death = refusal(publish.prepared, code)
            error = unstored or death
            if error is None:
                confirm(publish.tag, False, code != Code.REFUSED)
                continue
            if self._on_refused is not None:
                self._on_refused(publish.tag, error)
            fatal = fatal or death
        return fatal

    def before_end(self) -> None:
        """The channel is about to die: what need not wait any longer is carried out."""
        self._release()

    def end(self) -> None:
        """The channel is dead: what is held back is decided about nobody's messages."""
        self._held_back.clear()
        self._all_answered.set()

    def _release(self) -> None:
        held = self._held_back
        while held and held[0][0] <= self._answered:
            _, decision, claims = held.popleft()
            self._settle(decision, claims)


def refusal(message: PreparedMessage, code: int) -> BaseException | None:
    """What the broker closes a channel with over a publish; None when it doesn't."""
    what = Named("exchange", message.exchange, HOST)
    if code == Code.NO_EXCHANGE:
        error: amqp_errors.AMQPError = not_found(what)
    elif code == Code.INTERNAL:
        error = access_refused(f"cannot publish to internal {what}")
    else:
        return None
    reason: BaseException = named_method(error, *amqp_spec.Basic.Publish)
    return reason
