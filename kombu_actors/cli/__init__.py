"""``kombu-actors``: fleets from the command line.

    kombu-actors run shop:fleet
    kombu-actors celery -A proj worker
    kombu-actors status
    kombu-actors --help

What each exit code means is in ``exits``.  ``python -m kombu_actors`` is the same.
"""

from __future__ import annotations

import sys

from .exits import USAGE

__all__ = ["main"]


def main() -> None:
    """The console script."""
    if sys.argv[1:2] == ["celery"]:  # before anything is imported that gevent, which celery may start, would patch
        from ..celery.program import main as celery

        celery(sys.argv[2:])
        return
    if sys.argv[1:2] == ["health"]:
        from .probe import probe

        code = probe(sys.argv[2:])
        if code is not None:
            sys.exit(code)
    try:
        import click  # noqa: F401  # the extra `cli`: programs that run their fleets themselves need none
    except ImportError:
        print("kombu-actors needs click: pip install 'kombu-actors[cli]'", file=sys.stderr)
        sys.exit(USAGE)
    from .verbs import program

    program(prog_name="kombu-actors")
