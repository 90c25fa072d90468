"""What the tests of the bridge share."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["memory", "amqp", "redis"])
def url(request: pytest.FixtureRequest) -> str:
    """An empty broker of each transport."""
    if request.param == "memory":
        return f"memory://{request.node.name}"
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found
