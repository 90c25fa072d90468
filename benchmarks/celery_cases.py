"""What Celery costs beside the same Celery on stock kombu."""

from __future__ import annotations

from .cases import Broker, Case, Contender, Goal, Start

GOALS = (Goal("cpu", 1.0), Goal("main", 1.0), Goal("rate", 1.0, at_least=True))


def _both(function: str) -> tuple[Contender, Contender]:
    program = f"on_celery:{function}"
    return Contender("kombu", program, "kombu"), Contender("kombu_actors", program, "kombu_actors")


CELERY_CASES = (
    Case(
        name="celery-rabbitmq",
        title="a worker's tasks that do nothing, prefork with 2; CPU of its main process, and of all three",
        contenders=_both("work"),
        start=Start.PRIVATE,
        messages=5_000,
        goals=GOALS,
        lengthy=True,
    ),
    Case(
        name="celery-redis",
        title="the same on Redis",
        contenders=_both("work_on_redis"),
        start=Start.PRIVATE,
        messages=5_000,
        goals=(*GOALS, Goal("server")),
        broker=Broker.REDIS,
        lengthy=True,
    ),
    Case(
        name="celery-rabbitmq-delay",
        title="task.delay(); ours until all are confirmed, kombu's unconfirmed (both by default)",
        contenders=_both("delay"),
        start=Start.EMPTY,
        messages=5_000,
        goals=(Goal("cpu", 1.0), Goal("rate", 1.0, at_least=True)),
    ),
    Case(
        name="celery-redis-delay",
        title="the same on Redis",
        contenders=_both("delay"),
        start=Start.EMPTY,
        messages=5_000,
        goals=(Goal("cpu", 1.0), Goal("rate", 1.0, at_least=True)),
        broker=Broker.REDIS,
    ),
)
