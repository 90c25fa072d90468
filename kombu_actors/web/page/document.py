"""The whole page, as a browser asks for it: its frame, filled with what the moment has to show.  Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ...fleet.status import Status
from .frames import Frame
from .letters import REPLAY_LIMIT
from .markup import Html, h
from .words import age

__all__ = ["document"]

Columns = tuple[str, ...]
ACT = "Act"

TABLES: Mapping[str, tuple[str, Columns, str]] = {
    "processes": (
        "Processes",
        ("Process", "pid", "Generation", "State", "For", "Memory (RSS)", "Loop lag", "Heard of"),
        "No process runs.",
    ),
    "queues": (
        "Queues",
        ("Queue", "State", "Ready", "In hand", "Oldest", "Handled/s", "Failed/s", "Retried after", "Dead", ACT),
        "No queue is consumed.",
    ),
    "handlers": (
        "Handlers",
        ("Queue", "Calls", "p50", "p95", "In flight, oldest first", "Lanes that wait", "Stuck"),
        "No handler is registered, or none has started.",
    ),
    "letters": ("Dead letters", ("Queue", "Dead letters", "In queue", "Look"), "None that anybody knows of."),
    "jobs": (
        "Periodic jobs",
        ("Job", "Next", "Runs", "Ran here", "Failed here"),
        "None is registered.",
    ),
    "ledger": (
        "Publishing",
        ("Process", "Confirmed", "Confirm p95", "Waiting", "Refused", "Unknown", "Blocked"),
        "Nothing is known of what was published.",
    ),
    "tree": (
        "Supervision tree",
        ("Actor", "State", "Epoch", "Restarts", "Budget left", "Last error", ACT),
        "It is being started.",
    ),
}
"""By its id, each table: heading, columns, and what is said when it has no rows."""


def document(status: Status, frame: Frame, *, stamp: str, version: str, actions: bool) -> Html:
    """The page.

    Args:
        stamp: which frame that is; the stream goes on from there.
        version: of the style and the script, so that a browser takes new ones.
    """
    name = status.fleet
    head = h(
        "head",
        h("meta", charset="utf-8"),
        h("meta", name="viewport", content="width=device-width, initial-scale=1"),
        h("meta", name="color-scheme", content="light dark"),
        h("title", f"{status.state.value} · {name}"),
        h("link", rel="icon", href=f"page/static/icon.svg?{version}", type="image/svg+xml"),
        h("link", rel="stylesheet", href=f"page/static/page.css?{version}"),
        h("script", src=f"page/static/page.js?{version}", type="module"),
    )
    main = h(
        "main",
        _timeline(frame),
        *[_table(id, frame, actions, status.tree is not None) for id in TABLES],
        _certificates(frame),
        id="main",
    )
    body = h(
        "body",
        h("a", "Skip to the queues", href="#queues-panel", class_="skip"),
        _header(status, frame, actions),
        main,
        _sure() if actions else None,
        h(
            "footer",
            f"kombu_actors {status.version} on {status.host}, pid {status.pid}, began ",
            age(status.began_at),
            ". Figures of the last hour are kept in its memory.",
        ),
        data_stamp=stamp,
        data_now=f"{status.at:.3f}",
        data_fleet=name,
    )
    return Html("<!doctype html>" + h("html", head, body, lang="en"))


def _header(status: Status, frame: Frame, actions: bool) -> Html:
    links = [("timeline", "Timeline"), *((id, title) for id, (title, *_) in TABLES.items())]
    return h(
        "header",
        h("h1", h("span", "fleet ", class_="quiet"), status.fleet),
        h("div", *frame["verdict"].values(), id="verdict", role="status"),
        h("div", *frame["why-rows"].values(), id="why-rows"),
        h("p", "This page is not connected: what it shows may be old.", id="connection", role="status", hidden=True),
        h("nav", h("ul", *[h("li", h("a", title, href=f"#{id}-panel")) for id, title in links]), aria_label="Panels"),
        _unlock() if actions else None,
        h("noscript", h("p", "Without JavaScript this page shows one moment: load it again for the next.")),
    )


def _unlock() -> Html:
    return h(
        "form",
        h("label", "Token for actions ", h("input", type="password", name="token", autocomplete="off", required=True)),
        h("button", "Unlock", type="submit"),
        h("p", "Actions are locked in this tab.", id="outcome", role="status"),
        id="unlock",
    )


def _sure() -> Html:
    limit = h("label", "At most ", h("input", type="number", min=1, max=REPLAY_LIMIT, required=True))
    yes, no = h("button", "Yes", value="yes"), h("button", "Cancel", value="no", formnovalidate=True)
    form = h("form", h("p", id="question"), limit, h("div", yes, no, class_="buttons"), method="dialog")
    return h("dialog", form, id="sure", aria_labelledby="question")


def _panel(id: str, title: str, *content: object) -> Html:
    return h(
        "section", h("h2", title, id=f"{id}-title"), *content, id=f"{id}-panel", aria_labelledby=f"{id}-title"
    )  # fmt: skip


def _timeline(frame: Frame) -> Html:
    return _panel(
        "timeline",
        "Timeline",
        h("div", *frame["axis-rows"].values(), id="axis-rows"),
        h("ol", *frame["timeline"].values(), id="timeline", tabindex=0, aria_label="What happened, the newest first"),
        h("p", "Nothing has happened since this process began.", class_="none"),
    )


def _table(id: str, frame: Frame, actions: bool, parent: bool) -> Html:
    title, columns, none = TABLES[id]
    heads = [h("th", column, scope="col") for column in columns if actions or column != ACT]
    table = h(
        "table",
        h("caption", title, class_="unseen"),
        h("thead", h("tr", *heads)),
        h("tbody", *frame[id].values(), id=id),
    )
    above = _search() if id == "tree" else None
    return _panel(id, title, above, table, h("p", none, class_="none"), _beside(id, frame, reload=actions and parent))


def _search() -> Html:
    return h(
        "div",
        h("label", "Search ", h("input", type="search", id="tree-search", placeholder="a path, a state")),
        h("label", h("input", type="checkbox", id="tree-unwell"), " only what is not well"),
        h("output", id="tree-count", for_="tree-search tree-unwell"),
        class_="filters",
    )


def _beside(id: str, frame: Frame, *, reload: bool) -> Html | None:
    if id == "processes" and reload:
        return h("p", h("button", "Replace each by a new one", type="button", class_="act", data_action="reload"))
    if id == "queues":
        return h("div", *frame["delays-rows"].values(), id="delays-rows")
    if id == "letters":
        return h("div", id="groups", tabindex=-1, role="region", aria_label="Dead letters by error")
    return None


def _certificates(frame: Frame) -> Html:
    return _panel(
        "certificates",
        "Last drain certificates",
        h("ul", *frame["certificates"].values(), id="certificates"),
        h("p", "No process has ended since this one began.", class_="none"),
    )
