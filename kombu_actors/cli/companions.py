"""What ``run`` has beside the program: by which flag, and what it takes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import click

from ..control.server import ControlSocket
from ..hosting import HealthFile, notifier_of
from .burst import end_when_idle
from .page import PageFlags
from .running import Companion

__all__ = ["companions"]


def companions(
    *, control: str | None, http: str | None, page: PageFlags, health_file: Path | None, burst: bool
) -> Iterator[Companion]:
    """Those that the flags of ``run`` ask for, and systemd by its variables.

    Raises ``click.UsageError``.
    """
    if control != "":
        yield ControlSocket(control)
    if http is not None:
        yield http_companion(http, page)
    elif page.allow_actions:
        raise click.UsageError("--allow-actions is about the page that --http serves: give that, too")
    if health_file is not None:
        yield HealthFile(health_file)
    if burst:
        yield end_when_idle
    notifier = notifier_of(os.environ)
    if notifier is not None:
        yield notifier


def http_companion(place: str, page: PageFlags) -> Companion:
    """``--http``: status over HTTP.

    Raises ``click.UsageError``: that is no place to listen at, or the extra is not installed.
    """
    try:
        from ..web import parse_binding, serve  # 0.2 s, for who asks
    except ImportError as error:
        raise click.UsageError(f"--http needs {error.name}: pip install 'kombu-actors[web]'") from None
    try:
        return partial(serve, bind=parse_binding(place), token=page.token(), names=page.names)
    except ValueError as error:
        raise click.UsageError(f"--http: {error}") from None
