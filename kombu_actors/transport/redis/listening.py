"""What the server says unasked: lists that have changed, words to waiting claimers, broadcasts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final

import trio

from ..._logs import get_logger
from ...errors import BrokerUnreachable, ConnectionLost
from ...protocols.redis.consuming_calls import read_topics
from .caller import Caller
from .errors import Consequence, ErrorReply, consequence_of, translate, without_arguments
from .schedule import Schedule
from .wire import Argument, RedisWire

if TYPE_CHECKING:
    from .claims import Claimer
    from .dial import OpenedWire
    from .link import RedisLink

__all__ = ["Listening", "Sentry"]


logger = get_logger("kombu_actors.redis")

POLL: Final = 0.1
"""Seconds between two looks at lists of which the server doesn't tell when they change."""
POLLED_PER_SECOND: Final = 20_000
"""Lists looked at by one link, at most: 1 % of the server's time.  Who watches more looks less often."""


VAIN_MAX: Final = 10
"""Claims in a row that brought nothing, after which the server isn't believed when it says that a list changed: it says
so of lists it has no room to remember (``tracking-table-max-keys``).  Two sentries that are told of the same message
come in vain as well, but hardly as often in a row."""


class Sentry:
    """The queues that one claimer watches: it is woken when something is put into one of their lists."""

    def __init__(self, claimer: Claimer, listening: Listening) -> None:
        self._claimer = claimer
        self._listening = listening
        self._lists: dict[str, tuple[bytes, ...]] = {}
        self._vain: dict[str, int] = {}
        """By queue: claims in a row that brought nothing, though it was to be watched."""

    def watch(self, queue: str, lists: tuple[bytes, ...]) -> None:
        """Watch one more; it was empty just now."""
        vain = self._vain[queue] = self._vain.get(queue, 0) + 1
        self._lists[queue] = lists
        self._listening.watch(self._claimer, queue, lists, patiently=vain > VAIN_MAX)

    def leave(self, queue: str) -> None:
        """Watch this one no longer, as it is being claimed from."""
        if queue in self._lists:
            self._listening.forget(self._claimer, queue, self._lists.pop(queue))

    def served(self, queues: Iterable[str]) -> None:
        """There was something in these: it was right to say so."""
        for queue in queues:
            self._vain.pop(queue, None)

    def forget(self, queue: str) -> None:
        """Nobody consumes from it any more."""
        self.leave(queue)
        self._vain.pop(queue, None)

    def end(self) -> None:
        """Watch none."""
        for queue in tuple(self._lists):
            self.forget(queue)


