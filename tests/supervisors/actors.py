"""Small actors that tests supervise, and the diary they write."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import trio

from kombu_actors.supervisors import ActorContext, ChildSpec, Event

Start = Callable[[ActorContext], Awaitable[object]]


@attrs.define
class Diary:
    """What happened, in order: ``up a1`` (epoch 1 of a is READY), ``down a1``, ..."""

    lines: list[str] = attrs.field(factory=list)
    events: list[Event] = attrs.field(factory=list)
    fail: dict[str, trio.Event] = attrs.field(factory=dict)

    def note(self, line: str) -> None:
        self.lines.append(line)

    def kinds(self, path: str | None = None) -> list[str]:
        return [type(event).__name__ for event in self.events if path is None or event.path == path]

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def actor(self, *, drain: float = 0.0) -> Start:
        """Serves until it is asked to stop, then drains; fails when ``fail[id]`` is set."""

        async def start(ctx: ActorContext) -> None:
            name = f"{ctx.id}{ctx.epoch}"
            failing = self.fail[ctx.id] = trio.Event()
            try:
                ctx.ready(name)
                self.note(f"up {name}")
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._fail_when, failing, name)
                    await ctx.stopping.wait()
                    await trio.sleep(drain)
                    nursery.cancel_scope.cancel()
            finally:
                self.note(f"down {name}")

        return start

    async def _fail_when(self, failing: trio.Event, name: str) -> None:
        await failing.wait()
        raise OSError(f"{name} broke")

    def child(self, id: str, *, drain: float = 0.0, **options: Any) -> ChildSpec:
        return ChildSpec(id=id, start=self.actor(drain=drain), **options)

    def take(self) -> list[str]:
        lines, self.lines = self.lines, []
        return lines


async def forever(ctx: ActorContext) -> None:
    """READY at once, serves for ever."""
    ctx.ready()
    await trio.sleep_forever()


async def never_ready(ctx: ActorContext) -> None:
    """Hangs in its start."""
    await trio.sleep_forever()


def broken(error: BaseException) -> Start:
    """Fails in its start."""

    async def start(ctx: ActorContext) -> None:
        raise error

    return start


def failing_times(times: int, error: BaseException) -> Start:
    """Fails ``times`` times in its start, then serves."""
    left = iter(range(times))

    async def start(ctx: ActorContext) -> None:
        if next(left, None) is not None:
            raise error
        await forever(ctx)

    return start
