"""An hour of a program in bounded memory."""

from __future__ import annotations

import math
import sys
from collections import Counter
from typing import Any

import attrs

from kombu_actors.fleet import events as fleet_events
from kombu_actors.fleet.processes import events as process_events
from kombu_actors.supervisors import events as supervision
from kombu_actors.web.page import history as module
from kombu_actors.web.page import sentences
from kombu_actors.web.page.history import ENTRIES_MAX, SERIES_MAX, History, Series

from .statuses import NOW, consumer, status, view


def retried(queue: str, at: float, error: str = "ValueError", id: str = "m") -> dict[str, Any]:
    """An event, as a program tells it."""
    return {
        "event": "message_retried",
        "path": f"work/consumers/{queue}",
        "wall": at,
        "process": 1,
        "queue": queue,
        "message_id": id,
        "failed": 1,
        "delay": 1.0,
        "error": {"type": error, "text": "no"},
    }


def test_a_rate_is_of_the_last_seconds() -> None:
    """Not of the whole life, and what was handled before anybody looked is none of it."""
    history = History()
    for second in range(61):
        acked = 1_000_000 + (100 * second if second <= 30 else 3000)
        history.saw(status(view([consumer("orders", acked=acked)]), at=NOW + second))
        if second == 30:
            assert history.queues["orders"].rates()[0] == 100
    assert history.queues["orders"].rates() == (0.0, 0.0)
    assert max(value for value in history.hour("handled/orders") if not math.isnan(value)) == 100


def test_a_process_that_began_anew_counts_from_0() -> None:
    """Its place had 500 before it; nothing is subtracted."""
    history = History()
    history.saw(status(view([consumer("orders", acked=500)])))
    again = status(view([consumer("orders", acked=20)]), at=NOW + 10)
    again = attrs.evolve(again, processes=(attrs.evolve(again.processes[0], pid=7, generation=2),))
    history.saw(again)
    assert history.queues["orders"].rates()[0] == 2


def test_the_same_again_is_one_more_of_an_entry() -> None:
    """A broker that is away fails a hundred messages at once; others between them don't matter."""
    history = History()
    for number in range(100):
        history.heard(retried("orders", NOW + number / 100, id=f"m{number}"))
        history.heard(retried("emails", NOW + number / 100, "KeyError"))
    assert [(entry.told.subject, entry.times) for entry in history.entries] == [
        ("work/consumers/orders", 100),
        ("work/consumers/emails", 100),
    ]
    assert history.entries[0].told.detail.startswith("m99: no")
    history.heard(retried("orders", NOW + 1000))
    assert [entry.times for entry in history.entries] == [100, 100, 1]


def test_an_event_nobody_knows_is_told_by_its_name() -> None:
    """Other parts of the program have kinds of their own."""
    history = History()
    history.heard({"event": "message_retried", "wall": NOW, "reason": "of another version"})
    assert history.entries.pop().told.sentence == "message retried"
    history.heard({"event": "moon_rose", "path": "a/b", "wall": NOW, "process": 2, "why": "it is late"})
    told = history.entries[0].told
    assert (told.subject, told.sentence, told.detail) == ("a/b", "moon rose", "it is late")


def test_every_kind_of_event_has_words() -> None:
    """Made by the program itself, so that none of what the words name is missing."""
    kinds = [kind for module in (supervision, fleet_events, process_events) for kind in vars(module).values()]
    kinds = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, supervision.Event)]
    told = Counter[bool]()
    for kind in kinds:
        values = {name: VALUES.get(name, 3) for name in kind.fields}
        entry = sentences.told({**kind(**values).to_dict(), "process": 1})
        told[entry is not None] += 1
    assert told[True] >= 20


VALUES: dict[str, Any] = {
    "path": "a/b",
    "error": ValueError("no"),
    "members": ("a",),
    "left": ("a",),
    "stack": ("line",),
    "history": (),
    "certificate": None,
    "in_hand": ("m",),
    "why": "because",
    "reason": "because",
}


def test_starts_are_no_entries() -> None:
    """An ordinary start is a dozen of them."""
    history = History()
    history.heard({"event": "child_starting", "path": "a", "wall": NOW})
    history.heard({"event": "child_ready", "path": "a", "wall": NOW})
    assert not history.entries


def test_an_hour_slides() -> None:
    """What is older is gone, and what lies between is not known; the highest in ten seconds counts."""
    series = Series(10.0)
    for at, value in ((10_000.0, 5.0), (10_004.0, 7.0), (10_009.0, 6.0), (11_000.0, 1.0), (10_990.0, 9.0)):
        series.put(at, value)
    hour = series.until(11_000.0)
    assert len(hour) == 360
    assert (hour[-1], hour[-101]) == (1.0, 7.0)
    assert math.isnan(hour[-50])
    assert (series.until(11_100.0)[-11], series.until(11_100.0)[-111]) == (1.0, 7.0)
    series.put(50_000.0, 2.0)
    assert [value for value in series.until(50_000.0) if not math.isnan(value)] == [2.0]
    assert all(math.isnan(value) for value in series.until(60_000.0))


def test_memory_is_bounded() -> None:
    """However many queues there are, and whatever their messages say."""
    history = History()
    queues = [f"q{number}" for number in range(SERIES_MAX + 10)]
    history.saw(status(view([consumer(queue, acked=1) for queue in queues])))
    for number, queue in enumerate(queues[: ENTRIES_MAX + 10]):
        history.heard(retried(queue * 500, NOW + number * 60, error="E" * 5000, id="i" * 100_000))
    assert len(history._series) == len(history.queues) == SERIES_MAX
    assert len(history.entries) == ENTRIES_MAX
    entry = history.entries[-1].told
    assert len(entry.subject) + len(entry.sentence) + len(entry.detail) <= 3 * 400
    assert sys.getsizeof(history._series["handled/q1"]._values) < 400
    assert history.hour(f"handled/{queues[-1]}") == ()


def test_certificates_and_stacks_are_kept() -> None:
    """Of processes that ended, and of actors that failed last."""
    history = History()
    for number in range(module.STACKS_MAX + 5):
        record = {"event": "child_failed", "path": f"a{number}", "wall": NOW, "process": 1, "stack": "there"}
        history.heard({**record, "error": {"type": "E", "text": ""}})
    assert history.stack(1, "a0") is None
    assert history.stack(1, f"a{module.STACKS_MAX}") == "there"
    history.heard({"event": "process_ended", "wall": NOW, "code": 0, "certificate": {"fleet": "shop"}})
    assert [{**one} for one in history.certificates] == [{"fleet": "shop"}]
