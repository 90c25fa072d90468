"""A publish as kombu's code sees it: what it returns, what it leaves out, and what comes back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from vine import promise

from .._values.model import Delivery, Returned
from ..protocols._content import PROPERTY_NAMES

if TYPE_CHECKING:
    from .._bridge.inbox import Taken
    from .channel import Channel

logger = logging.getLogger("kombu_actors.channel")
NAMES_WARNED_OF = 256
"""Unknown property names that are warned of once each; a program that makes up more is not told of them."""

_warned_of: set[str] = set()


class Kept(Protocol):
    """A promise of kombu's, after a callback was given to it."""

    def then(self, callback: Callable[..., object], on_error: Callable[..., object] | None = None) -> Kept:
        """Call ``callback(result)``, too, with what the callback before it has returned."""


class Accepted:
    """What ``publish`` returns: kombu's promise, kept already, since the connection has accepted the message."""

    __slots__ = ()

    ready = True
    failed = cancelled = False

    def then(self, callback: Callable[..., object], on_error: Callable[..., object] | None = None) -> Kept:
        """Call ``callback()`` now; what is returned has a ``then`` of its own, which gets the callback's result."""
        kept = promise(callback, on_error=on_error)
        kept()
        answer: Kept = kept
        return answer

    def __repr__(self) -> str:
        return "<the publish was accepted>"


ACCEPTED = Accepted()


def without_unknown(properties: Mapping[str, object]) -> dict[str, object]:
    """The properties that AMQP has; warns of the others, once per name."""
    for name in properties.keys() - PROPERTY_NAMES - _warned_of:
        if len(_warned_of) < NAMES_WARNED_OF:
            _warned_of.add(name)
            logger.warning("%r is not a message property of AMQP 0-9-1 and is not sent; is it meant as a header?", name)
    return {name: value for name, value in properties.items() if name in PROPERTY_NAMES}


def returned_delivery(returned: Returned) -> Delivery:
    """A returned message in the form from which the facade's ``Message`` is made; it has no tag and expects no ack."""
    return Delivery("", 0, False, returned.exchange, returned.routing_key, returned.properties, returned.body)


class Returns:
    """Mandatory messages that came back over one channel, in a connection's inbox."""

    __slots__ = ("channel",)

    def __init__(self, channel: int) -> None:
        self.channel = channel

    def dispatch(self, channels: Mapping[int, Channel], taken: Taken) -> bool:
        """Call the channel's callbacks."""
        channel = channels.get(self.channel)
        if channel is None:
            return False
        callbacks = list(channel.events["basic_return"])
        arguments = channel.return_arguments(taken[0][1])
        del taken[:]
        for callback in callbacks:
            callback(*arguments)
        return True
