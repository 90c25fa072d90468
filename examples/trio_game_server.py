"""A game server: each room is an actor; a bug in one costs that room a moment, and the others nothing.

    python examples/trio_game_server.py

Scores live above the rooms, so a room that is started again has them.
"""

from __future__ import annotations

import logging
from functools import partial

import attrs
import trio

from kombu_actors.supervisors import (
    ActorContext,
    ActorDown,
    ActorRef,
    ChildSpec,
    Restart,
    RestartLimit,
    Supervisor,
    SupervisorSpec,
    open_supervisor,
)


@attrs.frozen
class Hit:
    """A player scores."""

    player: str
    points: int


class Close:
    """The game is over."""


Scores = dict[str, int]


async def room(scores: Scores, ctx: ActorContext) -> None:
    """One game.  It ends by returning, which a TRANSIENT child may."""
    ctx.ready()
    async for envelope in ctx.mailbox:
        if isinstance(envelope.message, Close):
            envelope.reply(dict(scores))
            return
        hit: Hit = envelope.message
        if hit.points < 0:
            raise ValueError(f"{hit.player} scores {hit.points}: nobody thought of that")
        scores[hit.player] = scores.get(hit.player, 0) + hit.points
        envelope.reply(scores[hit.player])


class Server:
    """Opens rooms, and passes on what players do."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor

    async def open_room(self, name: str) -> ActorRef:
        start = partial(room, {})
        spec = ChildSpec(id=name, start=start, restart=Restart.TRANSIENT, mailbox=100)
        return await self.supervisor.start_child(spec)

    async def play(self, room: ActorRef, *hits: Hit) -> list[str]:
        """The answers; a hit that crashes its room is not played again."""
        answers = []
        for hit in hits:
            try:
                answers.append(f"{hit.player} has {await room.ask(hit)}")
            except ActorDown:
                answers.append(f"{hit.player}'s move was not understood")
        return answers


async def main() -> None:
    logging.getLogger("kombu_actors.supervisors").setLevel(logging.CRITICAL)  # the crash below is on purpose
    limit = RestartLimit(max_restarts=None)  # one room's bugs are no reason to close the others
    async with open_supervisor(SupervisorSpec(id="games", limit=limit)) as supervisor:
        server = Server(supervisor)
        rooms = [await server.open_room(f"room-{number}") for number in range(1000)]
        print(f"{len(supervisor.children())} rooms are open")
        print(*await server.play(rooms[0], Hit("ann", 3), Hit("bob", -1), Hit("ann", 4)), sep="\n")
        print(*await server.play(rooms[1], Hit("eve", 10)), sep="\n")
        restarted = [view.id for view in supervisor.snapshot().children if view.restarts]
        print("final:", await rooms[0].ask(Close()))
        print("restarted:", *restarted)


if __name__ == "__main__":
    trio.run(main)
