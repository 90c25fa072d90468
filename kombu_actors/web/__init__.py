"""A program's status over HTTP: health for orchestrators, figures, what happens, a page for people.

It needs starlette and hypercorn, the extra ``web``; nothing else of kombu_actors imports them.
"""

from .application import application
from .binding import Binding, parse_binding
from .blocking import serve_status_sync
from .server import serve
from .trees import serve_status

__all__ = ["Binding", "application", "parse_binding", "serve", "serve_status", "serve_status_sync"]
