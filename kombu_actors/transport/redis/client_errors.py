"""redis-py's errors, for programs that use its client beside the broker: Celery's result backend does."""

from __future__ import annotations

from ..._frozen import Record

__all__ = ["ErrorClasses", "get_redis_ConnectionError", "get_redis_error_classes"]


class ErrorClasses(Record):
    """Which of redis-py's errors mean what, as kombu sorts them."""

    connection_errors: tuple[type[BaseException], ...]
    """The connection is gone, or of no use: connecting again may help."""
    channel_errors: tuple[type[BaseException], ...]
    """The command was wrong, the connection goes on."""


def get_redis_error_classes() -> ErrorClasses:
    """kombu's function of this name; imports redis-py."""
    from redis import exceptions

    connection = (
        *(exceptions.ConnectionError, exceptions.BusyLoadingError, exceptions.AuthenticationError),
        *(exceptions.TimeoutError, OSError),
    )
    return ErrorClasses(connection, (exceptions.InvalidResponse, exceptions.DataError, exceptions.ResponseError))


def get_redis_ConnectionError() -> type[BaseException]:
    """redis-py's error of that name; imports redis-py."""
    from redis import exceptions

    return exceptions.ConnectionError
