"""How handlers, jobs and resources are called: made once, from their annotations, when they are registered.  Pure.

A handler's parameters are found by their types: the first one that is nothing else gets the payload, ``Message`` the
message, ``Annotated[T, Depends(resource)]`` what the resource yields.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from ._parameters import Parameter, Source, name_of, parameters_of, returns_something
from ._payloads import decoder_for
from ._plans import Decode, HandlerPlan, ResourceFunction, ResourcePlan
from .errors import FleetMistake
from .message import Message
from .policy import Batch

__all__ = ["plan_handler", "plan_job", "plan_key", "plan_resource"]

Get = Callable[[Any, Sequence[object]], object]
"""From a message (or a batch of them) and the resources' values to what one parameter gets."""


def plan_handler(
    function: Callable[..., object],
    *,
    batch: Batch | None,
    resources: Collection[ResourceFunction],
    names: Mapping[str, object] | None = None,
) -> HandlerPlan:
    """How a consumer's handler is called.

    Args:
        resources: those registered by now.
        names: what was local where the function was made: annotations may name it.

    Raises:
        FleetMistake: it can't be a handler, or a parameter can't be given anything.
    """
    where = name_of(function)
    _check_kind(function, where, "a handler returns, or raises; what it has to say it publishes with message.publish")
    parameters = parameters_of(function, batch=batch is not None, resources=resources, names=names)
    replies = returns_something(function, names)
    if batch is not None and replies:
        raise FleetMistake(f"{where} handles batches, which answer nobody: annotate its return with None")
    needs = _needed(parameters)
    call = _call(function, parameters, needs)
    return HandlerPlan(
        name=where,
        is_async=_is_async(function),
        replies=replies,
        decode=_decoder(parameters, where, names),
        resources=needs,
        call=call,
        call_batch=call if batch is not None else None,
    )


def plan_job(
    function: Callable[..., object],
    *,
    resources: Collection[ResourceFunction],
    names: Mapping[str, object] | None = None,
) -> HandlerPlan:
    """How a periodic job is called: with resources only; ``call`` does not look at its message.

    Raises:
        FleetMistake: it wants a payload or message, or can't be a job.
    """
    where = name_of(function)
    _check_kind(function, where, "a job returns, or raises")
    why = "a periodic job gets no message"
    parameters = parameters_of(function, batch=False, resources_only=why, resources=resources, names=names)
    needs = _needed(parameters)
    return HandlerPlan(
        name=where,
        is_async=_is_async(function),
        replies=False,
        decode=None,
        resources=needs,
        call=_call(function, parameters, needs),
    )


def plan_resource(
    function: Callable[..., object],
    *,
    resources: Collection[ResourceFunction],
    names: Mapping[str, object] | None = None,
) -> ResourcePlan:
    """How a resource is opened and closed.

    Raises:
        FleetMistake: it is no ``async def`` with a ``yield``, or wants what is no resource.
    """
    where = name_of(function)
    if not inspect.isasyncgenfunction(function):
        raise FleetMistake(
            f"{where}: a resource is an `async def` that yields once, as `async with open_pool() as pool: yield pool`;"
            " it needs no @asynccontextmanager"
        )
    why = "a resource is opened before there is a message"
    parameters = parameters_of(function, batch=False, resources_only=why, resources=resources, names=names)
    needs = _needed(parameters)
    call = _call(asynccontextmanager(function), parameters, needs)
    return ResourcePlan(
        name=function.__name__, function=function, resources=needs, open=lambda values: call(None, values)
    )


