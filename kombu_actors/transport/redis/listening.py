"""What the server says unasked: lists that have changed, words to waiting claimers, broadcasts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ...protocols.redis.consuming_calls import read_topics
from .caller import Caller
from .errors import ErrorReply, translate

if TYPE_CHECKING:
    from .claims import Claimer
    from .link import RedisLink

__all__ = ["Listening"]


class Listening:
    """The listener's connection of one link, and the lists whose sentries its claimers are."""

    def __init__(self, caller: Caller, link: RedisLink) -> None:
        self._caller = caller
        self._link = link
        self._wire = caller.wires.listener
        self._sentries: dict[bytes, dict[Claimer, str]] = {}
        self._wire.on_push = self._pushed

    async def begin(self) -> None:
        """Have the server tell us of changed lists, and of words to our claimers.

        Raises:
            AccessRefused: the user may not; ConnectionLost: the wire died over it.
        """
        terms = self._caller.terms
        words = terms.layout.namespace + b"wake." + terms.owner.encode()
        for command in (("CLIENT", "TRACKING", "ON"), ("SUBSCRIBE", words)):
            try:
                await self._wire.call(*command)
            except ErrorReply as error:
                raise translate(error.text, command[0]) from None

    # -- sentries --------------------------------------------------------------------------------

    def watch(self, claimer: Claimer, queue: str, lists: tuple[bytes, ...]) -> None:
        """Wake a claimer when one of a queue's lists changes; at once, if one holds something now."""
        for key in lists:
            self._sentries.setdefault(key, {})[claimer] = queue
        self._ask(("EXISTS", *lists), lambda found: claimer.woken([queue]) if found else None)

    def forget(self, claimer: Claimer, lists: Iterable[bytes]) -> None:
        """Wake it no longer for these."""
        for key in lists:
            claimers = self._sentries.get(key)
            if claimers is not None:
                claimers.pop(claimer, None)
                if not claimers:
                    del self._sentries[key]

    def _changed(self, keys: Iterable[bytes] | None) -> None:
        """The server says that these keys changed; None is all of them."""
        queues: dict[Claimer, list[str]] = {}
        for key in list(self._sentries) if keys is None else keys:
            for claimer, queue in self._sentries.get(key, {}).items():
                queues.setdefault(claimer, []).append(queue)
        for claimer, changed in queues.items():
            claimer.woken(changed)

    # -- topics ----------------------------------------------------------------------------------

    def subscribe(
        self, command: str, pattern: bytes, done: Callable[[Exception | None], None] = lambda refusal: None
    ) -> None:
        """``PSUBSCRIBE`` to a pattern of topics, or ``PUNSUBSCRIBE``; ``done`` is told the refusal, if there is one."""

        def answered(reply: Any) -> None:
            refused = isinstance(reply, ErrorReply)
            done(translate(reply.text, f"{command} {pattern.decode()}") if refused else None)

        if self._caller.serves(self._wire):
            self._wire.send((command, pattern), answered)

    def _ask(self, command: tuple[Any, ...], done: Callable[[Any], None]) -> None:
        """Ask something over the connection that is told of changes.  Who can't ask would be deaf: the link dies."""

        def answered(reply: Any) -> None:
            if isinstance(reply, ErrorReply):
                self._caller.kill(translate(reply.text, command[0]))
            elif not isinstance(reply, BaseException):
                done(reply)

        if self._caller.serves(self._wire):
            self._wire.send(command, answered)

    # -- pushes ----------------------------------------------------------------------------------

    def _pushed(self, push: list[Any]) -> None:
        match push:
            case [b"invalidate", keys]:
                self._changed(keys)
            case [b"pmessage", pattern, _, raw]:
                self._link.fanout.heard(pattern, raw)
            case [b"message", _, text]:
                self._told(text.decode())

    def _told(self, text: str) -> None:
        word, _, name = text.partition(" ")
        if word == "w":
            claimer, _, queue = name.partition(" ")
            for channel in self._link.channels():
                channel.deliveries.look(claimer, queue)
        elif word == "b":
            self._link.keeper.beat_now()
        elif word == "x":
            for channel in self._link.channels():
                channel.queue_deleted(name)
        elif word == "f":
            layout = self._caller.terms.layout
            self._ask(
                ("SMEMBERS", layout.namespace + b"fanout." + name.encode()),
                lambda topics: self._link.fanout.changed(name, read_topics(topics, layout.sep)),
            )
