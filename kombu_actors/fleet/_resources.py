"""Resources: each an actor that is READY while it is open."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import trio

from ..supervisors import ActorContext, ActorDown, ActorRef
from ..supervisors._interrupts import protected
from ._cut import Cut
from ._plans import ResourceFunction, ResourcePlan

SUPERVISOR = "resources"
"""The path of those actors' supervisor."""


@attrs.frozen(eq=False)
class Lease:
    """An open resource, until it goes down."""

    name: str
    value: object
    _ref: ActorRef
    _epoch: int

    @property
    def down(self) -> bool:
        """Whether it isn't open any more."""
        try:
            return self._ref.value is not self.value
        except ActorDown:
            return True

    async def wait_down(self) -> None:
        """Wait until it goes down."""
        await self._ref.wait_down(self._epoch)


@protected
class Resources:
    """What handlers, jobs and resources depend on, found by the functions that they name."""

    def __init__(self, plans: Sequence[ResourcePlan]) -> None:
        self._names = {plan.function: plan.name for plan in plans}

    async def lease(self, ctx: ActorContext, functions: Sequence[ResourceFunction]) -> list[Lease]:
        """Wait until they are open, in the actor that depends on them; it says so when that takes time."""
        leases = []
        for function in functions:
            name = self._names[function]
            ref = ctx.ref(f"{SUPERVISOR}/{name}")
            leases.append(await self._lease(ctx, name, ref))
        return leases

    def values(self, ctx: ActorContext, functions: Sequence[ResourceFunction]) -> list[object]:
        """What they yielded, now; ``ActorDown`` when one of them isn't open."""
        return [ctx.ref(f"{SUPERVISOR}/{self._names[function]}").value for function in functions]

    async def _lease(self, ctx: ActorContext, name: str, ref: ActorRef) -> Lease:
        while True:
            with trio.move_on_after(0.0):
                epoch = await ref.wait_ready()
                return Lease(name, ref.value, ref, epoch)
            ctx.degraded(f"waits for its resource {name!r}")
            epoch = await ref.wait_ready()
            try:
                return Lease(name, ref.value, ref, epoch)
            except ActorDown:
                continue


@protected
class ResourceActor:
    """Holds one resource open.  When one that it depends on goes down, it is closed and opened again."""

    def __init__(self, plan: ResourcePlan, resources: Resources, cut: Cut) -> None:
        self._plan = plan
        self._resources = resources
        self._cut = cut

    async def run(self, ctx: ActorContext) -> None:
        """The actor."""
        with trio.CancelScope() as scope, self._cut.cancelled_by_it(scope):
            leases = await self._resources.lease(ctx, self._plan.resources)
            async with self._plan.open([lease.value for lease in leases]) as value, trio.open_nursery() as nursery:
                ctx.ready(value)
                for lease in leases:
                    nursery.start_soon(self._follow, ctx, lease)
                await ctx.stopping.wait()
                nursery.cancel_scope.cancel(reason="the resource is closed")

    async def _follow(self, ctx: ActorContext, lease: Lease) -> None:
        await lease.wait_down()
        await ctx.supervisor.restart_child(ctx.id, reason=f"its resource {lease.name!r} is down")
