"""One client's connection as the broker sees it, and what the broker has to tell it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs
from amqp.exceptions import AMQPError

from ._channel import Channel
from ._effects import Confirmed, Effect, MessageDelivered, SessionBlocked, SessionClosed

if TYPE_CHECKING:
    from ._broker import VirtualBroker

OUTGOING_LIMIT: Final = 1_000
"""Deliveries that may wait for a client to read them.  Stands for the socket buffers and credit that
stop RabbitMQ from delivering to a connection nobody reads; large enough for full batches."""
OUTGOING_BYTES: Final = 16 * 1024 * 1024
"""Bytes of their bodies, for the same reason: half an inbox.  The delivery that exceeds them is the last."""


@attrs.define(eq=False)
class Session:
    """Owns its channels and what has to be told to its client, in order.

    ``effects`` is bounded by ``OUTGOING_LIMIT`` deliveries and ``OUTGOING_BYTES``, and else by what the
    client itself asked for and did not collect.
    """

    broker: VirtualBroker
    user: str
    receiver: Any
    """The driver's own; opaque here."""
    channels: dict[int, Channel] = attrs.field(factory=dict)
    effects: list[Effect] = attrs.field(factory=list)
    outgoing: int = 0
    """Deliveries among the effects."""
    outgoing_bytes: int = 0
    """Bytes of their bodies."""
    blocked: bool = False
    """The broker does not read from it: it published during an alarm."""
    closed: bool = False

    def open_channel(self, number: int) -> Channel:
        """Open channel ``number``, which the driver knows to be free."""
        channel = self.channels[number] = Channel(self, number)
        return channel

    @property
    def is_full(self) -> bool:
        """Whether as many deliveries wait for the client as may."""
        return self.outgoing >= OUTGOING_LIMIT or self.outgoing_bytes >= OUTGOING_BYTES

    def emit(self, effect: Effect) -> None:
        """Tell the client something; the driver learns from ``broker.woken`` that there is news."""
        if not self.effects:
            self.broker.woken.append(self)
        self.effects.append(effect)

    def take_effects(self) -> list[Effect]:
        """Take everything there is to tell, and let its consumers have more."""
        effects = self.effects
        self.effects = []
        for effect in effects:
            if isinstance(effect, MessageDelivered):
                effect.consumer.batch = None
            elif isinstance(effect, Confirmed):
                effect.channel.end_confirm_run()
        was_full = self.is_full
        self.outgoing = self.outgoing_bytes = 0
        if was_full and not self.closed:
            for channel in list(self.channels.values()):
                channel.resume_consumers()
            self.broker.settle()
        return effects

    def block(self, reason: str | None) -> None:
        """Stop reading from this client, or go on (None)."""
        if self.blocked is not (reason is not None):
            self.blocked = reason is not None
            self.emit(SessionBlocked(reason))

    def fail(self, error: AMQPError) -> None:
        """Close the connection because of an error, and say so."""
        if not self.closed:
            self.close()
            self.emit(SessionClosed(error))

    def close(self) -> None:
        """End it: what was unacknowledged goes back, what was exclusive goes away."""
        if self.closed:
            return
        self.closed = True
        for channel in list(self.channels.values()):
            channel.close()
        self.broker.forget_session(self)
        self.broker.settle()
