"""The fields of attrs classes, dataclasses and typed dicts; and what msgspec and pydantic do with their own classes.

Neither of the two is imported here: a class of theirs can exist only when the program has imported it.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Literal, NotRequired, Required, TypeGuard, get_args, get_origin

import attrs

from ._annotations import described, hints_of
from ._plans import Decode
from .errors import FleetMistake, PayloadError, shown

__all__ = ["Field", "constructed", "fields_of", "is_typed_dict", "library_of", "tags_of", "typed_by_library"]

_TEXT_MAX = 300
"""Characters of what a class says against its arguments."""


@attrs.frozen
class Field:
    """One field that a payload may have."""

    name: str
    """In the payload: as it is written in the class."""
    argument: str
    """In ``__init__``: attrs takes the underscore off."""
    annotation: object
    required: bool


def is_typed_dict(kind: object) -> TypeGuard[type]:
    """Whether it was made by ``TypedDict``, of ``typing`` or ``typing_extensions``."""
    return isinstance(kind, type) and issubclass(kind, dict) and hasattr(kind, "__required_keys__")


def fields_of(kind: type, names: Mapping[str, object] | None) -> list[Field] | None:
    """What a payload for this class has; None when it is no such class.

    A field that ``__init__`` doesn't take is no part of a payload.

    Raises:
        FleetMistake: an annotation can't be resolved, or ``__init__`` demands what is no field.
    """
    if is_typed_dict(kind):
        return [*_keys(kind, names)]
    if attrs.has(kind):
        fields = [*_attrs_fields(kind, names)]
    elif dataclasses.is_dataclass(kind):
        fields = [*_dataclass_fields(kind, names)]
    else:
        return None
    given = {field.argument for field in fields}
    for name, parameter in inspect.signature(kind).parameters.items():
        if name not in given and parameter.default is parameter.empty and parameter.kind not in _COLLECTING:
            raise FleetMistake(f"{kind.__name__}: its __init__ demands {name!r}, which is none of its fields")
    return fields


_COLLECTING = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _attrs_fields(kind: type[attrs.AttrsInstance], names: Mapping[str, object] | None) -> Iterator[Field]:
    hints = hints_of(kind, names, kind.__name__)
    for one in attrs.fields(kind):
        if one.init:
            annotation = hints.get(one.name, object if one.type is None else one.type)
            yield Field(one.name, one.alias, annotation, one.default is attrs.NOTHING)


def _dataclass_fields(kind: type, names: Mapping[str, object] | None) -> Iterator[Field]:
    hints = hints_of(kind, names, kind.__name__)
    for one in dataclasses.fields(kind):
        if one.init:
            required = one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING
            yield Field(one.name, one.name, hints[one.name], required)


def _keys(kind: type, names: Mapping[str, object] | None) -> Iterator[Field]:
    required: frozenset[str] = getattr(kind, "__required_keys__")  # noqa: B009
    for name, annotation in hints_of(kind, names, kind.__name__).items():
        # Where annotations are text, the class itself has not seen these two.
        qualifier = get_origin(annotation)
        needed = qualifier is Required or (name in required and qualifier is not NotRequired)
        yield Field(name, name, annotation, needed)


def constructed(kind: type, arguments: Mapping[str, object]) -> object:
    """An instance; what its converters and validators refuse is the payload's fault."""
    try:
        return kind(**arguments)
    except Exception as error:
        raise _refusal(kind, error) from error


def tags_of(kind: type, names: Mapping[str, object] | None) -> dict[str, tuple[object, ...]]:
    """Which fields have one of some fixed values: that tells classes apart."""
    hints = hints_of(kind, names, kind.__name__)
    return {name: get_args(hint) for name, hint in hints.items() if get_origin(hint) is Literal}


def library_of(kind: object) -> str | None:
    """``msgspec`` or ``pydantic``, when the class is one of theirs."""
    if not isinstance(kind, type):
        return None
    msgspec = sys.modules.get("msgspec")
    if msgspec is not None and issubclass(kind, msgspec.Struct):
        return "msgspec"
    return "pydantic" if hasattr(kind, "__pydantic_validator__") else None


def typed_by_library(library: str, annotation: object, where: str) -> Decode:
    """The library's own decoder, by its own rules, with its complaints in our form.

    Raises:
        FleetMistake: the library can't decode into such a class.
    """
    module = sys.modules[library]
    make = _by_msgspec if library == "msgspec" else _by_pydantic
    try:
        return make(module, annotation)
    except Exception as error:
        raise FleetMistake(f"{where}: {library} refuses {described(annotation)}: {error}"[:_TEXT_MAX]) from error


def _by_msgspec(msgspec: ModuleType, annotation: object) -> Decode:
    msgspec.json.Decoder(annotation)  # looks at the whole type now, which ``convert`` does with the first message
    convert: Callable[[object, object], object] = msgspec.convert
    refused: type[Exception] = msgspec.ValidationError

    def decode(payload: object, /) -> object:
        try:
            return convert(payload, annotation)
        except refused as error:
            problem, _, place = str(error).replace("`", "").partition(" - at $")
            raise PayloadError(problem[:1].lower() + problem[1:], place) from error
        except Exception as error:  # of a hook of the program's own
            raise _refusal(annotation, error) from error

    return decode


def _by_pydantic(pydantic: ModuleType, annotation: object) -> Decode:
    validate: Callable[[object], object] = pydantic.TypeAdapter(annotation).validate_python

    def decode(payload: object, /) -> object:
        try:
            return validate(payload)
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            problem: str = first["msg"]
            found = PayloadError(f"{problem[:1].lower()}{problem[1:]}, got {shown(first['input'])}")
            for step in reversed(first["loc"]):
                found.within(step)
            raise found from error
        except Exception as error:  # of a validator of the program's own
            raise _refusal(annotation, error) from error

    return decode


def _refusal(annotation: object, error: Exception) -> PayloadError:
    """What the program's own code refuses, be it a validator or a bug, is taken for the payload's fault."""
    return PayloadError(f"{described(annotation)} refuses it: {type(error).__name__}: {error}"[:_TEXT_MAX])