def plan_key(
    key: Callable[..., Hashable],
    function: Callable[..., object],
    *,
    batch: Batch | None = None,
    resources: Collection[ResourceFunction],
    names: Mapping[str, object] | None = None,
) -> Callable[[Message], Hashable]:
    """How a consumer's ``key`` is called: its parameters are named as the handler's are.

    ``key=lambda order: order.customer`` gets the payload of ``async def charge(order: Order, message: Message)``, and
    ``key=lambda message: ...`` the message.  A parameter that can't be named, as in ``attrgetter("customer")`` or
    ``def by_customer(it, /)``, gets the payload.  What it raises, it raises for that message.

    Raises:
        FleetMistake: it asks for something else, or of a batch, whose messages have many keys.
    """
    where = name_of(function)
    if batch is not None:
        raise FleetMistake(f"{where}: a batch has messages of many keys, so key= and batch= exclude each other")
    if not callable(key):
        raise FleetMistake(f"{where}: key= takes a function, as in `key=lambda order: order.customer`, not {key!r:.80}")
    handlers = _of_a_message(function, resources, names)
    try:
        asked = [*inspect.signature(key).parameters.values()]
    except ValueError:  # a builtin; some don't tell
        return lambda message: key(message.payload)
    if asked and all(one.kind in (one.POSITIONAL_ONLY, one.VAR_POSITIONAL, one.VAR_KEYWORD) for one in asked):
        return lambda message: key(message.payload)
    unknown = [one.name for one in asked if one.name not in handlers and one.default is one.empty]
    gets = {one.name: handlers[one.name] for one in asked if one.name in handlers}
    if unknown or not gets:
        raise FleetMistake(
            f"{where}: key= asks for {', '.join(map(repr, unknown)) or 'nothing'}; its parameters are named as the"
            f" handler's are that come with a message: {', '.join(handlers) or 'this one has none'}"
        )
    if [*gets.values()] == [_payload] and asked[0].name in gets and asked[0].kind is not inspect.Parameter.KEYWORD_ONLY:
        return lambda message: key(message.payload)
    return lambda message: key(**{name: get(message, ()) for name, get in gets.items()})


def _check_kind(function: object, where: str, instead: str) -> None:
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise FleetMistake(f"{where} is a generator: {instead}")


def _is_async(function: object) -> bool:
    """Whether calling it makes a coroutine: also through a decorator, and of an object."""
    return any(
        inspect.iscoroutinefunction(one)
        for one in (function, inspect.unwrap(cast("Callable[..., object]", function)), type(function).__call__)
    )


def _needed(parameters: Sequence[Parameter]) -> tuple[ResourceFunction, ...]:
    """Each resource once, in the order of the parameters."""
    return tuple(dict.fromkeys(one.resource for one in parameters if one.resource is not None))


def _decoder(parameters: Sequence[Parameter], where: str, names: Mapping[str, object] | None) -> Decode | None:
    for one in parameters:
        if one.source in (Source.PAYLOAD, Source.PAYLOADS):
            place = f"{where}({one.name})"
            try:
                return decoder_for(one.annotation, place, names)
            except FleetMistake as error:
                if not str(error).startswith(place):  # about a field of a class
                    raise
                raise FleetMistake(f"{error}; what a resource yields is `Annotated[T, Depends(resource)]`") from error
    return None


def _payload(message: Message, _: Sequence[object]) -> object:
    return message.payload


def _itself(message: object, _: Sequence[object]) -> object:
    return message


def _payloads(messages: Sequence[Message], _: Sequence[object]) -> object:
    return [message.payload for message in messages]


_GETS: dict[Source, Get] = {
    Source.PAYLOAD: _payload,
    Source.MESSAGE: _itself,
    Source.PAYLOADS: _payloads,
    Source.MESSAGES: _itself,
}


def _of_a_message(
    function: Callable[..., object], resources: Collection[ResourceFunction], names: Mapping[str, object] | None
) -> dict[str, Get]:
    """What a key may ask for by name.  Whether the function can be a handler was looked at before."""
    return {
        one.name: _GETS[one.source]
        for one in parameters_of(function, batch=False, resources=resources, names=names)
        if one.source in (Source.PAYLOAD, Source.MESSAGE)
    }


def _get(parameter: Parameter, needs: Sequence[ResourceFunction]) -> Get:
    if parameter.resource is None:
        return _GETS[parameter.source]
    number = needs.index(parameter.resource)
    return lambda _, values: values[number]


def _call(
    function: Callable[..., object], parameters: Sequence[Parameter], needs: Sequence[ResourceFunction]
) -> Callable[[Any, Sequence[object]], Any]:
    """The call with everything where it belongs; the two commonest forms without a detour."""
    if [one.name for one in parameters if one.keyword]:
        named = {one.name: _get(one, needs) for one in parameters if one.keyword}
        placed = [_get(one, needs) for one in parameters if not one.keyword]
        return lambda message, values: function(
            *[get(message, values) for get in placed], **{name: get(message, values) for name, get in named.items()}
        )
    match [one.source for one in parameters]:
        case [Source.PAYLOAD]:
            return lambda message, values: function(message.payload)
        case [Source.PAYLOAD, Source.MESSAGE]:
            return lambda message, values: function(message.payload, message)
    gets = [_get(one, needs) for one in parameters]
    return lambda message, values: function(*[get(message, values) for get in gets])
