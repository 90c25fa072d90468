"""An event loop for programs that have one: files to read and write, timers, calls to be made soon.

It is what an evented Celery worker runs on.  Connections need no event loop; one that is to be told of news calls
``connection.register_with_event_loop(hub)``.
"""

from __future__ import annotations

from ..utils.eventio import ERR, READ, WRITE
from .hub import Hub, get_event_loop, set_event_loop

__all__ = ["ERR", "READ", "WRITE", "Hub", "get_event_loop", "set_event_loop"]
