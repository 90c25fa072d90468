"""Seeing what happens."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import wraps
from types import TracebackType
from typing import Any, Self

from ..log import get_logger
from .encoding import safe_repr
from .functional import reprcall

__all__ = ["Logwrapped", "setup_logging"]


def setup_logging(loglevel: int | None = logging.DEBUG, loggers: Iterable[str] | None = None) -> None:
    """Show on the standard error what is logged from a level on: by kombu_actors, or by the loggers named."""
    for name in loggers or ["kombu_actors"]:
        logger = get_logger(name)
        logger.addHandler(logging.StreamHandler())
        if loglevel is not None:
            logger.setLevel(loglevel)


class Logwrapped:
    """An object, each call of whose methods is logged with level DEBUG, behind ``ident``."""

    __ignore = ("__enter__", "__exit__")

    def __init__(self, instance: object, logger: logging.Logger | None = None, ident: str | None = None) -> None:
        self.instance = instance
        self.logger = get_logger(logger or __name__)
        self.ident = ident

    def __getattr__(self, key: str) -> Any:
        method: object = getattr(self.instance, key)
        if not callable(method) or key in self.__ignore:
            return method

        @wraps(method)
        def logged(*args: object, **kwargs: object) -> object:
            self.logger.debug("%s%s", self.ident or "", reprcall(getattr(method, "__name__", key), args, kwargs))
            return method(*args, **kwargs)

        return logged

    def __enter__(self) -> Self:
        if hasattr(self.instance, "__enter__"):
            self.instance.__enter__()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> bool | None:
        leave = getattr(self.instance, "__exit__", None)
        return None if leave is None else leave(exc_type, exc_val, exc_tb)

    def __repr__(self) -> str:
        return safe_repr(self.instance)

    def __dir__(self) -> list[str]:
        return dir(self.instance)
