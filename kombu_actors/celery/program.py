"""``python -m kombu_actors celery ...``: the ``celery`` program, switched."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ._place import DIRECTORY, SWITCH, install

__all__ = ["main"]

HELP = f"""\
Usage: python -m kombu_actors celery [celery's own arguments]
       python -m kombu_actors celery --path

Runs celery with kombu_actors in kombu's place, in this process and all Python programs that it starts.
--path prints the directory that does the same in PYTHONPATH, for containers.
With {SWITCH}=0 in the environment it is stock kombu again.
"""


def main(arguments: Sequence[str]) -> None:
    """Run ``celery`` with these arguments; ends by ``SystemExit``."""
    if list(arguments) == ["--path"]:
        print(DIRECTORY)
        return
    if not arguments:
        print(HELP)
    install()
    # Celery looks there for --pool gevent, before anything else, and prints the name in its help.
    sys.argv = [os.path.join(os.path.dirname(sys.argv[0]), "celery"), *arguments]
    try:
        from celery.__main__ import main as celery
    except ModuleNotFoundError as error:
        if error.name != "celery":
            raise
        sys.exit("celery is not installed: pip install celery")
    celery()
