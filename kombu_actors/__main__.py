"""``python -m kombu_actors``: the same as ``kombu-actors``."""

from .cli import main

main()
