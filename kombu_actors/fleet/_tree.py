"""The fleet as one supervision tree."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import trio

from ..errors import AccessRefused, BrokerUnreachable, NotAllowed, PreconditionFailed
from ..supervisors import ActorContext, ChildSpec, RestartLimit, Strategy, SupervisorSpec
from ..supervisors._interrupts import protected
from ..supervisors.events import Event
from ._address import Address
from ._consumer import FleetConsumer, Surroundings
from ._custody import Custody
from ._cut import Cut
from ._listening import Listening
from ._outgoing import CONSUMING, PUBLISHING, Connections, consuming_broker, outgoing_of
from ._periodic import Periodic
from ._plans import ConsumerPlan, Middleware, ResourcePlan
from ._resources import SUPERVISOR as RESOURCES
from ._resources import ResourceActor, Resources
from ._schedule import Job
from ._tracing import Tracing
from .errors import ConsumerIsDeaf

WORK, CONSUMERS, PERIODIC, LISTENING = "work", "consumers", "periodic", "listening"
GOODBYES = 5.0
"""Seconds beyond the drain that resources and connections have for their ends."""
RESOURCE_START = 60.0
"""Seconds for opening a resource, and for what it depends on to be open."""
ROOT_LIMIT = RestartLimit(max_restarts=3, within=120.0)
"""What comes here has failed six times below it: half a minute of that, and whoever runs the process shall know."""


@attrs.frozen(kw_only=True, eq=False)
class FleetPlan:
    """A fleet as registered, when it begins to run."""

    name: str
    address: Address
    consumers: Sequence[ConsumerPlan]
    resources: Sequence[ResourcePlan]
    jobs: Sequence[Job]
    middleware: Sequence[Middleware]
    drain_timeout: float
    deaf_after: float
    wait_for_broker: bool
    """Whether it is waited for at the start, too."""
    custody: Custody | None
    """In a worker process: what notes the messages in hand."""
    tracing: Tracing | None


def hopeless(error: BaseException) -> bool:
    """Whether starting again can't help: the broker's considered no."""
    return isinstance(error, AccessRefused | NotAllowed | PreconditionFailed)


@protected
class FleetTree:
    """The actors of one run, and how they hang together.

    REST_FOR_ONE, for each part stands on those before it: what publishes, what consumes, the resources, the work, and
    who watches that it has something to do.  The
    consumers neither start nor stop one after the other: so they drain at the same time.
    """

    def __init__(self, plan: FleetPlan, cut: Cut, listener: Callable[[str, Event], None]) -> None:
        self.connections = Connections(plan.address, listener, patient=plan.wait_for_broker)
        self.periodic: Periodic | None = None
        """The jobs, once their actor has started."""
        self._plan = plan
        self._cut = cut
        self._resources = Resources(plan.resources)
        if plan.custody is not None:
            plan.custody.reserve(
                sum(one.concurrency * (1 if one.batch is None else one.batch.size) for one in plan.consumers)
                + sum(one.key is not None for one in plan.consumers),
                len(plan.jobs),
            )
        surroundings = Surroundings(self._resources, plan.middleware, cut, plan.custody, plan.tracing)
        self.consumers = [
            FleetConsumer(one, id, surroundings) for one, id in zip(plan.consumers, _ids(plan), strict=True)
        ]

    def path_of(self, consumer: FleetConsumer) -> str:
        """Of a consumer's actor."""
        return f"{WORK}/{CONSUMERS}/{consumer.id}"

    def spec(self) -> SupervisorSpec:
        """What ``open_supervisor`` runs."""
        # A connection waits for its broker as long as that takes; the first failure to connect is final.
        links = (
            ChildSpec(id=PUBLISHING, start=self.connections.publish, start_timeout=None),
            ChildSpec(id=CONSUMING, start=self.connections.consume, start_timeout=None),
        )
        resources = SupervisorSpec(
            id=RESOURCES,
            children=[
                ChildSpec(
                    id=resource.name,
                    start=ResourceActor(resource, self._resources, self._cut).run,
                    start_timeout=RESOURCE_START,
                )
                for resource in self._plan.resources
            ],
        )
        work = SupervisorSpec(id=WORK, children=self._work, escalate=hopeless)
        listening = ChildSpec(id=LISTENING, start=Listening(self.consumers, self._plan.deaf_after).run)
        return SupervisorSpec(
            id=self._plan.name.replace("/", "|"),
            strategy=Strategy.REST_FOR_ONE,
            limit=ROOT_LIMIT,
            escalate=self._final,
            children=(*links, resources, work, listening),
        )

    def _final(self, error: BaseException) -> bool:
        return (
            isinstance(error, ConsumerIsDeaf)
            or hopeless(error)
            or (isinstance(error, BrokerUnreachable) and not self.connections.were_up)
        )

    def _work(self) -> tuple[ChildSpec | SupervisorSpec, ...]:
        consumers = SupervisorSpec(id=CONSUMERS, children=self._consumers, escalate=hopeless)
        if not self._plan.jobs:
            return (consumers,)
        periodic = ChildSpec(id=PERIODIC, start=self._periodic, stop_grace=self._plan.drain_timeout)
        return (consumers, periodic)

    async def _periodic(self, ctx: ActorContext) -> None:
        def values(job: Job) -> list[object]:
            return self._resources.values(ctx, job.handler.resources)

        plan, consuming, publishing = self._plan, consuming_broker(ctx), outgoing_of(ctx).broker
        self.periodic = periodic = Periodic(plan.name, plan.jobs, consuming, publishing, values, plan.custody)
        with trio.CancelScope() as scope, self._cut.cancelled_by_it(scope):
            await periodic.run(ctx)

    def _consumers(self) -> tuple[ChildSpec, ...]:
        drain = self._plan.drain_timeout
        return tuple(
            ChildSpec(id=consumer.id, start=consumer.run, start_timeout=None, stop_grace=drain)
            for consumer in self.consumers
        )


def _ids(plan: FleetPlan) -> list[str]:
    """Ids of actors: the queues' names as far as a path allows, the second consumer of a queue with a number."""
    ids: list[str] = []
    for consumer in plan.consumers:
        name, number = consumer.name.replace("/", "|"), 2
        id = name
        while id in ids:
            id, number = f"{name}#{number}", number + 1
        ids.append(id)
    return ids


def part_of(path: str) -> str:
    """To what part of the tree an actor belongs, for counts."""
    parts = path.split("/")
    if parts[0] in (CONSUMING, PUBLISHING):
        return "connections"
    return parts[1] if parts[0] == WORK and len(parts) > 1 else parts[0]
