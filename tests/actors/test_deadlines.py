"""One timer for all publishes that are waited for: each expires at its own time, settled ones never."""

from __future__ import annotations

from typing import Any

import trio
from trio.testing import MockClock

from kombu_actors._values.model import Outcome
from kombu_actors.actors.deadlines import Deadlines
from kombu_actors.protocols.ledger import Entry
from kombu_actors.supervisors import ChildSpec, SupervisorSpec, open_supervisor


def waited_for() -> Entry:
    def watcher(entry: Entry, outcome: Outcome, detail: Any) -> None:
        raise AssertionError("nobody settles these")

    return Entry(None, 1, "", "q", watcher=watcher)


async def test_each_expires_at_its_own_time(autojump_clock: MockClock) -> None:
    """A short deadline behind a long one that was settled meanwhile is kept as exactly as any other."""
    deadlines = Deadlines()
    expired: list[tuple[float, str]] = []
    start = trio.current_time()

    def expire(name: str) -> Any:
        return lambda entry: expired.append((trio.current_time() - start, name))

    spec = SupervisorSpec(id="t", children=(ChildSpec(id="deadlines", start=deadlines.serve),))
    async with open_supervisor(spec) as supervisor:
        await supervisor.wait_ready()
        long = waited_for()
        deadlines.add(start + 30, long, expire("long"))
        await trio.sleep(1)
        long.watcher = None  # settled
        short, other = waited_for(), waited_for()
        deadlines.add(start + 3, short, expire("short"))
        deadlines.add(start + 5, other, expire("other"))
        deadlines.add(start + 4, waited_for(), expire("out of order"))
        deadlines.add(start + 2, waited_for(), expire("before all"))
        await trio.sleep(40)
    assert [(round(at, 3), name) for at, name in expired] == [
        *((2.0, "before all"), (3.0, "short"), (4.0, "out of order"), (5.0, "other")),
    ]
