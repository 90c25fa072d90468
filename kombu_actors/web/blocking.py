"""For programs that block: a ``Connection``'s tree, served from the runtime in which it lives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from .._bridge.stay import Stay
from .binding import Binding, parse_binding
from .server import GRACE
from .trees import serve_status

if TYPE_CHECKING:
    from ..connection import Connection

__all__ = ["serve_status_sync"]


@contextmanager
def serve_status_sync(connection: Connection, bind: Binding | str, *, name: str = "program") -> Iterator[None]:
    """``with serve_status_sync(connection, "8080"):``, as ``serve_status``, also while callbacks block.

    It connects, if that was not done, and shows that run of the connection: what a later ``connect`` makes, after a
    ``release``, has a tree of its own.

    Args:
        connection: it has to outlive the block.
        bind: a port of this machine, ``HOST:PORT``, or ``unix:PATH``.
        name: what the page calls the program.

    Raises:
        ValueError: that is no place to listen at.
        OSError: nothing can be served there.
        BrokerUnreachable, AccessRefused: as ``connect``.
    """
    place = parse_binding(bind) if isinstance(bind, str) else bind
    tree = connection.connect().supervision
    stay = Stay(partial(serve_status, tree, place, name=name), goodbye=2 * GRACE)
    try:
        stay.begin()
        yield
    finally:
        stay.end()
