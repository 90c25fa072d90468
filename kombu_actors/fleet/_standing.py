"""From a fleet's view, as a dict from whatever process, to a verdict: READY or not, and why.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..supervisors import ChildState
from .documents import ChildDocument, FleetDocument
from .status import ProcessState, ProcessStatus

__all__ = ["standing", "worst"]

REASONS_MAX = 20
"""Reasons that are given: a thousand consumers that lost their broker have one between them."""

_ORDER = (
    ProcessState.READY,
    ProcessState.DRAINING,
    ProcessState.STARTING,
    ProcessState.DEGRADED,
    ProcessState.BACKING_OFF,
    ProcessState.GONE,
)
"""From best to worst."""


def standing(view: FleetDocument | None) -> tuple[ProcessState, tuple[str, ...]]:
    """What a fleet is doing by its view (``FleetView.to_dict()``; None: there is none yet), and why it isn't READY."""
    if view is None:
        return ProcessState.STARTING, ("it is being started",)
    if view["stopping"]:
        return ProcessState.DRAINING, ("it takes no more messages",)
    paused = {consumer["path"] for consumer in view["consumers"] if consumer["paused"]}
    nodes = [(node["path"], node) for node in _parts(view["tree"]) if node["path"] not in paused]
    for path, tree in view["connections"].items():
        nodes += [(f"{path}/{node['path']}", node) for node in _parts(tree)]
    unwell = [(path, node) for path, node in nodes if node["state"] not in _WELL]
    if not unwell:
        return ProcessState.READY, ()
    unwell.sort(key=lambda part: part[1]["last_failure"] is None)  # those who know the cause first
    young = all(node["state"] in _YOUNG and node["epoch"] <= 1 for _, node in unwell)
    reasons = tuple(_reason(path, node) for path, node in unwell[:REASONS_MAX])
    return (ProcessState.STARTING if young else ProcessState.DEGRADED), reasons


def worst(processes: Sequence[ProcessStatus]) -> ProcessState:
    """The state of a program by those of its processes; without one it is STARTING."""
    return max((process.state for process in processes), key=_ORDER.index, default=ProcessState.STARTING)


_WELL = {ChildState.READY.value, ChildState.COMPLETED.value}
_YOUNG = {ChildState.NEW.value, ChildState.STARTING.value}


def _parts(node: ChildDocument) -> Iterator[ChildDocument]:
    """The parts of a tree of which each speaks for itself: its actors, and supervisors that are down with theirs."""
    if node["strategy"] is None or (node["state"] not in _WELL and node["state"] not in _YOUNG):
        yield node
    for child in node["children"]:
        yield from _parts(child)


def _reason(path: str, node: ChildDocument) -> str:
    text = f"{path} is {node['state'].replace('_', ' ')}"
    if node["degraded"] is not None:
        text += f": {node['degraded']}"
    elif node["last_failure"] is not None:
        text += f" after {node['last_failure']['type']}: {node['last_failure']['text']}"
    if node["next_attempt_in"] is not None:
        text += f"; started again in {node['next_attempt_in']:.1f} s"
    return text
