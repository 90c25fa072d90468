"""``kombu-actors``: fleets from the command line.

    kombu-actors run shop:fleet
    kombu-actors explain shop:fleet

What each exit code means is in ``exits``.  ``python -m kombu_actors`` is the same.
"""

from __future__ import annotations

import sys

from .exits import USAGE

__all__ = ["main"]


def main() -> None:
    """The console script."""
    try:
        import click  # noqa: F401  # the extra `cli`: programs that run their fleets themselves need none
    except ImportError:
        print("kombu-actors needs click: pip install 'kombu-actors[cli]'", file=sys.stderr)
        sys.exit(USAGE)
    from .commands import program

    program(prog_name="kombu-actors")
