"""The keeper of a link: serves its wires, renews its lease, does what is due, and gives back what dead links held."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from math import inf
from typing import Final

import trio

from ..._logs import get_logger
from ...errors import ConnectionBlocked, ConnectionClosed, ConnectionLost
from ...protocols.redis import consuming_calls as consuming
from ...protocols.redis.consuming_calls import Beaten, Owner
from .caller import Caller
from .claims import Claimer
from .errors import Consequence, ErrorReply, consequence_of
from .listening import Listening
from .publishing import Publishing
from .schedule import LATER, Schedule
from .settling import Settling
from .wire import RedisWire

__all__ = ["Keeper"]

logger = get_logger("kombu_actors.redis")

BEAT: Final = 1.0
"""Seconds between renewals of the lease, which also look for what others left behind: a dead process's messages
are found within some two of them, and 0.1 % of a core pays for it."""
SILENCE: Final = 1.5 * BEAT
"""Seconds without a renewal after which others see if a link's connection is still there."""


class Keeper:
    """What runs for one link: a task, and three for each of its wires.

    ``heartbeat`` is their pulse in seconds; ``lookout`` ends when this server is no longer the primary, and raises
    ``ConnectionLost`` then.  ``consumed`` are the queues that the link consumes from.
    """

    def __init__(
        self,
        caller: Caller,
        schedule: Schedule,
        settling: Settling,
        publishing: Publishing,
        listening: Listening,
        *,
        heartbeat: float,
        lookout: Callable[[], Awaitable[None]] | None,
        consumed: Callable[[], Iterable[str]],
    ) -> None:
        self._caller = caller
        self._schedule = schedule
        self._settling = settling
        self._publishing = publishing
        self._listening = listening
        self._heartbeat = heartbeat
        self._lookout = lookout
        self._consumed = consumed
        self._interval = min(BEAT, caller.terms.options.lease / 3)
        self.runs = False
        """Whether the wires are served, or will be in a turn."""
        self._later: set[Claimer] = set()
        self._refused = False
        """The server takes no writes, and that has been said."""
        self._may_list = True
        """We may ask the server who is connected, as far as is known."""

    def look_later(self, claimer: Claimer) -> None:
        """Have a claimer look in a moment: a little room may become more."""
        self._later.add(claimer)
        self._schedule.bring_forward("later", trio.current_time() + LATER)

    def beat_now(self) -> None:
        """Work is left in the server."""
        self._schedule.bring_forward("timer", trio.current_time())

    def lease_taken(self) -> None:
        """The lease is fresh: it is to be renewed a beat from now."""
        self._schedule.beat = trio.current_time() + self._interval

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Serve the wires and act on the schedule until the link is dead; a no-op while that is done already."""
        if self.runs:
            return
        self.runs = True
        try:
            async with trio.open_nursery() as nursery:
                for wire in self._caller.wires.all():
                    self._serve_wire(nursery, wire)
                if self._lookout is not None:
                    nursery.start_soon(self._look_out, self._lookout)
                while not self._caller.dead:
                    self._act(nursery, trio.current_time())
                    await self._schedule.wait()
                nursery.cancel_scope.cancel()
        finally:
            self.runs = False

    def _act(self, nursery: trio.Nursery, now: float) -> None:
        schedule = self._schedule
        if now >= schedule.later:
            self._do_small_things()
        if now >= min(schedule.beat, schedule.timer):
            self._beat(now)
        if now >= schedule.poll:
            self._listening.poll(now)
        if now >= schedule.listen:
            schedule.listen = inf
            nursery.start_soon(self._listen, nursery)

    def _serve_wire(self, nursery: trio.Nursery, wire: RedisWire) -> None:
        for serve in (wire.run_reader, wire.run_writer, partial(wire.run_pulse, self._heartbeat)):
            nursery.start_soon(self._serve, wire, serve)

    @trio.lowlevel.enable_ki_protection
    async def _serve(self, wire: RedisWire, serve: Callable[[], Awaitable[None]]) -> None:
        try:
            await serve()
        except Exception as error:
            self._caller.kill(error)
        self._caller.serves(wire)  # no longer: the link dies with it

    @trio.lowlevel.enable_ki_protection
    async def _listen(self, nursery: trio.Nursery) -> None:
        try:
            wire = await self._listening.connect()
        except Exception as error:
            self._caller.kill(error)
        else:
            self._serve_wire(nursery, wire)

    @trio.lowlevel.enable_ki_protection
    async def _look_out(self, until_moved: Callable[[], Awaitable[None]]) -> None:
        try:
            await until_moved()
        except ConnectionLost as moved:
            self._caller.kill(moved)

    def _do_small_things(self) -> None:
        self._schedule.later = inf
        self._settling.settle_now()
        claimers, self._later = self._later, set()
        for claimer in claimers:
            claimer.look_now()

    def _beat(self, now: float) -> None:
        schedule, options = self._schedule, self._caller.terms.options
        schedule.beat, schedule.timer = now + self._interval, inf
        renew = now >= schedule.renewal
        if renew:
            schedule.renewal = now + options.visibility_timeout / 3
        for act in schedule.take_postponed():
            act()
        self._publishing.try_again()  # after what was decided: publishes that follow it have waited for it
        beat = consuming.beat(options.lease, options.visibility_timeout, renew=renew, queues=self._consumed())
        self._caller.submit(beat, self._beaten, self._not_beaten)

    def _not_beaten(self, error: BaseException) -> None:
        if not (self._caller.dead or isinstance(error, ConnectionClosed)):
            level = logging.DEBUG if self._refused and isinstance(error, ConnectionBlocked) else logging.ERROR
            logger.log(level, "%s: %s", self._caller.wires.main.name, error)
            self._refused = isinstance(error, ConnectionBlocked)

    def _beaten(self, beaten: Beaten) -> None:
        self._refused = False
        self._settling.attend(beaten.deaths, beaten.next_timer)
        if beaten.owners:
            self._look_after(beaten.owners)

    def _look_after(self, others: Sequence[Owner]) -> None:
        """Give back what links hold whose connection is gone: their process died, or dropped them.

        The server's word is needed for that, and that they have missed a beat: behind some services' address are
        several servers, each of which knows of its own connections only.
        """
        silent = [other for other in others if other.silent >= SILENCE]
        run_id, own, main = self._caller.terms.run_id, self._caller.terms.client_id, self._caller.wires.main
        here = [other for other in silent if other.run == run_id or not (other.run and run_id)]
        for other in silent:
            if other not in here:
                self._release(other.owner)

        def listed(reply: object) -> None:
            if isinstance(reply, ErrorReply):
                self._may_list = consequence_of(reply.text) is not Consequence.NONE
            if not isinstance(reply, bytes):
                return  # their leases run out in time
            alive = {line.partition(b" ")[0].removeprefix(b"id=") for line in reply.split(b"\n")}
            if b"%d" % own not in alive:
                return  # a list without ourselves says nothing of others
            for other in here:
                if b"%d" % other.client not in alive:
                    self._release(other.owner)

        if here and self._may_list and self._caller.serves(main):
            main.send(("CLIENT", "LIST", "ID", own, *(other.client for other in here)), listed)

    def _release(self, owner: str) -> None:
        logger.info("%s: giving back what link %s held, whose connection is gone", self._caller.wires.main.name, owner)
        self._caller.submit(consuming.release(owner), lambda _: None)
