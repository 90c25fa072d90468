"""The dead letters, grouped by what went wrong.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from ...fleet.dead_letters import DeadLetter
from .markup import Html, cut, h, id_of
from .queues import NAME_MAX, Queue
from .words import at, number, times

__all__ = ["LOOKED_AT", "REPLAY_LIMIT", "group_list", "letter_rows"]

LOOKED_AT = 500
"""Letters that a look takes: the broker holds them meanwhile, and they show what most of them died of."""
GROUPS_MAX = 30
REPLAY_LIMIT = 1000
"""Letters that one replay from the page takes at most: ``kombu-actors dlq replay`` takes more, at a rate."""
EXAMPLES = 3
REASON_MAX = 300


def letter_rows(queues: Iterable[Queue]) -> dict[str, Html]:
    """A row for each queue that has dead letters; they are looked at when somebody asks."""
    rows = {}
    for queue in queues:
        depth = queue.depth
        if depth is None or not depth.dead:
            continue
        key = id_of("dead", queue.name)
        look = h(
            "button", "Look", type="button", class_="look", data_queue=queue.name, aria_label=f"Look at {queue.name}'s",
        )  # fmt: skip
        rows[key] = h(
            "tr", h("th", cut(queue.name, NAME_MAX), scope="row"),
            h("td", number(depth.dead), class_="figure", data_label="Dead letters"),
            h("td", h("code", cut(depth.dead_letter, NAME_MAX)), data_label="In queue"), h("td", look), id=key,
        )  # fmt: skip
    return rows


def group_list(queue: str, letters: Sequence[DeadLetter], *, actions: bool) -> Html:
    """Letters of one queue by the class of their last error, the most frequent first."""
    if not letters:
        return h("p", f"No dead letters of {cut(queue, NAME_MAX)}.")
    counts = Counter(letter.error for letter in letters)
    groups = [
        _group(queue, error, [one for one in letters if one.error == error], actions)
        for error, _ in counts.most_common(GROUPS_MAX)
    ]
    head = f"The oldest {number(len(letters))}" if len(letters) >= LOOKED_AT else f"All {number(len(letters))}"
    title = h("h3", f"{head} dead letters of {cut(queue, NAME_MAX)}, by error")
    return h("div", title, h("ul", *groups, class_="groups"))


def _group(queue: str, error: str, letters: Sequence[DeadLetter], actions: bool) -> Html:
    name = error or "no error of a handler"
    latest = max((one.dead_at for one in letters if one.dead_at is not None), default=None)
    replay = h(
        "button", f"Replay {number(len(letters))}", type="button", class_="act", data_action="replay",
        data_queue=queue, data_error=error, data_limit=min(len(letters), REPLAY_LIMIT),
        aria_label=f"Replay those of {name}",
    )  # fmt: skip
    examples = [_example(one) for one in letters[-EXAMPLES:]]
    return h(
        "li", h("b", cut(name, NAME_MAX)), f" {times(len(letters))}",
        h("span", ", last ", at(latest), class_="quiet") if latest is not None else None,
        " ", replay if actions else None, h("ul", *examples, class_="calls"),
    )  # fmt: skip


def _example(one: DeadLetter) -> Html:
    stack = h("details", h("summary", "stack"), h("pre", one.stack, tabindex=0, aria_label="stack"))
    id, reason = cut(one.id or "no id", NAME_MAX), cut(one.reason, REASON_MAX)
    return h("li", h("code", id), f" attempt {one.attempts}: ", reason, stack if one.stack else None)
