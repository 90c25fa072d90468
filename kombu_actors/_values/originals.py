"""The standard library as the interpreter made it, in a process that gevent or eventlet has patched.

The runtime is a thread of the operating system with an event loop of its own.  It must wait by real
locks, sockets and ``epoll``, while the program's greenlets wait by their hub: what the two share
(``_bridge/bells.py``) is made for that, and whatever only the runtime uses is taken from here.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

TYPE_CHECKING = False  # as type checkers know it: importing typing takes five times as long as all of this
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["green", "import_trio", "pristine", "unpatch_runtime"]

AGAIN = ("_thread", "time", "select", "selectors", "socket", "queue", "subprocess", "ctypes.util")
"""Modules that can be executed once more, which gives them as they were.  (``import trio`` runs ``ldconfig``, by way of
``ctypes.util``, which holds on to the ``subprocess`` that it was imported with.)"""
OURS = ("actors", "supervisors", "transport", "_bridge.sockets")
RUNTIME = ("trio", *(f"kombu_actors.{one}" for one in OURS))
"""What runs in the runtime's thread, by the beginnings of its modules' names."""
MARKS = {"gevent.monkey": "is_module_patched", "eventlet.patcher": "is_monkey_patched"}
"""How to ask a library whether it has patched a module."""

_pristine: dict[str, ModuleType] = {}


def green() -> str | None:
    """``"gevent"`` or ``"eventlet"`` if it has patched sockets or threads in this process."""
    for name, question in MARKS.items():
        library = sys.modules.get(name)
        if library is not None:
            patched = getattr(library, question)
            if patched("socket") or patched("threading" if name == "gevent.monkey" else "thread"):
                return name.partition(".")[0]
    return None


def pristine(name: str) -> ModuleType:
    """A module as the interpreter made it: one of ``AGAIN``, or ``threading`` (what trio and we need of it)."""
    if green() is None:
        return importlib.import_module(name)
    if not _pristine:
        _pristine.update(_make_again())
    return _pristine[name]


def _make_again() -> dict[str, ModuleType]:
    patched = {name: sys.modules.pop(name) for name in AGAIN if name in sys.modules}
    try:
        made = {name: importlib.import_module(name) for name in AGAIN}
    finally:
        # What the program has not imported yet must not be ours when it does: it may be in the middle of patching.
        for name in AGAIN:
            sys.modules.pop(name, None)
        for name, module in patched.items():
            _put(name, module)
    # gevent's os.posix_spawn wants its main loop, forking needs none; the standard library documents this flag.
    vars(made["subprocess"])["_USE_POSIX_SPAWN"] = False
    return {**made, "threading": _threading(made["_thread"])}


def _put(name: str, module: ModuleType) -> None:
    """Have imports of a name, and the package that it is in, lead to a module."""
    sys.modules[name] = module
    package, _, last = name.rpartition(".")
    if package:
        setattr(sys.modules[package], last, module)


def _threading(thread: ModuleType) -> ModuleType:
    """``threading`` can't be executed again: it would take the present thread for a new main thread."""

    class Thread:
        """A thread of the operating system, as far as trio and we use ``threading.Thread``."""

        def __init__(
            self, *, target: Callable[..., object], name: str = "", args: tuple[object, ...] = (), daemon: bool = True
        ) -> None:
            self.name = name
            self.ident: int | None = None
            self._target, self._args = target, args
            self._ended = thread.allocate_lock()

        def start(self) -> None:
            self._ended.acquire()
            try:
                self.ident = thread.start_new_thread(self._run, ())
            except BaseException:
                self._ended.release()
                raise

        def _run(self) -> None:
            try:
                self._target(*self._args)
            finally:
                self._ended.release()

        def join(self) -> None:
            with self._ended:
                return

    module = ModuleType("threading")
    vars(module).update(vars(sys.modules["threading"]))
    vars(module).update(
        Thread=Thread,
        Lock=thread.allocate_lock,
        RLock=thread.RLock,
        local=thread._local,
        get_ident=thread.get_ident,
    )
    return module


def _import_in_place(wanted: str) -> None:
    """Import a module that gets those it imports as they were."""
    pristine("time")
    patched = {name: sys.modules.get(name) for name in _pristine}
    for name, module in _pristine.items():
        _put(name, module)
    try:
        importlib.import_module(wanted)
    finally:
        for name, before in patched.items():
            if before is None:
                del sys.modules[name]
            else:
                _put(name, before)


def unpatch_runtime() -> None:
    """Have the runtime's modules, trio included, use the modules as they were, whenever those were patched."""
    if green() is None:
        return
    pristine("time")
    instead: dict[int, object] = {}
    for name, original in _pristine.items():
        patched = sys.modules.get(name)
        if patched is not None:
            instead[id(patched)] = original
            for attribute, value in vars(patched).items():
                if callable(value) and hasattr(original, attribute):
                    instead[id(value)] = getattr(original, attribute)
    for namespace in _namespaces():
        for attribute, value in list(namespace.items()):
            unpatched = instead.get(id(value))
            if unpatched is not None:
                namespace[attribute] = unpatched


def _namespaces() -> Iterator[dict[str, object]]:
    """The global names of the runtime's modules, and those of the constructors that attrs has made for them."""
    for name, module in list(sys.modules.items()):
        if name.startswith(RUNTIME) and module is not None:
            yield vars(module)
            for kind in list(vars(module).values()):
                made = getattr(getattr(kind, "__init__", None), "__globals__", None) if isinstance(kind, type) else None
                if made is not None and kind.__module__ == name and made is not vars(module):
                    yield made


def import_trio() -> None:
    """Before anything imports trio: where the standard library has been patched, trio gets it as it was.

    Raises:
        ImportError: the program has imported trio itself since it was patched.
    """
    library = green()
    if library is None:
        return
    if "trio" not in sys.modules:
        _import_in_place("trio")
    elif type(sys.modules["trio._core._run"].GLOBAL_RUN_CONTEXT).__base__.__module__ != "_thread":
        raise ImportError(
            f"trio was imported after {library} had patched the standard library, and can't be used in this process: "
            f"import trio before {library} patches, or kombu_actors after that and before trio"
        )


import_trio()
