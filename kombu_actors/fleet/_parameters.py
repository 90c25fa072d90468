"""What each parameter of a function asks for, by its annotation.  Pure."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import Enum
from typing import Annotated, get_args, get_origin

import attrs

from ._annotations import described, hints_of, stripped
from ._plans import ResourceFunction
from .errors import FleetMistake
from .message import Message
from .policy import Depends

__all__ = ["Parameter", "Source", "name_of", "parameters_of", "returns_something"]

_LISTS = (list, Sequence, Collection, Iterable)


class Source(Enum):
    """Where a parameter's value comes from."""

    PAYLOAD = "payload"
    MESSAGE = "message"
    PAYLOADS = "payloads"
    MESSAGES = "messages"
    RESOURCE = "resource"


@attrs.frozen
class Parameter:
    """A parameter that is given something."""

    name: str
    source: Source
    annotation: object
    """For a payload: of one message, in a batch, too."""
    resource: ResourceFunction | None
    keyword: bool
    """Whether it is given by name: one before it is left at its default, or it takes nothing else."""


def name_of(function: object) -> str:
    """``module.qualname``, for logs, headers and mistakes."""
    named = getattr(function, "func", function)  # of a functools.partial
    name = getattr(named, "__qualname__", type(named).__name__)
    return f"{getattr(named, '__module__', '?')}.{name}"


def parameters_of(
    function: object,
    *,
    batch: bool,
    resources_only: str = "",
    resources: Collection[ResourceFunction],
    names: Mapping[str, object] | None,
) -> list[Parameter]:
    """The parameters that are given something, in order; one that has a default may be given nothing.

    Args:
        batch: whether there are many messages, not one.
        resources_only: there is none, for this reason.

    Raises:
        FleetMistake: one can't be given anything, or two want the payload.
    """
    where = name_of(function)
    if not callable(function) or isinstance(function, type):
        raise FleetMistake(f"{where} is no function: a handler is an `async def`, or a plain `def` for a worker thread")
    try:
        signature = inspect.signature(function)
    except ValueError:
        raise FleetMistake(f"{where} does not tell its parameters: wrap it in a function of your own") from None
    hints = hints_of(_annotated(function), names, where)
    found: list[Parameter] = []
    by_keyword = False
    for parameter in signature.parameters.values():
        hint = hints.get(parameter.name)
        place = f"{where}({parameter.name})"
        _check_form(parameter, hint, place)
        resource = _resource(parameter, hint, place, resources)
        if resource is not None:
            source, annotation = Source.RESOURCE, hint
        else:
            source, annotation = (_of_batch if batch else _of_message)(hint, place)
            taken = resources_only or any(one.source is source for one in found)
            if taken and parameter.default is not parameter.empty:
                by_keyword = True
                continue
            if taken:
                raise _second(place, hint, resources_only or f"a second parameter for the {source.value}")
        keyword = by_keyword or parameter.kind is parameter.KEYWORD_ONLY
        found.append(Parameter(parameter.name, source, annotation, resource, keyword))
    return found


def returns_something(function: Callable[..., object], names: Mapping[str, object] | None) -> bool:
    """Whether there is a return annotation, and it is another than None."""
    hint = hints_of(_annotated(function), names, name_of(function)).get("return", None)
    return hint is not None and hint is not type(None) and described(hint) not in ("NoReturn", "Never")


def _annotated(function: Callable[..., object]) -> Callable[..., object]:
    """Where the annotations are: of what a decorator or a partial wraps, or of an object's ``__call__``."""
    named: Callable[..., object] = inspect.unwrap(getattr(function, "func", function))
    return named if inspect.isroutine(named) else type(named).__call__


def _check_form(parameter: inspect.Parameter, hint: object, place: str) -> None:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise FleetMistake(f"{place}: there is nothing to give to {parameter}; name what is wanted")
    if parameter.name in ("self", "cls") and hint is None:
        raise FleetMistake(f"{place} is a method of no object yet: register a function, or `it.method` of an object")


def _second(place: str, hint: object, problem: str) -> FleetMistake:
    said = "annotated nothing" if hint is None else f"annotated {described(hint)}"
    return FleetMistake(
        f"{place}, {said}: {problem}; a parameter is annotated `Annotated[T, Depends(resource)]` or, of a message,"
        " `Message`, or has a default"
    )


def _of_message(hint: object, place: str) -> tuple[Source, object]:
    kind = object if hint is None else stripped(hint, place)
    if get_origin(kind) in _LISTS and Message in get_args(kind):
        raise FleetMistake(f"{place}: many messages come to a consumer with `batch=Batch(...)` only")
    # ``Message | None`` is how one writes a message that a direct call may leave out.
    is_message = kind is Message or (Message in get_args(kind) and {*get_args(kind)} <= {Message, type(None)})
    return (Source.MESSAGE if is_message else Source.PAYLOAD), kind


def _of_batch(hint: object, place: str) -> tuple[Source, object]:
    """What a handler of batches asks for: always a list."""
    kind = stripped(hint, place)
    if (get_origin(kind) or kind) not in _LISTS:
        raise FleetMistake(
            f"{place}, annotated {'nothing' if hint is None else described(kind)}: a handler of batches gets a list,"
            " `list[Message]`, or of payloads as in `list[Order]`"
        )
    (item,) = get_args(kind) or (object,)
    return (Source.MESSAGES, kind) if stripped(item, place) is Message else (Source.PAYLOADS, item)


def _resource(
    parameter: inspect.Parameter, hint: object, place: str, resources: Collection[ResourceFunction]
) -> ResourceFunction | None:
    """The resource that a parameter depends on; None when it depends on none."""
    marks = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    depends = [mark for mark in marks if isinstance(mark, Depends)]
    if isinstance(parameter.default, Depends) or any(mark is one for mark in marks for one in (Depends, *resources)):
        raise FleetMistake(f"{place}: a dependency is written `Annotated[T, Depends(resource)]`")
    if not depends:
        return None
    if len(depends) > 1:
        raise FleetMistake(f"{place} depends on {len(depends)} resources: a parameter gets one")
    wanted = depends[0].resource
    for resource in resources:
        if resource is wanted:
            return resource
    raise FleetMistake(
        f"{place} depends on {name_of(wanted)}, which is no resource of this fleet: put @fleet.resource on it, above"
        f" {place.partition('(')[0]}"
    )
