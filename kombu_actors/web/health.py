"""Whether it lives, whether it is ready, and all that is known of it."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ..hosting import alive
from .observed import Observed

__all__ = ["health_routes"]

NO_STORE = {"cache-control": "no-store"}


def health_routes(program: Observed) -> Sequence[Route]:
    """``/livez``, ``/readyz`` and ``/status.json``."""

    async def livez(request: Request) -> Response:
        living, why = alive(program.status())
        return PlainTextResponse(f"{why}\n", 200 if living else 503, NO_STORE)

    async def readyz(request: Request) -> Response:
        status = program.status()
        lines = [status.state.value, *status.reasons]
        return PlainTextResponse("\n".join(lines) + "\n", 200 if status.ready else 503, NO_STORE)

    async def status_json(request: Request) -> Response:
        return JSONResponse(program.status().to_dict(), headers=NO_STORE)

    return (Route("/livez", livez), Route("/readyz", readyz), Route("/status.json", status_json))
