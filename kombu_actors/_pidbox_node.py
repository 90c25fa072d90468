"""Who listens for commands; ``pidbox`` has it as ``Node``."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from .clocks import LamportClock
from .log import get_logger
from .matcher import match
from .messaging import Consumer as _Consumer
from .utils.functional import reprcall

if TYPE_CHECKING:
    from ._facade.channel import Channel
    from ._facade.consumer import Callback
    from .message import Message
    from .pidbox import Mailbox

H = TypeVar("H", bound=Callable[..., object])

__all__ = ["Handler", "Node", "logger"]

logger = get_logger("kombu_actors.pidbox")

Handler = Callable[..., object]
"""``handler(state, **arguments)``; what it returns is the reply."""


class Node:
    """Somebody in a mailbox: a host name, handlers of commands by name, and a ``state`` that each of them gets."""

    def __init__(
        self,
        hostname: str | None,
        state: object = None,
        channel: Channel | None = None,
        handlers: Mapping[str, Handler] | None = None,
        mailbox: Mailbox | None = None,
    ) -> None:
        self.hostname = hostname
        self.state = state
        self.channel = channel
        self.mailbox: Any = mailbox
        self.handlers: dict[str, Handler] = dict(handlers or {})
        self.adjust_clock = mailbox.clock.adjust if mailbox is not None else LamportClock().adjust

    def Consumer(
        self,
        channel: Channel | None = None,
        no_ack: bool = True,
        accept: Collection[str] | None = None,
        **options: Any,
    ) -> _Consumer:
        """A consumer of this node's commands; further keywords are ``Consumer``'s.  Warns when there is one already."""
        queue = self.mailbox.get_queue(self.hostname)

        def look_for_others(name: str, messages: int, consumers: int) -> None:
            if consumers:
                warnings.warn(
                    f"another node named {self.hostname} is consuming from {name}: one of the two will not hear "
                    "of each command; give each node a name of its own",
                    stacklevel=2,
                )

        queue.on_declared = look_for_others
        accept = self.mailbox.accept if accept is None else accept
        channel = channel or self.channel
        return _Consumer(channel, [queue], no_ack=no_ack, accept=accept, **options)

    def handler(self, fun: H) -> H:
        """Have a function carry out the command of its name; also a decorator."""
        self.handlers[fun.__name__] = fun
        return fun

    def on_decode_error(self, message: Message, exc: BaseException) -> None:
        """A command could not be decoded: it is logged, and nothing else happens."""
        logger.error("Cannot decode message: %r (%r)", exc, message)

    def listen(self, channel: Channel | None = None, callback: Callback | None = None) -> _Consumer:
        """Consume commands; each is carried out, or ``callback(body, message)`` called, where events are drained."""
        consumer = self.Consumer(
            channel=channel, callbacks=[callback or self.handle_message], on_decode_error=self.on_decode_error
        )
        consumer.consume()
        return consumer

    def dispatch(
        self,
        method: str,
        arguments: Mapping[str, object] | None = None,
        reply_to: Mapping[str, str] | None = None,
        ticket: str | None = None,
        **kwargs: object,
    ) -> object:
        """Carry out a command, reply if asked to, and return the reply; an error is a reply, too."""
        try:
            logger.debug(
                "pidbox received method %s [reply_to:%s ticket:%s]",
                reprcall(method, (), arguments),
                reply_to,
                ticket,
            )
            handle = self.handle_call if reply_to else self.handle_cast
            reply = handle(method, arguments or {})
        except Exception as error:
            logger.error("pidbox command error: %r", error, exc_info=True)
            reply = {"error": repr(error)}
        if reply_to:
            self.reply({self.hostname: reply}, reply_to["exchange"], reply_to["routing_key"], ticket=ticket)
        return reply

    def handle(self, method: str, arguments: Mapping[str, object] | None = None) -> object:
        """Call a command's handler; raises ``KeyError`` when there is none."""
        return self.handlers[method](self.state, **(arguments or {}))

    def handle_call(self, method: str, arguments: Mapping[str, object]) -> object:
        """``handle`` for a command whose sender waits for the reply."""
        return self.handle(method, arguments)

    def handle_cast(self, method: str, arguments: Mapping[str, object]) -> object:
        """``handle`` for a command whose sender waits for nothing."""
        return self.handle(method, arguments)

    def handle_message(self, body: Mapping[str, Any], message: Message | None = None) -> object:
        """Carry out the command in a message, if it is for this node: by name, by pattern, or for all."""
        if message is not None:
            self.adjust_clock((message.headers or {}).get("clock") or 0)
        destination, pattern, matcher = (body.get(key) for key in ("destination", "pattern", "matcher"))
        if destination:
            wanted = self.hostname in destination
        elif pattern and matcher:
            wanted = bool(match(self.hostname or "", pattern, matcher))
        else:
            wanted = True
        return self.dispatch(**body) if wanted else None

    dispatch_from_message = handle_message

    def reply(self, data: object, exchange: str, routing_key: str, ticket: str | None, **kwargs: object) -> None:
        """Send a reply to where a command said."""
        self.mailbox._publish_reply(
            data, exchange, routing_key, ticket, channel=self.channel, serializer=self.mailbox.serializer, **kwargs
        )
