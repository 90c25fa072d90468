"""The two lives of an AMQP connection, as tables: a missing key is an illegal transition.

Spec: AMQP 0-9-1, sections 1.4 (connection) and 1.5 (channel) of the XML-defined class reference;
their grammars are these tables.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from .errors import LocalProtocolError, PeerProtocolError

__all__ = ["ChannelState", "ChannelStep", "ConnectionState", "ConnectionStep", "channel_after", "connection_after"]


class _Symbol(Enum):
    """A state or step.  Members are singletons; their identity hashes faster than their name (hot path)."""

    __hash__ = object.__hash__


class ConnectionState(_Symbol):
    """Where a connection is between the protocol header and close-ok."""

    IDLE = "idle"
    AWAITING_START = "awaiting start"
    AWAITING_TUNE = "awaiting tune"
    AWAITING_OPEN = "awaiting open-ok"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class ConnectionStep(_Symbol):
    """What moves a connection; those named ``WE_`` are ours, the others the broker's."""

    WE_GREET = "protocol header"
    WE_USE = "a method outside connection's class"
    WE_CLOSE = "our connection.close"
    START = "connection.start"
    SECURE = "connection.secure"
    TUNE = "connection.tune"
    OPENED = "connection.open-ok"
    BLOCKING = "connection.blocked or connection.unblocked"
    USE = "a frame on a channel"
    CLOSE = "connection.close"
    CLOSED = "connection.close-ok"


class ChannelState(_Symbol):
    """Where a channel is; a number in no state is free."""

    FREE = "free"
    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"


class ChannelStep(_Symbol):
    """What moves a channel; those named ``WE_`` are ours, the others the broker's."""

    WE_OPEN = "our channel.open"
    WE_USE = "a method of ours"
    WE_CLOSE = "our channel.close"
    OPENED = "channel.open-ok"
    USE = "a method or content"
    CLOSE = "channel.close"
    CLOSED = "channel.close-ok"


_C, _S = ConnectionState, ConnectionStep
CONNECTION: Final[dict[tuple[ConnectionState, ConnectionStep], ConnectionState]] = {
    (_C.IDLE, _S.WE_GREET): _C.AWAITING_START,
    (_C.AWAITING_START, _S.START): _C.AWAITING_TUNE,
    (_C.AWAITING_TUNE, _S.SECURE): _C.AWAITING_TUNE,
    (_C.AWAITING_TUNE, _S.TUNE): _C.AWAITING_OPEN,
    (_C.AWAITING_OPEN, _S.OPENED): _C.OPEN,
    (_C.OPEN, _S.WE_USE): _C.OPEN,
    (_C.OPEN, _S.USE): _C.OPEN,
    (_C.OPEN, _S.BLOCKING): _C.OPEN,
    # Our goodbye, at any point after the broker's first word.
    (_C.AWAITING_TUNE, _S.WE_CLOSE): _C.CLOSING,
    (_C.AWAITING_OPEN, _S.WE_CLOSE): _C.CLOSING,
    (_C.OPEN, _S.WE_CLOSE): _C.CLOSING,
    (_C.CLOSING, _S.CLOSED): _C.CLOSED,
    # What crosses our goodbye on the wire is discarded, but legal.
    (_C.CLOSING, _S.USE): _C.CLOSING,
    (_C.CLOSING, _S.BLOCKING): _C.CLOSING,
    (_C.CLOSING, _S.SECURE): _C.CLOSING,
    (_C.CLOSING, _S.TUNE): _C.CLOSING,
    (_C.CLOSING, _S.OPENED): _C.CLOSING,
    # The broker's goodbye: 403 and 530 come during the handshake.
    (_C.AWAITING_TUNE, _S.CLOSE): _C.CLOSED,
    (_C.AWAITING_OPEN, _S.CLOSE): _C.CLOSED,
    (_C.OPEN, _S.CLOSE): _C.CLOSED,
    (_C.CLOSING, _S.CLOSE): _C.CLOSED,
}

_H, _T = ChannelState, ChannelStep
CHANNEL: Final[dict[tuple[ChannelState, ChannelStep], ChannelState]] = {
    (_H.FREE, _T.WE_OPEN): _H.OPENING,
    (_H.OPENING, _T.OPENED): _H.OPEN,
    (_H.OPENING, _T.CLOSE): _H.FREE,
    (_H.OPENING, _T.WE_CLOSE): _H.CLOSING,
    (_H.OPEN, _T.WE_USE): _H.OPEN,
    (_H.OPEN, _T.USE): _H.OPEN,
    (_H.OPEN, _T.WE_CLOSE): _H.CLOSING,
    (_H.OPEN, _T.CLOSE): _H.FREE,
    # What crosses our close on the wire is discarded, but legal; both sides may close at once.
    (_H.CLOSING, _T.OPENED): _H.CLOSING,
    (_H.CLOSING, _T.USE): _H.CLOSING,
    (_H.CLOSING, _T.CLOSE): _H.CLOSING,
    (_H.CLOSING, _T.CLOSED): _H.FREE,
}


def connection_after(state: ConnectionState, step: ConnectionStep) -> ConnectionState:
    """Return the state after ``step``; raise the error of the side that must not take it now."""
    try:
        return CONNECTION[state, step]
    except KeyError:
        if step.name.startswith("WE_"):
            raise LocalProtocolError(f"{step.value} is not possible while the connection is {state.value}") from None
        raise PeerProtocolError(503, f"{step.value} came while the connection was {state.value}") from None


def channel_after(number: int, state: ChannelState, step: ChannelStep) -> ChannelState:
    """Return the state of channel ``number`` after ``step``; raise the error of the side at fault."""
    try:
        return CHANNEL[state, step]
    except KeyError:
        if step.name.startswith("WE_"):
            raise LocalProtocolError(f"{step.value} is not possible while channel {number} is {state.value}") from None
        raise PeerProtocolError(504, f"{step.value} came while channel {number} was {state.value}") from None
