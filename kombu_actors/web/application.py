"""What is served at which path."""

from __future__ import annotations

from collections.abc import Collection

from starlette.applications import Starlette
from starlette.routing import Route

from ..hosting.depths import DepthSampler
from .feed import event_route
from .health import health_routes
from .metrics import metrics_route
from .observed import Observed
from .page import Page, Token, page_routes
from .page.safety import Safe

__all__ = ["application"]

TELLING = ("/status.json", "/events")
"""What tells of handlers, messages and errors.  Probes and scrapers ask for the rest, under whatever name."""


def application(
    program: Observed,
    page: Page | None = None,
    *,
    depths: DepthSampler | None = None,
    token: Token | None = None,
    names: Collection[str] = (),
) -> Starlette:
    """An ASGI application for trio that shows a program; to be served in the trio program that runs it.

    Args:
        page: the status page, which somebody runs; None: there is none.
        depths: what looks into the broker, for metrics, and somebody runs; None: it isn't looked into.
        token: what has to be known to act from the page; None: nobody may.
        names: host names under which page, status and events are known, besides localhost and this machine's.
    """
    routes: list[Route] = [*health_routes(program), metrics_route(program, depths), event_route(program)]
    routes = [_shielded(route, names) if route.path in TELLING else route for route in routes]
    if page is not None:
        routes += page_routes(page, token, names)
    return Starlette(routes=routes)


def _shielded(route: Route, names: Collection[str]) -> Route:
    """No site may read it through a browser that stands where this is served; see ``page.guard``."""
    return Route(route.path, Safe(route.app, names), methods=["GET"])
