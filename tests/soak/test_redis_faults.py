"""The short form of ``soak.redis_faults``: what must hold while a server refuses, and its clients are killed."""

from __future__ import annotations

from pathlib import Path

from soak.redis_faults import soak

SECONDS = 15.0


def test_nothing_is_lost_nor_handled_twice_while_the_server_refuses_and_workers_die(tmp_path: Path) -> None:
    """MISCONF, NOREPLICAS, BUSY, OOM, CLIENT KILL, SIGSTOP and kill -9, with stock kombu and Celery beside."""
    good, report = soak(tmp_path, SECONDS, seed=2)
    assert good, report
