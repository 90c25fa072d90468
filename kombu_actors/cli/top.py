"""``top``: a fleet as it goes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import click

from .asking import Asking, asks
from .options import option

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ..control.answers import Frame

__all__ = ["top"]

WIDTH = 140
"""Columns where there is no terminal to ask for its own."""


@click.command()
@option("--interval", type=click.FloatRange(min=0.1), default=1.0, show_default=True, help="Seconds between frames.")
@click.option("--once", is_flag=True, help="One frame, and no more; so it is, too, where there is no terminal.")
@asks
def top(asking: Asking, interval: float, once: bool) -> None:
    """Watch a fleet: processes, rates and depths of queues, messages in hand, its tree with restarts and countdowns.

    Ctrl-C ends it.  With -j each frame is a line of JSON.
    """
    if asking.as_json:
        return _as_json(asking, interval, once or not sys.stdout.isatty())
    try:
        from rich.console import Console
        from rich.live import Live
    except ImportError:
        raise click.UsageError("top needs rich: pip install 'kombu-actors[cli]'") from None
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    frames = asking.follow("watch", interval=interval, depths=True)
    with closing(frames):
        if once or not console.is_terminal:
            console.print(_frame(None, next_frame(frames, with_depths=True), height=None))
            return None
        with Live(console=console, screen=True, auto_refresh=False) as live:
            before: Frame | None = None
            while True:
                now = next_frame(frames)
                live.update(_frame(before, now, height=console.height), refresh=True)
                before = now


def _as_json(asking: Asking, interval: float, once: bool) -> None:
    import json

    with closing(asking.follow("watch", interval=interval, depths=True)) as frames:
        while True:
            click.echo(json.dumps(next_frame(frames, with_depths=once), ensure_ascii=False))
            if once:
                return


def next_frame(frames: Iterator[Frame | None], *, with_depths: bool = False) -> Frame:
    """The next status; with its depths, unless it says why there are none."""
    for frame in frames:
        if frame is not None and (not with_depths or frame["depths"] is not None or frame["why_no_depths"] is not None):
            return frame
    raise click.exceptions.Exit(0)


def _frame(before: Frame | None, now: Frame, height: int | None) -> RenderableType:
    from .frames import frame  # rich, for who asks

    return frame(before, now, height)
