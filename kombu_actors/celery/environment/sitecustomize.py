"""Run by Python when it starts with this directory in ``PYTHONPATH``: the switch for a whole container.

Another ``sitecustomize`` that this one hides is run after it.
"""

from __future__ import annotations

if __name__ == "sitecustomize":
    import sys
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    from kombu_actors.celery import DIRECTORY, install

    install()
    hidden = PathFinder.find_spec("sitecustomize", [path for path in sys.path if path != DIRECTORY])
    if hidden is not None and hidden.loader is not None:
        hidden.loader.exec_module(module_from_spec(hidden))
