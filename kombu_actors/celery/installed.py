"""``import kombu_actors.celery.installed``: ``install()`` as one line that sorts first among imports."""

from __future__ import annotations

from ._place import install

install()
