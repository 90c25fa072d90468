"""``inspect``: the tree, queues, consumers and budgets of a fleet that runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TypedDict

import click

from .asking import Asking, asks
from .tables import age, columns, tree_lines

if TYPE_CHECKING:
    from ..control.answers import StatusAnswer
    from ..fleet.documents import ChildDocument, ConsumerDocument, DepthsDocument, StatusDocument

__all__ = ["inspect"]


@click.group()
def inspect() -> None:
    """Look closely at a fleet: tree, queues, consumers, budgets."""


@inspect.command()
@asks
def tree(asking: Asking) -> None:
    """The supervision tree of each process: states, epochs, restarts, what failed last, when it is tried again."""
    found: StatusAnswer = asking.ask("status")
    trees = trees_of(found)
    asking.show(trees, lambda: "\n\n".join(map(tree_text, trees)))


@inspect.command()
@asks
def queues(asking: Asking) -> None:
    """How many messages are in each queue, its dead letters, and the delays between attempts.

    The broker is asked: by the fleet that runs, or with --fleet module:attribute from here.
    """
    found: DepthsDocument = asking.ask("queues")
    asking.show(found, lambda: queues_text(found))


@inspect.command()
@asks
def consumers(asking: Asking) -> None:
    """Each consumer of each process: what it has in hand, for how long, lanes that wait, handlers that are stuck."""
    found: StatusAnswer = asking.ask("status")
    rows = [
        (process["number"], consumer)
        for process in found["processes"]
        for consumer in (() if process["fleet"] is None else process["fleet"]["consumers"])
    ]
    asking.show(
        [{"process": number, **consumer} for number, consumer in rows],
        lambda: "\n".join(line for row in rows for line in consumer_lines(*row)) or "no consumers yet",
    )


@inspect.command()
@asks
def budgets(asking: Asking) -> None:
    """How many restarts each supervisor may still make, and what is waiting to be started again."""
    found: StatusAnswer = asking.ask("status")
    rows = [row for tree in trees_of(found) for row in budgets_of(tree)]
    names = ("process", "path", "restarts", "budget_left", "next_attempt_in")
    asking.show(
        [dict(zip(names, row, strict=True)) for row in rows],
        lambda: columns(
            ("process", "path", "restarts", "left", "again in"),
            [(*row[:3], "any" if row[3] is None else row[3], None if row[4] is None else age(row[4])) for row in rows],
        ),
    )


class Trees(TypedDict):
    """Those of one process; None: of the parent."""

    process: int | None
    tree: ChildDocument | None
    connections: Mapping[str, ChildDocument]


def trees_of(found: StatusDocument) -> list[Trees]:
    """The trees of a status: the parent's own (process None), and each process's with those of its connections."""
    trees: list[Trees] = []
    if found["tree"] is not None:
        trees.append({"process": None, "tree": found["tree"], "connections": {}})
    for process in found["processes"]:
        number, view = process["number"], process["fleet"]
        if view is None:
            trees.append({"process": number, "tree": None, "connections": {}})
        else:
            trees.append({"process": number, "tree": view["tree"], "connections": view["connections"]})
    return trees


def tree_text(tree: Trees) -> str:
    """One process's tree, those of its connections below their actors."""
    head = "parent" if tree["process"] is None else f"process {tree['process']}"
    if tree["tree"] is None:
        return f"{head}: nothing to see yet"
    lines = [f"{'  ' * depth}{id or head}: {text}" for depth, id, text in tree_lines(tree["tree"])]
    for path, connection in tree["connections"].items():
        lines += [f"{'  ' * depth}{path if not depth else id}: {text}" for depth, id, text in tree_lines(connection)]
    return "\n".join([head, *(f"  {line}" for line in lines)])


def budgets_of(tree: Trees) -> Iterator[tuple[int | None, str, int, int | None, float | None]]:
    """Supervisors, actors with a budget of their own, and all that waits for its restart."""

    def walk(node: ChildDocument, above: str) -> Iterator[tuple[int | None, str, int, int | None, float | None]]:
        if node["strategy"] or node["budget_left"] is not None or node["next_attempt_in"] is not None:
            path = "/".join(part for part in (above, node["path"]) if part) or "(root)"
            yield tree["process"], path, _restarts(node), node["budget_left"], node["next_attempt_in"]
        for child in node["children"]:
            yield from walk(child, above)

    if tree["tree"] is not None:
        yield from walk(tree["tree"], "")
    for path, connection in tree["connections"].items():
        yield from walk(connection, path)


def _restarts(node: ChildDocument) -> int:
    """Its own restarts; of a supervisor, those that it has made."""
    if not node["strategy"]:
        return node["restarts"]
    return sum(child["restarts"] for child in node["children"])


def queues_text(found: DepthsDocument) -> str:
    """Depths for people."""
    rows = [
        (queue["queue"], queue["ready"], queue["consumers"], queue["dead"], queue["dead_letter"])
        for queue in found["queues"]
    ]
    text = columns(("queue", "ready", "consumers", "dead", "dead letters in"), rows)
    if found["delays"]:
        waiting = [(age(delay["seconds"]), delay["waiting"]) for delay in found["delays"]]
        text += "\n\n" + columns(("delay", "retrying (of all queues)"), waiting)
    return text


def consumer_lines(process: int, row: ConsumerDocument) -> Iterator[str]:
    """One consumer for people."""
    how = [word for word, so in (("paused", row["paused"]), ("narrow", row["narrow"])) if so]
    count = row["count"]
    yield (
        f"process {process}  {row['queue']}  ({row['path']}){''.join(f'  {word}' for word in how)}:"
        f" {len(row['slots'])} of {row['concurrency']} slots at work; {count['received']} received,"
        f" {count['acked']} acked, {count['retried']} retried, {count['dead_lettered']} dead-lettered"
    )
    for slot in row["slots"]:
        yield f"    {slot['message_id']}  attempt {slot['attempt']}  for {age(slot['age'])}"
    for lane in row["lanes"]:
        held = "" if lane["held_for"] is None else f", tried again in {age(lane['held_for'])}"
        yield f"    lane {lane['key']}: {lane['waiting']} wait{held}"
    for stuck in row["stuck"]:
        yield f"    STUCK {stuck['message_id']} for {age(stuck['age'])}"
        yield from (f"        {line}" for frame in stuck["stack"] for line in str(frame).splitlines())
