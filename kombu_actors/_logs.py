"""How the runtime logs: as everybody does, but under gevent and eventlet by way of a greenlet of the program's.

logging's locks are theirs then, and made for the greenlets of one thread.  When the runtime's thread lets go one of
eventlet's that a greenlet waits for, it tells a hub of its own, which nobody runs, and the greenlet waits for ever.
A handler may also write to a socket of theirs.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from ._frozen import Record

__all__ = ["Line", "Relay", "RuntimeLogger", "get_logger", "present_relay", "relay_by"]

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


class Line(Record):
    """What is to be logged, before anything of logging's has been touched that has a lock."""

    logger: logging.Logger
    level: int
    message: object
    args: tuple[object, ...]
    exc_info: ExcInfo | None
    extra: Mapping[str, object] | None
    at: float
    """When it was said, as ``time.time()``."""
    where: tuple[str, int, str]
    """Path, line number and function of who said it."""

    def write(self) -> None:
        """Hand it to logging, in a thread that may wait for its locks."""
        path, number, function = self.where
        record = self.logger.makeRecord(
            *(self.logger.name, self.level, path, number, self.message, self.args, self.exc_info),
            func=function,
            extra=self.extra,
        )
        record.relativeCreated += (self.at - record.created) * 1000
        record.created, record.msecs = self.at, self.at % 1 * 1000
        self.logger.handle(record)


class Relay(Protocol):
    """Who writes lines for the runtime's thread."""

    @property
    def alive(self) -> bool:
        """Whether it writes any."""

    def is_home(self) -> bool:
        """Whether the caller's thread is the one that it writes in."""

    def post(self, call: Callable[[], object]) -> None:
        """Have a call made soon.  Any thread."""

    def spawn(self, call: Callable[[], object]) -> None:
        """Have a call made soon, which may take long.  Any thread."""


_relay: Relay | None = None


def relay_by(relay: Relay) -> None:
    """Lines from threads that must not wait for logging's locks go this way from now on."""
    global _relay
    _relay = relay


def present_relay() -> Relay | None:
    """Who makes the runtime's calls, where a library has patched and somebody has waited since."""
    return _relay if _relay is not None and _relay.alive else None


if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter


class RuntimeLogger(_Adapter):
    """A logger for code that runs in the runtime's thread."""

    def isEnabledFor(self, level: int) -> bool:
        """Whether it is written; without the lock that logging takes for its cache."""
        logger = self.logger
        return not logger.disabled and logger.manager.disable < level and level >= logger.getEffectiveLevel()

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """As ``logging.Logger.log``."""
        if not self.isEnabledFor(level):
            return
        relay = present_relay()
        if relay is None or relay.is_home():
            self.logger.log(level, msg, *args, stacklevel=2, **kwargs)
            return
        caller = sys._getframe(1)
        while caller.f_code.co_filename == _LOGGING and caller.f_back is not None:
            caller = caller.f_back
        where = caller.f_code.co_filename, caller.f_lineno, caller.f_code.co_name
        error = _exc_info(kwargs.get("exc_info"))
        line = Line(self.logger, level, msg, args, error, kwargs.get("extra"), time.time(), where)
        relay.post(line.write)


_LOGGING = logging.LoggerAdapter.log.__code__.co_filename


def _exc_info(given: object) -> ExcInfo | None:
    error = given if isinstance(given, BaseException) else sys.exception() if given else None
    return None if error is None else (type(error), error, error.__traceback__)


def get_logger(name: str) -> RuntimeLogger:
    """The logger of a name, for code that runs in the runtime's thread."""
    return RuntimeLogger(logging.getLogger(name))
