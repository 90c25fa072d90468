"""How the demonstration is watched: a live picture on a terminal, plain lines anywhere else."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Iterator

import attrs
import trio
from _demo_job import Account
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from kombu_actors.supervisors import ChildState, ChildView, Event, events, root_cause

Snapshots = Callable[[], tuple[ChildView, ...]]

FRAME = 0.1
"""Seconds between two pictures: smooth to the eye, and a few percent of one core."""
PLAIN_EVERY = 1.0
"""Seconds between two plain lines about the progress."""
LINES = 9
"""Events shown."""

KINDS = {
    "handlers": re.compile(r"handlers/[^/]+"),
    "channels": re.compile(r"channels/[^/]+/channel"),
    "sessions": re.compile("session"),
}
"""Whose restarts are counted, by the path of their actor."""

COLOURS = {
    ChildState.NEW: "dim",
    ChildState.STARTING: "cyan",
    ChildState.READY: "green",
    ChildState.DEGRADED: "yellow",
    ChildState.STOPPING: "blue",
    ChildState.BACKING_OFF: "yellow",
    ChildState.COOLING_DOWN: "yellow",
    ChildState.STOPPED: "dim",
    ChildState.COMPLETED: "dim green",
    ChildState.STUCK: "bold red",
}


@attrs.define
class Journal:
    """Reads the supervisors' events: counts restarts, keeps the last lines, hands each line on."""

    tell: Callable[[str], None] = lambda line: None
    restarts: Counter[str] = attrs.field(factory=Counter)
    lines: deque[str] = attrs.field(factory=lambda: deque(maxlen=LINES))
    start: float = attrs.field(factory=trio.current_time)
    _told: BaseException | None = None

    @property
    def elapsed(self) -> float:
        """Seconds since the journal was opened."""
        return trio.current_time() - self.start

    def hear(self, event: Event) -> None:
        """A listener for ``open_broker`` and ``open_supervisor``."""
        match event:
            case events.ChildRestarted(path=path, epoch=epoch, downtime=downtime):
                kind = next((kind for kind, pattern in KINDS.items() if pattern.fullmatch(path)), None)
                if kind is not None:
                    self.restarts[kind] += 1
                    self.note(f"{path} serves again, epoch {epoch}, after {downtime * 1000:.0f} ms")
            case events.ChildFailed(path=path, error=error) if root_cause(error) is not self._told:
                # A lost connection is the failure of everyone who used it; it is told once.
                self._told = root_cause(error)
                self.note(f"{path} failed: {type(self._told).__name__}: {self._told}")
            case events.ChildBackingOff(path=path, delay=delay) if delay > 0:
                self.note(f"{path} is started again in {delay:.2f} s")
            case events.ChildStuck(path=path):
                self.note(f"{path} is stuck")

    def note(self, line: str) -> None:
        """Add a line of one's own."""
        line = f"{self.elapsed:5.1f} s  {line}"
        self.lines.append(line)
        self.tell(line)


async def show_live(account: Account, journal: Journal, snapshots: Snapshots) -> None:
    """Draw until cancelled, on the terminal's other screen: afterwards it is as it was."""
    with Live(console=Console(), auto_refresh=False, screen=True) as live:
        while True:
            live.update(picture(account, journal, snapshots()), refresh=True)
            await trio.sleep(FRAME)


async def show_plain(account: Account, journal: Journal, snapshots: Snapshots) -> None:
    """Print a line about the progress every second, until cancelled."""
    while True:
        await trio.sleep(PLAIN_EVERY)
        session = next((view for tree in snapshots() if (view := tree.find("session"))), None)
        state = f"session {session.state.value}, epoch {session.epoch}" if session else "no session"
        print(
            f"{journal.elapsed:5.1f} s  published {len(account.attempted)}, confirmed {len(account.confirmed)}, "
            f"handled {len(account.handled)}, duplicates {account.duplicates}; {state}",
            flush=True,
        )


def picture(account: Account, journal: Journal, trees: tuple[ChildView, ...]) -> RenderableType:
    """The whole picture at one moment."""
    columns = Table.grid(expand=True, padding=(0, 1))
    columns.add_column(ratio=2)
    columns.add_column(ratio=3)
    columns.add_row(
        Panel(_progress(account, journal), title="account", border_style="blue"),
        Panel(Group(*map(_tree, trees)), title="supervision", border_style="blue"),
    )
    news = Text("\n".join(journal.lines), no_wrap=True, overflow="ellipsis")
    news.highlight_regex("fault: .*", "bold red")
    news.highlight_regex("serves again", "green")
    news.highlight_regex("failed", "yellow")
    return Group(columns, Panel(news, title="events", border_style="blue", height=LINES + 2))


def _progress(account: Account, journal: Journal) -> RenderableType:
    rows = Table.grid(expand=True, padding=(0, 1))
    rows.add_column()
    rows.add_column(justify="right")
    rows.add_column(ratio=1, no_wrap=True)
    for name, numbers in (
        ("published", account.attempted),
        ("confirmed", account.confirmed),
        ("handled", account.handled),
    ):
        rows.add_row(name, str(len(numbers)), ProgressBar(total=account.total, completed=len(numbers)))
    rows.add_row("to come", str(len(account.lost)), Text("confirmed, not handled yet", style="dim"))
    rows.add_row("duplicates", str(account.duplicates), Text("recognised by their number", style="dim"))
    for kind in KINDS:
        rows.add_row(kind, str(journal.restarts[kind]), Text("restarts", style="dim"))
    rate = len(account.handled) / journal.elapsed
    rows.add_row("time", f"{journal.elapsed:.1f} s", Text(f"{rate:.0f} messages/s", style="dim"))
    return rows


def _tree(view: ChildView, parent: Tree | None = None) -> Tree:
    branch = Tree(_label(view), guide_style="dim") if parent is None else parent.add(_label(view))
    if not _shares_fate(view, parent):
        for child in view.children:
            _tree(child, branch)
    return branch


def _label(view: ChildView) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{view.id} ", "bold" if view.children else "")
    text.append(view.state.value, COLOURS[view.state])
    if view.epoch > 1:
        text.append(f"  epoch {view.epoch}")
    if view.restarts:
        text.append(f"  restarts {view.restarts}", "magenta")
    if view.next_attempt_in is not None:
        text.append(f"  again in {view.next_attempt_in:.1f} s", "yellow")
    if view.degraded is not None:
        text.append(f"  {view.degraded}", "yellow")
    if view.path and view.strategy not in (None, "one_for_one"):
        text.append("  ")
        for leaf in _leaves(view):
            text.append("●", COLOURS[leaf.state])
    return text


def _shares_fate(view: ChildView, parent: Tree | None) -> bool:
    """Whether the members stand and fall together: then each is only a dot on the supervisor's line."""
    return parent is not None and view.strategy not in (None, "one_for_one")


def _leaves(view: ChildView) -> Iterator[ChildView]:
    if not view.children:
        yield view
    for child in view.children:
        yield from _leaves(child)
