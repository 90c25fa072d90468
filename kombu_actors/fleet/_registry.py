"""What has been registered with a fleet: each thing checked against those before it.  Connects to nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from ._handlers import plan_handler, plan_job, plan_key, plan_resource
from ._plans import ConsumerPlan, Middleware, ResourceFunction, ResourcePlan
from ._registering import check_consumers
from ._schedule import Job, job
from .errors import FleetMistake
from .policy import Batch

__all__ = ["Registry"]


class Registry:
    """Plans, in the order of registration; ``names`` are those of the scope where a function was written."""

    def __init__(self, fleet: str) -> None:
        self._fleet = fleet
        self.consumers: list[ConsumerPlan] = []
        self.resources: list[ResourcePlan] = []
        self.jobs: list[Job] = []
        self.middleware: list[Middleware] = []

    def add_consumer(
        self,
        function: Callable[..., object],
        plan: Callable[..., ConsumerPlan],
        *,
        key: Callable[..., object] | None,
        batch: Batch | None,
        names: Mapping[str, object],
    ) -> None:
        """``plan(handler, lane=...)`` makes the rest of the consumer.

        Raises:
            FleetMistake: it can't work like that, or not beside the others.
        """
        known = self._known()
        handler = plan_handler(function, batch=batch, resources=known, names=names)
        lane = None if key is None else plan_key(key, function, batch=batch, resources=known, names=names)
        made = plan(handler, lane=lane)
        check_consumers([*self.consumers, made])
        self.consumers.append(made)

    def add_job(
        self, function: Callable[..., object], schedule: str | float, timezone: str, *, names: Mapping[str, object]
    ) -> None:
        """A periodic job.

        Raises:
            FleetMistake: it can't work like that, or there is one of its name.
        """
        made = job(schedule, plan_job(function, resources=self._known(), names=names), timezone)
        if any(other.name == made.name for other in self.jobs):
            raise FleetMistake(f"fleet {self._fleet!r} has a job named {made.name!r} already: rename one of them")
        self.jobs.append(made)

    def add_resource(self, function: Callable[..., object], *, names: Mapping[str, object]) -> None:
        """A resource, for what is registered after it.

        Raises:
            FleetMistake: it can't work like that, or there is one of its name.
        """
        plan = plan_resource(function, resources=self._known(), names=names)
        if any(other.name == plan.name for other in self.resources):
            raise FleetMistake(f"fleet {self._fleet!r} has a resource named {plan.name!r} already: rename one of them")
        self.resources.append(plan)

    def take_over(self, other: Registry, queues: Collection[str] | None) -> None:
        """Have everything of another registry, or of its consumers only those of these queues.

        Raises:
            FleetMistake: there is no consumer of one of the queues.
        """
        unknown = set(queues or ()) - {consumer.name for consumer in other.consumers}
        if unknown:
            known = ", ".join(consumer.name for consumer in other.consumers)
            raise FleetMistake(
                f"fleet {other._fleet!r} has no consumer of {', '.join(sorted(unknown))}, only of {known}"
            )
        self.consumers += [each for each in other.consumers if queues is None or each.name in queues]
        self.resources += other.resources
        self.jobs += other.jobs
        self.middleware += other.middleware

    def dead_letter(self, queue: str) -> str:
        """The queue for a queue's dead letters, also when others consume it."""
        names = [consumer.dead_letter for consumer in self.consumers if consumer.name == queue]
        return names[0] if names else f"{queue}.dead"

    def _known(self) -> list[ResourceFunction]:
        return [resource.function for resource in self.resources]
