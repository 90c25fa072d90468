"""All panels, of whatever a fleet has."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from html import escape
from html.parser import HTMLParser
from typing import Any

import attrs

from kombu_actors.fleet.depths import DelayDepth, FleetDepths, QueueDepth
from kombu_actors.fleet.status import ProcessState
from kombu_actors.web.page.document import document
from kombu_actors.web.page.history import History
from kombu_actors.web.page.look import Look, Steady
from kombu_actors.web.page.rendering import rendered

from .statuses import NOW, consumer, node, slot, status, view

EVIL = "<script>alert(1)</script>'\"><img src=x onerror=alert(2)>"
LOOK = Look(at=NOW, actions=True, steady=Steady())


class Names(HTMLParser):
    """The elements, attributes and ids of a document."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.ids: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """One element."""
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attributes}
        self.ids += [value or "" for name, value in attributes if name == "id"]


def evil_view() -> dict[str, Any]:
    """A fleet all of whose names are markup."""
    failing = node(
        f"work/{EVIL}", "backing_off", next_attempt_in=3.0, last_failure={"type": EVIL, "text": EVIL}, degraded=EVIL
    )  # fmt: skip
    busy = consumer(
        EVIL, slots=[slot(EVIL)], lanes=[{"key": EVIL, "waiting": 3, "held_for": 2.0}],
        stuck=[{"message_id": EVIL, "age": 9.0, "stack": [EVIL]}],
    )  # fmt: skip
    job = {"name": EVIL, "holding": True, "next_at": NOW, "running_since": None, "ticks": 1, "failures": 0}
    inner = node("", "ready", [node(EVIL)], id="connection")
    made = view([busy], jobs=[job], connections={"consuming": inner})
    made["tree"]["children"].append(failing)
    return made


def evil_history() -> History:
    """Everything that happened is markup, too."""
    history = History()
    error = {"type": EVIL, "text": EVIL}
    for kind in ("child_failed", "message_dead_lettered", "operator_acted", EVIL):
        record = {"event": kind, "path": EVIL, "wall": NOW, "process": 1, "error": error, "message_id": EVIL}
        history.heard({**record, "reason": EVIL, "action": EVIL, "who": EVIL, "stack": EVIL})
    count = dict.fromkeys(("received", "acked", "retried", "dead_lettered", "returned", "unknown"), 1)
    certificate = {"fleet": EVIL, "began_at": NOW, "ended_at": NOW, "cold": True, "balanced": False}
    history.heard({"event": "x", "wall": NOW, "certificate": {**certificate, "queues": {EVIL: count}}})
    return history


def evil_depths() -> FleetDepths:
    """And so is what the broker was asked for."""
    queue = QueueDepth(queue=EVIL, ready=5, consumers=1, dead_letter=EVIL, dead=2, delays=(1.0,))
    return FleetDepths(queues=(queue,), delays=(DelayDepth(seconds=1.0, waiting=4),))


def test_no_name_of_others_becomes_markup() -> None:
    """Queues, keys, ids of messages, errors, stacks, jobs, reasons: all are text, in each panel."""
    stands = status(evil_view(), state=ProcessState.DEGRADED, why=f"{EVIL} is down; started again in 2.0 s")
    frame = rendered(attrs.evolve(stands, fleet=EVIL), evil_history(), evil_depths(), EVIL, LOOK)
    assert all(rows for container, rows in frame.items() if container != "ledger"), "each panel has something evil"
    whole = document(attrs.evolve(stands, fleet=EVIL), frame, stamp="1", version="2", actions=True)
    names = Names(whole)
    assert "img" not in names.tags
    assert names.tags.count("script") == 1, "the page's own"
    assert not {name for name in names.attributes if name.startswith("on") or name == "style"}
    assert EVIL not in whole


def test_ids_are_unique() -> None:
    """A row that had another's id would be put in its place."""
    views = [view([consumer("a"), consumer("a-b"), consumer("a b")]) for _ in range(3)]
    frame = rendered(status(*views), evil_history(), evil_depths(), None, LOOK)
    names = Names(document(status(*views), frame, stamp="1", version="2", actions=True))
    assert len(names.ids) == len(set(names.ids))
    assert all(id and " " not in id for id in names.ids)


def test_what_stays_is_not_sent_again_while_time_goes_by() -> None:
    """Ages and countdowns are moments, counted in the browser: a second later each row is the same."""
    steady, history = Steady(), History()

    def at(moment: float) -> dict[str, Any]:
        made = view([consumer("orders", slots=[slot("m", age=3.0 + moment)])])
        made["tree"]["children"][0] = node("consuming", "backing_off", next_attempt_in=60.0 - moment)
        stands = status(made, at=NOW + moment, state=ProcessState.DEGRADED, why=f"x; started again in {60 - moment} s")
        steady.turn()
        look = Look(at=stands.at, actions=True, steady=steady)
        return dict(rendered(stands, history, evil_depths(), None, look))

    assert at(0.0) == at(1.03) == at(1.97)


def test_a_supervisor_whose_parts_are_well_begins_folded() -> None:
    """If they are many; one that isn't well opens it."""
    well = view([consumer(f"q{number}") for number in range(40)])
    rows = rendered(status(well), History(), None, None, LOOK)["tree"]
    assert "data-folded" in rows["actor-1-work/consumers"]
    well["tree"]["children"][1]["children"][0]["children"][7] = node("work/consumers/q7", "cooling_down")
    rows = rendered(status(well), History(), None, None, LOOK)["tree"]
    assert "data-folded" not in rows["actor-1-work/consumers"]
    assert "1 cooling down" in rows["actor-1-work/consumers"]


def test_a_thousand_actors_render_for_five_times_what_escaping_them_takes() -> None:
    """Of CPU, the best of five each, side by side: below 200 ms where escaping takes 40, whatever the machine."""
    consumers = [consumer(f"queue-{number}", acked=number, slots=[slot(f"m{number}")]) for number in range(1000)]
    stands, history = status(view(consumers)), History()

    def render() -> str:
        history.saw(stands)
        frame = rendered(stands, history, None, None, LOOK)
        return document(stands, frame, stamp="1", version="2", actions=True)

    html = render()
    pieces = re.split("(<[^>]*>)", html)
    assert html.count("<tr") > 3000
    assert least_cpu(render) <= 5 * least_cpu(lambda: [escape(piece) for piece in pieces])


def least_cpu(run: Callable[[], object]) -> float:
    """Seconds of CPU, the best of five."""
    took = []
    for _ in range(5):
        began = time.process_time()
        run()
        took.append(time.process_time() - began)
    return min(took)
