"""What makes a method of a channel the answer to one AMQP method."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from amqp.exceptions import AMQPError

from ._errors import named_method

if TYPE_CHECKING:
    from ._declaring import DeclaringChannel

C = TypeVar("C", bound="DeclaringChannel")
P = ParamSpec("P")
R = TypeVar("R")


def request(
    class_id: int, method_id: int
) -> Callable[[Callable[Concatenate[C, P], R]], Callable[Concatenate[C, P], R]]:
    """Make a method of a channel answer one AMQP method: refusals close the channel, then raise."""

    def decorate(serve: Callable[Concatenate[C, P], R]) -> Callable[Concatenate[C, P], R]:
        @wraps(serve)
        def answer(channel: C, /, *args: P.args, **kwargs: P.kwargs) -> R:
            if channel.closed is not None:
                raise channel.closed
            try:
                result = serve(channel, *args, **kwargs)
            except AMQPError as error:
                channel.fail(named_method(error, class_id, method_id))
                raise
            channel.session.broker.settle()
            return result

        return answer

    return decorate
