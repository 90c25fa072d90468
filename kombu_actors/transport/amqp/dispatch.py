"""What the engine reports, handed to whom it concerns: requests, channels, watchers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from amqp import exceptions as amqp_errors

from ...errors import ConnectionClosed, ConnectionLost
from ...protocols.amqp import events
from ...protocols.amqp.errors import PeerProtocolError
from .._alarm import Alarm
from .._waiting import EndedByCall
from .channel import AMQPChannel
from .declaring import waiter

__all__ = ["AMQPDispatcher", "parted"]


def parted(name: str) -> ConnectionClosed:
    """The reason of a connection that this side closed."""
    return ConnectionClosed(f"you closed the connection to {name}")


class AMQPDispatcher:
    """Owns the channels of one link; ``name`` is the broker's address, for messages."""

    def __init__(self, name: str, alarm: Alarm) -> None:
        self.name = name
        self.channels: dict[int, AMQPChannel] = {}
        self._alarm = alarm

    def end_channels(self, reason: BaseException) -> None:
        """The link is dead, and all its channels with it."""
        for channel in self.channels.values():
            channel.die(reason)
            channel.forget()
        self.channels.clear()

    def handle(self, happened: Sequence[events.Event]) -> BaseException | None:
        """Dispatch events in order; return why the connection is over, or None."""
        channels = self.channels
        for event in happened:
            if type(event) is events.MessageDelivered:  # most are
                channel = channels[event.channel]
                if not channel.deliver(event) and channel.closed is None:
                    text = f"a delivery for consumer {event.consumer_tag!r:.80}, which doesn't exist"
                    raise PeerProtocolError(503, text)
                continue
            reason = _HANDLERS[type(event)](self, event)
            if reason is not None:
                return reason
        return None

    def _on_confirmed(self, event: events.Confirmed) -> None:
        self.channels[event.channel].on_confirmed(event)

    def _on_reply(self, event: events.Replied | events.Got | events.ChannelOpened) -> None:
        waiter(event.token).resolve(event)

    def _on_oversized(self, event: events.Oversized) -> None:
        if event.token is not None:
            waiter(event.token).resolve(event)
        else:
            self.channels[event.channel].on_oversized(event)

    def _on_returned(self, event: events.MessageReturned) -> None:
        self.channels[event.channel].on_returned(event.returned)

    def _on_consumer_cancelled(self, event: events.ConsumerCancelled) -> None:
        self.channels[event.channel].on_cancelled(event.consumer_tag)

    def _on_channel_closed_by_peer(self, event: events.ChannelClosedByPeer) -> None:
        reason = amqp_errors.error_for_code(event.code, event.text, event.method, amqp_errors.ChannelError)
        self._bury(event.channel, reason, event.abandoned)
        self.channels.pop(event.channel).forget()

    def _on_channel_closed(self, event: events.ChannelClosed) -> None:
        self.channels.pop(event.channel).forget()
        self._alarm.change(None, event.channel)

    def _bury(self, number: int, reason: BaseException, abandoned: Sequence[object]) -> None:
        for pending in abandoned:
            waiter(pending).fail(reason)
        self.channels[number].die(reason)
        self._alarm.change(None, number)

    def _on_flow(self, event: events.FlowChanged) -> None:
        reason = None if event.active else f"channel.flow on channel {event.channel}"
        self._alarm.change(reason, event.channel)

    def _on_blocked(self, event: events.ConnectionBlocked) -> None:
        self._alarm.change(event.reason)

    def _on_unblocked(self, event: events.ConnectionUnblocked) -> None:
        self._alarm.change(None)

    def _on_closed_by_peer(self, event: events.ConnectionClosedByPeer) -> BaseException:
        cause = amqp_errors.error_for_code(event.code, event.text, event.method, amqp_errors.ConnectionError)
        reason = ConnectionLost(f"the connection to {self.name} was lost: {event.code} {event.text}")
        reason.__cause__ = cause
        if len(event.blamed) == 1 and isinstance(cause, amqp_errors.IrrecoverableConnectionError):
            answer = EndedByCall(str(reason))
            answer.__cause__ = cause
            waiter(event.blamed[0]).fail(answer)
        return reason

    def _on_goodbye_answered(self, event: events.ConnectionClosed) -> BaseException:
        return parted(self.name)


_HANDLERS: Final[dict[type, Callable[..., BaseException | None]]] = {
    events.Confirmed: AMQPDispatcher._on_confirmed,
    events.Replied: AMQPDispatcher._on_reply,
    events.Got: AMQPDispatcher._on_reply,
    events.ChannelOpened: AMQPDispatcher._on_reply,
    events.MessageReturned: AMQPDispatcher._on_returned,
    events.Oversized: AMQPDispatcher._on_oversized,
    events.ConsumerCancelled: AMQPDispatcher._on_consumer_cancelled,
    events.ChannelClosedByPeer: AMQPDispatcher._on_channel_closed_by_peer,
    events.ChannelClosed: AMQPDispatcher._on_channel_closed,
    events.FlowChanged: AMQPDispatcher._on_flow,
    events.ConnectionBlocked: AMQPDispatcher._on_blocked,
    events.ConnectionUnblocked: AMQPDispatcher._on_unblocked,
    events.ConnectionClosedByPeer: AMQPDispatcher._on_closed_by_peer,
    events.ConnectionClosed: AMQPDispatcher._on_goodbye_answered,
}
