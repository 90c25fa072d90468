"""The short form of ``soak.redis_steps``: no script of ours keeps the server for long."""

from __future__ import annotations

import pytest
import redis

from soak.redis_meter import Scene
from soak.redis_steps import BOUND_MS, SCENES, play
from tests.support.brokers import RedisNode

SCALE = 0.04
"""40,000 messages, 2,000 bindings, 40 queues; messages of 1 MB are as large as ever."""


@pytest.mark.parametrize("act", SCENES)
def test_no_script_keeps_the_server_for_long(act: object, redis_server: RedisNode, redis_url: str) -> None:
    """By the processor time of its main thread."""
    with redis.Redis(port=redis_server.port, socket_timeout=60) as client:
        for name, _, _, most in play(Scene(redis_server, client, SCALE), act):  # type: ignore[arg-type]
            assert most <= BOUND_MS, f"{name} took {most:.0f} ms"
