"""For pytest: the fixture ``simulate``, and ``--fleet-seed`` to replay what has failed.

It is loaded wherever the package is installed, so it imports nothing until it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

__all__ = ["pytest_addoption", "simulate"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--fleet-seed`` and ``--fleet-seeds``."""
    group = parser.getgroup("kombu_actors")
    group.addoption("--fleet-seed", type=int, help="run simulations of fleets with this seed only: replay a failure")
    group.addoption("--fleet-seeds", type=int, help="run simulations of fleets with so many seeds, from 0 on")


@pytest.fixture
def simulate(request: pytest.FixtureRequest) -> Callable[..., list[Sequence[str]]]:
    """``kombu_actors.testing.simulate``, whose seeds can be chosen from the command line.

    ``--fleet-seed N`` runs one, ``--fleet-seeds N`` runs that many; both come before what the test says.
    """
    from . import running

    seed, count = request.config.getoption("--fleet-seed"), request.config.getoption("--fleet-seeds")

    def run(*arguments: Any, **options: Any) -> list[Sequence[str]]:
        if seed is not None:
            options["seeds"] = (seed,)
        elif count is not None:
            options["seeds"] = range(count)
        return running.simulate(*arguments, **options)

    return run
