"""The oldest Redis that is taken, the newest, and Valkey: the quick part of the suite on each.

All else runs on Debian's 7.0; ``make test-redis-versions`` runs the whole Redis part on the others.
"""

from __future__ import annotations

import subprocess

import pytest

from tests.support.redis_versions import OTHERS, program_of, run_on

QUICK = (
    "tests/acceptance/test_redis_access.py::test_the_documented_permissions_suffice",
    "tests/acceptance/test_redis_refused.py::test_the_others_go_on_in_order_and_the_channel_tells[crowded]",
    "tests/transport/test_redis_errors.py",
    "tests/protocols/redis/test_claims.py",
    "tests/protocols/redis/test_memory_full.py",
    "tests/protocols/redis/test_expiring.py",
)
"""Every script and command, refusals of all kinds, room again in a full server, the order of messages, lives."""


@pytest.mark.slow
@pytest.mark.parametrize("version", OTHERS)
def test_the_quick_part_of_the_suite_passes(version: str) -> None:
    """On a server that is of this version."""
    assert f"v={version}" in subprocess.run([program_of(version), "--version"], capture_output=True, text=True).stdout
    done = run_on(version, *QUICK, capture=True)
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout
