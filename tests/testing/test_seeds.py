"""A simulated fleet under drawn faults: what was published is handled or dead-lettered, whatever happens."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import trio

from kombu_actors.fleet import _settling
from kombu_actors.fleet._headers import ATTEMPT, retry_headers
from kombu_actors.testing import FaultKind, Violation, simulate

from .shop import fleet, scenario

SEEDS = 1000
FAULTS = 4
TO_FIND = 200
"""Seeds within which a bug must have shown itself."""


@pytest.fixture(autouse=True)
def silent() -> Iterator[None]:
    """Errors are what is provoked here; a thousand seeds of them would be the test's main work."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("part", range(4))
def test_a_thousand_seeds_lose_nothing(part: int) -> None:
    """Sessions, channels, the broker, handlers and the whole process break, four times in each."""
    share = SEEDS // 4
    simulate(fleet, scenario, seeds=range(part * share, (part + 1) * share), faults=FAULTS)


def test_an_ack_before_the_confirm_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever acks a message that is only being put into its delay loses it when the process dies."""

    async def hurried(self: _settling.Settling, publish: Callable[[], Awaitable[None]]) -> None:
        async def later() -> None:
            try:
                await publish()
            except Exception:
                logging.getLogger(__name__).exception("lost")

        trio.lowlevel.spawn_system_task(later)

    monkeypatch.setattr(_settling.Settling, "_confirmed", hurried)
    with pytest.raises((Violation, AssertionError)) as found:
        simulate(fleet, scenario, seeds=range(TO_FIND), faults=FAULTS)
    assert any("replay it with simulate(" in note for note in found.value.__notes__)


def test_a_retry_that_loses_its_count_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be tried for ever."""

    def forgetful(**about: Any) -> dict[str, object]:
        return {**retry_headers(**about), ATTEMPT: 0}

    monkeypatch.setattr(_settling, "retry_headers", forgetful)
    with pytest.raises(Violation, match=r"never came as attempt 2|not idle|its policy allows"):
        simulate(fleet, scenario, kinds=[FaultKind.CRASH_AFTER], faults=1)