class Listening:
    """The listener's connection of one link, and the lists whose sentries its claimers are.

    It is dialled for the first who consumes: many programs only publish.

    The server tells when a list changes (``CLIENT TRACKING``).  Where it may not be asked to, or forgets what it was
    asked (``tracking-table-max-keys``), the lists are looked at, ``POLL`` seconds apart.
    """

    def __init__(
        self, caller: Caller, link: RedisLink, schedule: Schedule, dial: Callable[[], Awaitable[OpenedWire]]
    ) -> None:
        self._caller = caller
        self._link = link
        self._schedule = schedule
        self._dial = dial
        self.words = caller.terms.layout.namespace + b"wake." + caller.terms.owner.encode()
        """The topic of words to our claimers."""
        self._there: trio.Event | None = None
        """Set when the server talks to us over the connection, and when the link is dead; None until it is wanted."""
        self._tracks = True
        self._polled: dict[tuple[Claimer, str], tuple[bytes, ...]] = {}
        self._sentries: dict[bytes, dict[Claimer, str]] = {}

    # -- the connection --------------------------------------------------------------------------

    async def wait_there(self) -> None:
        """Have the connection dialled, unless it is there, and return when the server talks to us over it.

        Raises:
            why the link died over it, if it did.
        """
        self._caller.ending.check()
        if self._there is None:
            self._there = trio.Event()
            self._schedule.bring_forward("listen", trio.current_time())
        if not self._there.is_set():
            await self._there.wait()
        self._caller.ending.check()

    async def connect(self) -> RedisWire:
        """Dial the connection, and ask for what is to be told over it: changed lists, and words to our claimers.

        Raises:
            ConnectionLost: it can't be had, or leads to another server; AccessRefused: not any more; why the link died.
        """
        try:
            opened = await self._dial()
        except BrokerUnreachable as error:
            raise ConnectionLost(f"the session needs a second connection, as something is consumed: {error}") from error
        wire = self._caller.wires.listener = opened.wire
        self._caller.ending.check()
        if opened.server.run_id != self._caller.terms.run_id:
            raise ConnectionLost(f"{wire.name} is another server by now: its primary has changed")
        wire.on_push = self._pushed
        self._begin(wire)
        return wire

    def end(self) -> None:
        """The link is dead, and nobody waits for the connection."""
        if self._there is not None:
            self._there.set()

    def _begin(self, wire: RedisWire) -> None:
        def tracks(reply: object) -> None:
            if not isinstance(reply, ErrorReply):
                return
            if consequence_of(reply.text) is not Consequence.NONE:
                self._caller.kill(translate(reply.text, "CLIENT TRACKING"))
                return
            self._tracks = False
            logger.info(
                "%s: looks for messages every %g s, as the server may not tell of them (CLIENT TRACKING: %s)",
                *(wire.name, POLL, without_arguments(reply.text)),
            )

        def listens(reply: object) -> None:
            if isinstance(reply, ErrorReply):
                self._caller.kill(translate(reply.text, "SUBSCRIBE"))
            elif reply is None and self._there is not None:
                self._there.set()
                self._schedule.bring_forward("beat", trio.current_time())  # who consumes has promises to make

        wire.send(("CLIENT", "TRACKING", "ON"), tracks)
        wire.send(("SUBSCRIBE", self.words), listens)

    # -- sentries --------------------------------------------------------------------------------

    def watch(self, claimer: Claimer, queue: str, lists: tuple[bytes, ...], *, patiently: bool) -> None:
        """Wake a claimer when one of a queue's lists changes; at once, if one holds something now.

        ``patiently``: being told was of no use lately, so they are looked at for once.
        """
        if self._tracks and not patiently:
            for key in lists:
                self._sentries.setdefault(key, {})[claimer] = queue
            self._ask(("EXISTS", *lists), partial(self._looked, claimer, queue))
        else:
            self._polled[claimer, queue] = lists
            self._schedule.bring_forward("poll", trio.current_time() + POLL)

    def forget(self, claimer: Claimer, queue: str, lists: Iterable[bytes]) -> None:
        """Wake it no longer for this one."""
        self._polled.pop((claimer, queue), None)
        for key in lists:
            claimers = self._sentries.get(key)
            if claimers is not None:
                claimers.pop(claimer, None)
                if not claimers:
                    del self._sentries[key]

    def poll(self, now: float) -> None:
        """Look at the lists of which the server tells nothing: at all at once, and at each if one has something."""
        self._schedule.poll = inf
        lists = [key for each in self._polled.values() for key in each]
        if lists and self._caller.serves(self._caller.wires.main):
            self._caller.wires.main.send(("EXISTS", *lists), self._polled_some)
            self._schedule.bring_forward("poll", now + max(POLL, len(lists) / POLLED_PER_SECOND))

    def _polled_some(self, found: object) -> None:
        main = self._caller.wires.main
        for (claimer, queue), lists in tuple(self._polled.items()) if isinstance(found, int) and found else ():
            if self._caller.serves(main):
                main.send(("EXISTS", *lists), partial(self._looked, claimer, queue))

    def _looked(self, claimer: Claimer, queue: str, found: object) -> None:
        if isinstance(found, int) and found:
            self._polled.pop((claimer, queue), None)
            claimer.woken([queue])

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

        def answered(reply: object) -> None:
            done(translate(reply.text, f"{command} {pattern.decode()}") if isinstance(reply, ErrorReply) else None)

        wire = self._caller.wires.listener
        if wire is not None and self._caller.serves(wire):
            wire.send((command, pattern), answered)

    def _ask(self, command: tuple[str, *tuple[Argument, ...]], done: Callable[[Any], None]) -> None:
        """Ask something over the connection that is told of changes.  Who can't ask would be deaf: the link dies."""

        def answered(reply: object) -> None:
            if isinstance(reply, ErrorReply):
                self._caller.kill(translate(reply.text, command[0]))
            elif not isinstance(reply, BaseException):
                done(reply)

        wire = self._caller.wires.listener
        if wire is not None and self._caller.serves(wire):
            wire.send(command, answered)

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
