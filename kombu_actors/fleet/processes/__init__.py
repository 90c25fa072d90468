"""A fleet in several processes: a parent that supervises workers, and what they say to each other.

``docs/processes.md`` explains it.  ``program`` is the parent, ``worker`` the other side.
"""

from ._suspects import DEATHS
from .program import RESTARTS, SILENCE, Processes
from .recycling import Recycling
from .task import Task

__all__ = ["DEATHS", "RESTARTS", "SILENCE", "Processes", "Recycling", "Task"]
