"""What may be asked of a program that runs, by name.  What it does is ``Program``'s; this reads requests for it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import attrs
import trio

from ..fleet.program import Program
from ..hosting.depths import DepthSampler
from .answers import DepthsFrame, Frame, HealthAnswer, StatusAnswer
from .broker_verbs import BROKER_VERBS, BrokerVerb
from .requests import Arguments

__all__ = ["VERBS", "Asked", "Steered", "Verb"]

INTERVAL = 1.0
"""Seconds between frames for whoever watches."""


@attrs.frozen(eq=False)
class Steered:
    """What all requests over one control socket are about."""

    program: Program
    control: str
    """The path of the socket."""
    depths: DepthSampler
    """Which somebody runs."""


@attrs.frozen(kw_only=True)
class Asked:
    """A request."""

    steered: Steered
    arguments: Arguments
    tell: Callable[[Mapping[str, object]], Awaitable[None]]
    """Sends a line before the answer."""

    @property
    def program(self) -> Program:
        """The program that it is about."""
        return self.steered.program


Verb = Callable[[Asked], Awaitable[object]]


async def status(asked: Asked) -> StatusAnswer:
    """How all of it stands, and where it is steered."""
    return {**asked.program.status().to_dict(), "control": asked.steered.control}


async def health(asked: Asked) -> HealthAnswer:
    """READY or not, and why."""
    found = asked.program.status()
    return {"fleet": found.fleet, "state": found.state.value, "ready": found.ready, "reasons": list(found.reasons)}


async def watch(asked: Asked) -> None:
    """A frame each ``interval`` seconds, until the asker leaves: the status, and what waits in the queues."""
    interval = asked.arguments.number("interval", least=0.1) or INTERVAL
    latest: DepthsFrame = {"depths": None, "why_no_depths": None}
    async with trio.open_nursery() as nursery:
        if asked.arguments.flag("depths"):
            nursery.start_soon(follow_depths, asked.steered.depths, latest, interval)
        while True:
            frame: Frame = {**await status(asked), **latest}
            await asked.tell({"item": frame})
            await trio.sleep(interval)


async def follow_depths(depths: DepthSampler, latest: DepthsFrame, interval: float) -> None:
    """Keep the depths of the queues up to date, some seconds old at most; None while there is no broker to tell."""
    while True:
        found = await depths.get()
        latest["depths"] = None if found is None else found.to_dict()
        latest["why_no_depths"] = depths.why
        await trio.sleep(interval)


async def events(asked: Asked) -> None:
    """What happens from now on, each as it happens, until the asker leaves or the program has ended.

    The first record says that it listens.
    """
    async with asked.program.events() as stream:
        await asked.tell({"item": {"event": "listening", "path": "", "process": None, "wall": time.time()}})
        async for event in stream:
            await asked.tell({"item": event.to_dict()})


async def pause(asked: Asked) -> None:
    """Take no more of a queue's messages, in all processes."""
    await asked.program.pause(asked.arguments.text("queue"))


async def resume(asked: Asked) -> None:
    """Go on with a queue."""
    await asked.program.resume(asked.arguments.text("queue"))


async def restart(asked: Asked) -> None:
    """Restart an actor."""
    await asked.program.restart(asked.arguments.text("path"), asked.arguments.count("process"))


async def reload(asked: Asked) -> None:
    """Replace the processes, one after the other."""
    await asked.program.reload()


async def stop(asked: Asked) -> None:
    """Drain, or end at once."""
    at_once = asked.arguments.flag("now")
    asked.program.stop("it was told to over the control socket", at_once=at_once)


async def at_broker(verb: BrokerVerb, asked: Asked) -> object:
    """What concerns the broker more than the processes."""
    return await verb(asked.program.fleet, asked.arguments)


VERBS: Mapping[str, Verb] = {
    "status": status,
    "health": health,
    "watch": watch,
    "events": events,
    "pause": pause,
    "resume": resume,
    "restart": restart,
    "reload": reload,
    "stop": stop,
    **{name: partial(at_broker, verb) for name, verb in BROKER_VERBS.items()},
}
