"""Calling scripts: who we are to the server, over which connections, and what its answers mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import attrs
from amqp.exceptions import AMQPError

from ..._logs import get_logger
from ...errors import ConnectionClosed
from ...protocols.redis import publish_calls
from ...protocols.redis.calls import Call
from ...protocols.redis.layout import Layout
from ...protocols.redis.options import RedisOptions
from ...protocols.redis.scripts import ALL_SCRIPTS
from .._waiting import Ending, PendingReply
from .errors import Consequence, ErrorReply, LeaseLost, consequence_of, translate
from .scripting import Scripting
from .wire import RedisWire, parted

__all__ = ["Caller", "Terms", "Wires"]

T = TypeVar("T")

logger = get_logger("kombu_actors.redis")


@attrs.define(eq=False)
class Wires:
    """The connections of one link."""

    main: RedisWire
    publisher: RedisWire
    """The main one, unless publishes are confirmed by replicas."""
    listener: RedisWire | None = None
    """None until something is to be heard over it; ``Listening`` dials it then."""

    def all(self) -> tuple[RedisWire, ...]:
        """Each once."""
        return tuple(dict.fromkeys(wire for wire in (self.main, self.publisher, self.listener) if wire is not None))


@attrs.frozen(eq=False)
class Terms:
    """On which a link uses the server; never changed."""

    owner: str
    """Its id as holder of a lease."""
    run_id: str
    """Which run of the server it is connected to; empty when that may not be known."""
    client_id: int
    """The server's number for the main connection."""
    layout: Layout
    options: RedisOptions
    body_max: int
    """Bytes of the largest body that is received."""
    common: tuple[bytes, ...] = attrs.field(init=False)
    """What every call begins with."""
    settings: publish_calls.Settings = attrs.field(init=False)

    @common.default
    def _call_as_owner(self) -> tuple[bytes, ...]:
        return self.layout.common(self.owner, self.body_max)

    @settings.default
    def _tell_of_options(self) -> publish_calls.Settings:
        return publish_calls.settings(
            self.layout.fanout_start,
            fanout_patterns=self.layout.fanout_patterns,
            deadletter_queue=self.options.deadletter_queue,
        )


class Caller:
    """Sends the calls of one link; ``kill`` ends the link, and ``ending`` says that it has ended."""

    def __init__(self, wires: Wires, terms: Terms, ending: Ending, kill: Callable[[BaseException], None]) -> None:
        self.wires = wires
        self.terms = terms
        self.kill = kill
        self.scripting = Scripting()
        self.parting = False
        """Whether the lease is being given back: what the server then refuses is no loss of it."""
        self.ending = ending

    @property
    def dead(self) -> bool:
        """Whether nothing can be called any more."""
        return self.ending.reason is not None

    def serves(self, wire: RedisWire) -> bool:
        """Whether commands can be sent; a wire that has died takes the link along, before its role tells."""
        if wire.closed is not None:
            self.kill(wire.closed)
        return self.ending.reason is None

    def submit(
        self,
        call: Call[T],
        done: Callable[[T], None],
        failed: Callable[[BaseException], None] | None = None,
        *,
        wire: RedisWire | None = None,
    ) -> None:
        """Call a script; ``done(what it said)`` or ``failed(why not)`` is called once, in the order of the calls."""
        self._send(call, done, failed, wire or self.wires.main, again=False)

    def _send(
        self,
        call: Call[T],
        done: Callable[[T], None],
        failed: Callable[[BaseException], None] | None,
        wire: RedisWire,
        *,
        again: bool,
    ) -> None:
        """``again``: the server has just been given the scripts, because it didn't know this one."""
        if self.serves(wire):
            command = self.scripting.command(call, self.terms.common)
            wire.send(command, partial(self._answered, call, done, failed, wire, again))
        elif failed is not None and self.ending.reason is not None:
            failed(self.ending.reason)

    def _answered(
        self,
        call: Call[T],
        done: Callable[[T], None],
        failed: Callable[[BaseException], None] | None,
        wire: RedisWire,
        again: bool,
        reply: Sequence[object] | BaseException,
    ) -> None:
        error: BaseException
        if not isinstance(reply, BaseException):
            try:
                said = call.parse(*reply)
            except AMQPError as refusal:
                error = refusal
            else:
                done(said)
                return
        elif isinstance(reply, ErrorReply):
            consequence = consequence_of(reply.text)
            if consequence is Consequence.RELOAD:
                if self.scripting.forgotten(again=again):
                    self._load_scripts(wire)
                self._send(call, done, failed, wire, again=True)
                return
            if self.scripting.refused(reply.text):
                self._send(call, done, failed, wire, again=False)
                return
            error = self.scripting.refusal(reply.text) or translate(reply.text, call.script.name)
            if self.parting and isinstance(error, LeaseLost):
                error = parted(wire.name)
            elif consequence is Consequence.LINK_DIES:
                self.kill(error)
        else:
            error = reply
        if failed is not None:
            failed(error)
        elif not (self.dead or isinstance(error, ConnectionClosed)):
            logger.error("%s: %s", wire.name, error)

    def _load_scripts(self, wire: RedisWire) -> None:
        for script in ALL_SCRIPTS.values():
            wire.send(("SCRIPT", "LOAD", script.text), self._loaded)

    def _loaded(self, reply: object) -> None:
        if isinstance(reply, ErrorReply):
            if consequence_of(reply.text) is Consequence.NONE:
                self.scripting.cannot_load()
            else:
                self.kill(translate(reply.text, "SCRIPT LOAD"))

    async def call(self, call: Call[T], *, undo: Callable[[T], None] | None = None) -> T:
        """Call a script and wait for what it says.  Cancelled, what it says goes to ``undo``."""
        self.ending.check()
        pending = PendingReply(undo=undo)
        self.submit(call, pending.resolve, pending.fail)
        return await pending.wait()

    async def first_call(self, call: Call[T]) -> T:
        """``call`` while nobody serves the main wire yet."""
        self.ending.check()
        pending: PendingReply[T] = PendingReply()
        self.submit(call, pending.resolve, pending.fail)
        await self.wires.main.converse()
        return await pending.wait()
