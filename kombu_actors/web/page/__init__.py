"""The status page: one page for people, kept up to date over server-sent events.  ``docs/status-page.md`` tells of it.

Values become rows of HTML here (``rendering``), rows that differ are sent (``frames``, ``streaming``), and a small
script puts them in place.  Nothing is asked of another host, and nothing is inline, so that the policy sent with it can
forbid both.
"""

from .guard import Token, token_at
from .routes import page_routes
from .watching import Page

__all__ = ["Page", "Token", "page_routes", "token_at"]
