"""Celery, or any other program written for kombu, on kombu_actors: our modules in kombu's place.

One of these, and nothing else, changes::

    python -m kombu_actors celery -A proj worker        # instead of: celery -A proj worker
    PYTHONPATH=$(python -m kombu_actors celery --path)  # for all Python programs of a container
    import kombu_actors.celery.installed                # first line of a program that imports celery itself

``docs/celery.md`` says what becomes better, what differs and how to go back (``KOMBU_ACTORS_CELERY=0``).
"""

from __future__ import annotations

from ._place import DIRECTORY, SWITCH, TooLate, install

__all__ = ["DIRECTORY", "SWITCH", "TooLate", "install"]
