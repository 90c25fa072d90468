"""What annotations say, resolved while the program is imported: a name that can't be found then is a mistake."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from typing import Annotated, NewType, NotRequired, Required, Union, get_args, get_origin, get_type_hints

from .errors import FleetMistake

__all__ = ["described", "hints_of", "stripped"]

_TEXT_MAX = 80
_ALIAS: type | tuple[()] = getattr(typing, "TypeAliasType", ())  # ``type X = ...``, from Python 3.12 on
_QUALIFIERS = {Annotated, Required, NotRequired, getattr(typing, "ReadOnly", Annotated)}


def hints_of(thing: type | Callable[..., object], names: Mapping[str, object] | None, where: str) -> dict[str, object]:
    """The annotations of a class or function, with what they name in the place of names.

    Args:
        names: where to look for what the thing's own module doesn't have: what was local where it was made.  They come
            second, since a class of another module means that module's names.
        where: how a mistake names the thing.

    Raises:
        FleetMistake: an annotation names something that is not there, or is no annotation.
    """
    try:
        try:
            return get_type_hints(thing, include_extras=True)
        except NameError:
            if not names:
                raise
            return get_type_hints(thing, localns=dict(names), include_extras=True)
    except NameError as error:
        raise FleetMistake(
            f"{where}: an annotation names {error.name!r}, which {getattr(thing, '__module__', 'its module')} does not"
            " have at this point; define it above, or import it outside `if TYPE_CHECKING:`"
        ) from error
    except Exception as error:
        raise FleetMistake(f"{where}: an annotation can't be evaluated: {type(error).__name__}: {error}") from error


def stripped(annotation: object, where: str) -> object:
    """The type itself, without ``Annotated``, ``Required`` and their kin, ``NewType`` and ``type X = ...``."""
    while True:
        if get_origin(annotation) in _QUALIFIERS:
            annotation = get_args(annotation)[0]
        elif isinstance(annotation, NewType):
            annotation = annotation.__supertype__
        elif isinstance(annotation, _ALIAS):
            try:
                annotation = getattr(annotation, "__value__")  # noqa: B009  # Python 3.11 has no such class
            except NameError as error:
                raise FleetMistake(f"{where}: {annotation} names {error.name!r}, which is not there") from error
        else:
            return annotation


def described(annotation: object) -> str:
    """A type as a sentence names it: ``Order``, ``list[str]``, ``int | null``."""
    if annotation is None or annotation is type(None):
        return "null"
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__name__
    if get_origin(annotation) is Union or type(annotation).__name__ == "UnionType":
        return " | ".join(described(one) for one in get_args(annotation))
    text = str(annotation).replace("typing.", "")
    return text if len(text) <= _TEXT_MAX else text[:_TEXT_MAX] + "..."
