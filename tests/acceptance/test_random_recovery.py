"""P3 in any order of events: random programs under random faults, held against a model; see docs/soak.md."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from soak.recovery.campaign import run_seed, script
from soak.recovery.plan import plan
from soak.recovery.realms import TRAITS, MemoryYard, RabbitMQYard, RedisYard, Yard
from soak.recovery.steps import Fault, Harm
from tests.support.brokers import RabbitMQNode, RedisNode

PROGRAMS = {"memory": 6, "redis": 4, "amqp": 3}
"""How many seeds of each; side by side, because they mostly wait."""


@pytest.fixture
def quiet() -> Iterator[None]:
    """Errors in the log are what is provoked here."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def yards(transport: str, request: pytest.FixtureRequest) -> list[Yard]:
    """One for each program; servers that ``CLIENT KILL`` empties can't be shared."""
    if transport == "memory":
        return [MemoryYard() for _ in range(PROGRAMS[transport])]
    if transport == "amqp":
        node: RabbitMQNode = request.getfixturevalue("rabbitmq")
        return [RabbitMQYard(node) for _ in range(PROGRAMS[transport])]
    own_redis: Callable[..., RedisNode] = request.getfixturevalue("own_redis")
    return [RedisYard(own_redis(durable=True)) for _ in range(PROGRAMS[transport])]


def seeds(transport: str) -> list[int]:
    """The first ones, but for those that restart a server: that takes the main thread, and seconds."""

    def restarts(seed: int) -> bool:
        return any(isinstance(step, Fault) and step.harm is Harm.RESTART for step in plan(seed, TRAITS[transport]))

    chosen = (seed for seed in range(1000) if transport == "memory" or not restarts(seed))
    return [next(chosen) for _ in range(PROGRAMS[transport])]


@pytest.mark.slow
@pytest.mark.parametrize("transport", PROGRAMS)
def test_after_any_faults_who_should_hear_hears_and_what_was_undone_stays_undone(
    transport: str, quiet: None, request: pytest.FixtureRequest
) -> None:
    """20 faults in each program; within 5 s of the last heal everything that the model is sure of holds."""
    chosen = seeds(transport)
    with ThreadPoolExecutor(len(chosen)) as pool:
        outcomes = list(pool.map(lambda yard, seed: run_seed(yard, transport, seed), yards(transport, request), chosen))
    for seed, outcome in zip(chosen, outcomes, strict=True):
        assert outcome.failure is None, (
            f"{outcome.failure}\npython -m soak.recovery --transport {transport} --seeds {seed}\n"
            f"{script(plan(seed, TRAITS[transport]))}"
        )
