"""Loggers as kombu's programs make them."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from logging.handlers import WatchedFileHandler
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack, overload

from .utils.encoding import safe_repr, safe_str
from .utils.functional import maybe_evaluate

if TYPE_CHECKING:
    from _typeshed import StrPath, SupportsWrite

    ExcInfo = (
        bool
        | BaseException
        | tuple[type[BaseException], BaseException, TracebackType | None]
        | tuple[None, None, None]
        | None
    )
    """What a line's traceback is taken from."""

__all__ = ["LOG_LEVELS", "Log", "LogMixin", "get_logger", "get_loglevel", "setup_logging"]

_NAMES: Final = ("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG", "NOTSET")
LOG_LEVELS: Final[dict[str | int, Any]] = {
    **{name: getattr(logging, name) for name in (*_NAMES, "FATAL", "WARN")},
    **{getattr(logging, name): name for name in _NAMES},
}
"""Numbers by name, and names by number."""

_CONVERSION: Final = re.compile(r"%(?:\([^)]*\))?[-#0 +]*(?:\*|\d+)?(?:\.(?:\*|\d+))?[hlL]?([a-zA-Z%])")
"""A conversion of a ``%`` format; its letter."""


class LogOptions(TypedDict, total=False):
    """What ``logging`` takes beside a line's arguments."""

    exc_info: ExcInfo
    stack_info: bool
    stacklevel: int
    extra: Mapping[str, object] | None


def get_logger(logger: str | logging.Logger) -> logging.Logger:
    """A logger by its name, silent until somebody configures logging; a logger is returned as it is."""
    found = logging.getLogger(logger) if isinstance(logger, str) else logger
    if not found.handlers:
        found.addHandler(logging.NullHandler())
    return found


@overload
def get_loglevel(level: str | int) -> int: ...
@overload
def get_loglevel(level: None) -> None: ...
def get_loglevel(level: str | int | None) -> int | None:
    """The number of a level's name; anything else is returned as it is.  Raises ``KeyError`` for no level's name."""
    return LOG_LEVELS[level] if isinstance(level, str) else level


def setup_logging(
    loglevel: str | int | None = None, logfile: StrPath | SupportsWrite[str] | None = None
) -> logging.Logger:
    """Log everything from a level on (ERROR by default) to a file, by name or open; to the standard error by default.

    A root logger that has handlers keeps those, and gets the level only.
    """
    root = logging.getLogger()
    if not root.handlers:
        target: Any = logfile or sys.__stderr__
        root.addHandler(logging.StreamHandler(target) if hasattr(target, "write") else WatchedFileHandler(target))
    root.setLevel(get_loglevel(loglevel or "ERROR"))
    return root


def _safe_arguments(fmt: str, args: Sequence[object]) -> Iterator[object]:
    """The arguments of a format: what ``%s`` and ``%r`` show can't raise any more."""
    letters = [letter for letter in _CONVERSION.findall(fmt) if letter != "%"]
    for index, arg in enumerate(args):
        letter = letters[index] if index < len(letters) else ""
        yield {"s": safe_str, "r": safe_repr}.get(letter, lambda given: given)(arg)


class LogMixin:
    """Logging methods for a class: its logger has the class's name, and each line begins with it.

    Arguments may be ``lazy``: they are made only where the level is logged, and one whose ``repr`` raises does no harm.
    """

    def debug(self, *args: object, **kwargs: Unpack[LogOptions]) -> None:
        """Log with level DEBUG."""
        self.log(logging.DEBUG, *args, **kwargs)

    def info(self, *args: object, **kwargs: Unpack[LogOptions]) -> None:
        """Log with level INFO."""
        self.log(logging.INFO, *args, **kwargs)

    def warn(self, *args: object, **kwargs: Unpack[LogOptions]) -> None:
        """Log with level WARNING."""
        self.log(logging.WARNING, *args, **kwargs)

    def error(self, *args: object, **kwargs: Unpack[LogOptions]) -> None:
        """Log with level ERROR, with the traceback of the exception that is being handled."""
        kwargs.setdefault("exc_info", sys.exc_info()[0] is not None)
        self.log(logging.ERROR, *args, **kwargs)

    def critical(self, *args: object, **kwargs: Unpack[LogOptions]) -> None:
        """Log with level CRITICAL, with the traceback of the exception that is being handled."""
        kwargs.setdefault("exc_info", sys.exc_info()[0] is not None)
        self.log(logging.CRITICAL, *args, **kwargs)

    def annotate(self, text: str) -> str:
        """The line as it is logged: behind the logger's name."""
        return f"{self.logger_name} - {text}"

    def log(self, severity: int, *args: object, **kwargs: Unpack[LogOptions]) -> None:
        """Log a ``%`` format with its arguments; of a single argument, or where the first is no text, their texts."""
        if not self.is_enabled_for(severity):
            return
        if len(args) > 1 and isinstance(args[0], str):
            values = _safe_arguments(args[0], [maybe_evaluate(arg) for arg in args[1:]])
            self.logger.log(severity, self.annotate(args[0].replace("%r", "%s")), *values, **kwargs)
        else:
            text = " ".join(safe_str(maybe_evaluate(arg)) for arg in args)
            self.logger.log(severity, "%s", self.annotate(text), **kwargs)

    def get_logger(self) -> logging.Logger:
        """Where it logs to; silent until somebody configures logging."""
        return get_logger(self.logger_name)

    def is_enabled_for(self, level: str | int) -> bool:
        """Whether lines of a level are logged."""
        return self.logger.isEnabledFor(self.get_loglevel(level))

    def get_loglevel(self, level: str | int) -> int:
        """The number of a level's name; a number is returned as it is."""
        return get_loglevel(level)

    @property
    def logger(self) -> logging.Logger:
        """Where it logs to."""
        return self.get_logger()

    @property
    def logger_name(self) -> str:
        """The logger's name."""
        return type(self).__name__


class Log(LogMixin):
    """A logger with ``LogMixin``'s methods, by name or given."""

    def __init__(self, name: str, logger: logging.Logger | None = None) -> None:
        self._logger_name = name
        self._logger = logger

    def get_logger(self) -> logging.Logger:
        """Where it logs to."""
        return self._logger or super().get_logger()

    @property
    def logger_name(self) -> str:
        """The logger's name."""
        return self._logger_name
