"""Putting our modules in kombu's place, by a finder in front of all others.

It is loaded at the start of each Python program of a container, so it imports as little as can be, and nothing of
ours before somebody imports kombu.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys

TYPE_CHECKING = False  # as type checkers know it: importing typing takes longer than all of this
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = ["DIRECTORY", "SWITCH", "TooLate", "install"]

KOMBU, OURS = "kombu", "kombu_actors"
SWITCH = "KOMBU_ACTORS_CELERY"
"""The environment variable that goes back to stock kombu when it is ``0``, whatever the program says."""
DIRECTORY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "environment")
"""What ``PYTHONPATH`` names for a program to be switched when it starts: a ``sitecustomize`` is there."""

ERRORS = (
    *("BatchPublishError", "ChannelLimitExceeded", "ConnectionLimitExceeded", "ContentDisallowed", "DecodeError"),
    *("EncodeError", "HttpError", "InconsistencyError", "KombuError", "LimitExceeded", "MessageStateError"),
    *("NotBoundError", "OperationalError", "SerializationError", "SerializerNotInstalled", "VersionMismatch"),
)
"""kombu's own exceptions."""


class TooLate(RuntimeError):
    """kombu itself has been imported in this process: classes of both would meet, and neither know the other's."""


class KombuFinder:
    """Finds ``kombu`` and ``kombu.x.y``: the same module objects as ``kombu_actors`` and ``kombu_actors.x.y``."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """``importlib.abc.MetaPathFinder``'s method.

        Raises:
            ModuleNotFoundError: kombu may have this module; kombu_actors has not.
        """
        root, dot, rest = fullname.partition(".")
        if root != KOMBU:
            return None
        ours = OURS + dot + rest
        if not _is_there(ours):
            raise ModuleNotFoundError(
                f"No module named {fullname!r}: kombu_actors is in kombu's place here and has no {ours!r} "
                f"(docs/migrating-from-kombu.md lists what there is; {SWITCH}=0 goes back to kombu)",
                name=fullname,
            )
        # typeshed wants the method that importlib has deprecated
        return importlib.util.spec_from_loader(fullname, SameModule(ours))  # type: ignore[arg-type]


class SameModule:
    """Loads a module under a second name."""

    def __init__(self, ours: str) -> None:
        self.ours = ours
        self.own_spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Ours, imported under its own name."""
        module = importlib.import_module(self.ours)
        self.own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It has been executed; the import system has put the second name's spec on it, which goes again."""
        module.__spec__ = self.own_spec
        if module.__name__ == f"{OURS}.exceptions":
            _name_errors(module)
        if module.__name__ == OURS:
            _announce()


def install() -> bool:
    """Put our modules in kombu's place, in this process and the Python programs that it will start.

    What imports ``kombu`` from then on gets kombu_actors, module by module the same objects.  That is said once, as a
    warning of the logger ``kombu_actors.celery``, when kombu is first imported.  ``PYTHONPATH`` gets ``DIRECTORY`` in
    front, for children that are executed anew; forked ones have it anyway.  Calling it again does nothing.

    Returns:
        False when ``KOMBU_ACTORS_CELERY=0`` forbids it.

    Raises:
        TooLate: kombu has been imported already; call this first, or start the program by
            ``python -m kombu_actors celery ...``.
    """
    if os.environ.get(SWITCH) == "0":
        return False
    if any(isinstance(finder, KombuFinder) for finder in sys.meta_path):
        return True
    if KOMBU in sys.modules:
        raise TooLate(
            "kombu was imported before kombu_actors could take its place. Call kombu_actors.celery.install() before "
            "anything imports celery or kombu; a program that is started by `celery ...` has imported both: start it "
            f"by `python -m kombu_actors celery ...`, or with PYTHONPATH={DIRECTORY}"
        )
    sys.meta_path.insert(0, KombuFinder())
    _export()
    return True


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # nor is the package that it would be in
        return False


def _export() -> None:
    present = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part and part != DIRECTORY]
    os.environ["PYTHONPATH"] = os.pathsep.join([DIRECTORY, *present])


def _name_errors(module: ModuleType) -> None:
    """Have kombu's errors be pickled, and shown in logs, by the names that stock kombu's have: a result that says
    ``kombu.exceptions.OperationalError`` is understood by processes of both kinds."""
    for name in ERRORS:
        getattr(module, name).__module__ = f"{KOMBU}.exceptions"


def _announce() -> None:
    import logging

    from .. import __version__
    from ..connection import Connection

    Connection.tells_lost = True  # programs written for kombu forget then what they have not settled
    Connection.memory_exclusive = False

    logging.getLogger("kombu_actors.celery").warning(
        "kombu_actors %s is in kombu's place in this process (%s=0 goes back to kombu)", __version__, SWITCH
    )
