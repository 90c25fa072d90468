"""The supervision trees as one flat list, a row for each actor.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import attrs

from ...fleet.documents import ChildDocument
from ...fleet.status import Status
from .history import History
from .look import Look
from .markup import Html, cut, h, id_of, joined
from .queues import WELL
from .words import cause, countdown, number

__all__ = ["tree_rows"]

MANY = 30
"""Children from which on a supervisor whose parts are all well begins folded."""
DEPTH_MAX = 9
"""Levels that are indented further."""
ERROR_SHOWN = 160
"""Characters of an error in a row; the rest is behind it."""
GRADES = {
    **dict.fromkeys(WELL, "good"),
    **dict.fromkeys(("new", "starting", "stopping", "stopped"), "info"),
    **dict.fromkeys(("degraded", "backing_off", "cooling_down"), "warn"),
    "stuck": "bad",
}


@attrs.frozen
class Node:
    """A node of a tree, with where it stands on the page."""

    process: int | None
    path: str
    """As ``Program.restart`` takes it."""
    view: ChildDocument
    depth: int
    above: str | None
    """The row's id of what it is below."""
    children: Sequence[ChildDocument]
    restartable: bool

    @property
    def id(self) -> str:
        return id_of("actor", "parent" if self.process is None else self.process, self.path)


def tree_rows(status: Status, history: History, look: Look) -> dict[str, Html]:
    """A row for each actor of the parent and of each process, in the order of the trees."""
    rows = {}
    for node in nodes(status):
        rows[node.id] = _row(node, history, look)
    return rows


def nodes(status: Status) -> Iterator[Node]:
    """All of them, parents before their children."""
    if status.tree is not None:
        yield from _below(None, status.tree, status.tree, "", 0, None, {})
    for process in status.processes:
        view = process.fleet
        if view is not None:
            yield from _below(process.number, view["tree"], view["tree"], "", 0, None, view["connections"])


def _below(
    process: int | None,
    root: ChildDocument,
    view: ChildDocument,
    prefix: str,
    depth: int,
    above: str | None,
    connections: Mapping[str, ChildDocument],
) -> Iterator[Node]:
    path = f"{prefix}/{view['path']}".strip("/")
    children = list(view["children"])
    inner = connections.get(path) if not prefix else None
    own = not prefix and view is not root and process is not None
    node = Node(process, path, view, depth, above, [*children, *([inner] if inner else [])], own)
    yield node
    for child in children:
        yield from _below(process, root, child, prefix, depth + 1, node.id, connections)
    if inner is not None:
        yield from _inner(process, inner, path, depth + 1, node.id)


def _inner(process: int | None, view: ChildDocument, owner: str, depth: int, above: str) -> Iterator[Node]:
    """A connection's own tree, below the actor that holds it; its root is named after what it is."""
    path = f"{owner}/{view['path'] or view['id']}"
    node = Node(process, path, view, depth, above, view["children"], False)
    yield node
    for child in view["children"]:
        yield from _inner(process, child, owner, depth + 1, node.id)


def _row(node: Node, history: History, look: Look) -> Html:
    view, state = node.view, node.view["state"]
    grade = GRADES.get(state, "info")
    name = view["id"]
    if node.depth == 0:
        name = f"{name} (parent)" if node.process is None else f"{name} · process {node.process}"
    fold = None
    if node.children:
        fold = h(
            "button", name, class_="fold", type="button", aria_expanded="true", title="fold or unfold what is below"
        )  # fmt: skip
    cells = (
        h("th", fold or h("span", name, class_="leaf"), _below_in_words(node), scope="row"),
        h("td", _state(node, look, state, grade), data_label="State"),
        h("td", number(view["epoch"]), class_="figure", data_label="Epoch"),
        h("td", number(view["restarts"]), class_="figure", data_label="Restarts"),
        h("td", _budget(node, history), class_="budget", data_label="Budget left"),
        h("td", _trouble(node, history), data_label="Last error"),
        h("td", _restart(node, name)) if look.actions else None,
    )
    shown = f"{node.path or view['id']} {state.replace('_', ' ')}"
    return h(
        "tr", *cells, id=node.id, class_=f"deep{min(node.depth, DEPTH_MAX)}", data_above=node.above,
        data_folded=_begins_folded(node), data_words=shown.lower(),
        data_well=state in WELL and view["degraded"] is None,
    )  # fmt: skip


def _begins_folded(node: Node) -> bool:
    """Whether what is below says nothing that the row doesn't: all is well, and it is much, or a connection's."""
    connection = node.depth > 0 and not node.view["path"]
    return (len(node.children) > MANY or connection) and _all_well(node.children)


def _all_well(children: Sequence[ChildDocument]) -> bool:
    return all(
        child["state"] in WELL and child["degraded"] is None and _all_well(child["children"]) for child in children
    )


def _below_in_words(node: Node) -> Html | None:
    """What a folded supervisor's parts are doing."""
    if not node.children:
        return None
    counts = Counter(child["state"].replace("_", " ") for child in node.children)
    words = ", ".join(f"{number(count)} {state}" for state, count in counts.most_common())
    return h("span", words, class_="parts")


def _state(node: Node, look: Look, state: str, grade: str) -> Html:
    shown = h("span", state.replace("_", " "), class_=f"state {grade}")
    wait = node.view["next_attempt_in"]
    if wait is None:
        return shown
    moment = look.steady(f"next/{node.id}", look.at + wait)
    return joined((shown, " ", h("span", "starts again ", countdown(moment), class_="wait")))


def _budget(node: Node, history: History) -> Html | None:
    left = node.view["budget_left"]
    if left is None:
        return None
    most = history.budget(node.process, node.path, left)
    if most == 0:
        return h("span", "none: passes failures on", class_="quiet")
    bar = h(
        "meter", f"{left} of {most}", value=left, min=0, max=most, low=most / 2, optimum=most,
        aria_label=f"restarts left: {left} of {most}",
    )  # fmt: skip
    return joined((bar, h("span", f"{left} of {most}", class_="quiet")))


def _trouble(node: Node, history: History) -> Html | None:
    view = node.view
    parts: list[Html] = []
    if view["degraded"] is not None:
        parts.append(h("span", cut(view["degraded"], ERROR_SHOWN)))
    if view["last_failure"] is not None:
        kind, said = cause(view["last_failure"]["type"], view["last_failure"]["text"])
        shown = joined((h("b", cut(kind, ERROR_SHOWN)), " ", h("span", cut(said, ERROR_SHOWN))))
        stack = history.stack(node.process, node.path)
        if stack is None:
            parts.append(h("span", shown, title=said if len(said) > ERROR_SHOWN else None))
        else:
            parts.append(h("details", h("summary", shown), h("pre", stack, tabindex=0, aria_label="stack")))
    return joined(parts, " ") if parts else None


def _restart(node: Node, name: str) -> Html | None:
    if not node.restartable:
        return None
    return h(
        "button", "Restart", type="button", class_="act", data_action="restart", data_path=node.path,
        data_process=node.process, aria_label=f"Restart {name} of process {node.process}",
    )  # fmt: skip
