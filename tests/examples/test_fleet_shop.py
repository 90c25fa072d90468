"""The shop of ``examples/fleet_shop.py`` does what it says, on each transport."""

from __future__ import annotations

import subprocess

import pytest

from .running import ENVIRONMENT, TIMEOUT, command

STORY = """\
a cake costs 1200 cents
the price of caviar: KeyError: 'caviar'
paid in order: ['alice-0', 'alice-1', 'alice-2', 'dave-0', 'dave-1']
dead order mallory-0: an order of -1 tea
dead order nonsense: undecodable: $.id: expected str, got 7
dropped 2
dead payment carol-0/payment: not tried again: CardDeclined: the card of carol is not good for 520 cents
carol gets a new card: True
1 of 1 dead letters replayed
carol-0 is paid: True
each message that came is accounted for: True
"""


@pytest.mark.parametrize("transport", ["memory", "amqp", "redis"])
def test_a_day_in_the_shop(transport: str, request: pytest.FixtureRequest) -> None:
    """Unchanged on each: retries, lanes, a batch, a periodic job, requests, dead letters, their replay, a drain."""
    url = "memory://shop" if transport == "memory" else request.getfixturevalue(f"{transport}_url")
    done = subprocess.run(
        command("fleet_shop"),
        env={**ENVIRONMENT, "SHOP_URL": url},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == sorted(STORY.splitlines())
    assert "fleet 'shop' drained; shop.orders: " in done.stderr
    assert "MISSING" not in done.stderr
