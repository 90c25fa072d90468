"""Records: tuples with named fields, as ``typing.NamedTuple`` makes them, for a tenth of what its classes cost."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest

from kombu_actors._frozen import Record


class Parcel(Record):
    """A record of the tests'."""

    number: int
    name: str
    weight: float = 1.5
    tags: tuple[str, ...] = ()


class Nothing(Record):
    """One that holds nothing."""


def test_fields_are_given_in_their_order_or_by_name() -> None:
    """Those that have a default may be left out."""
    whole = Parcel(1, "a", 2.0, ("x",))
    assert (whole.number, whole.name, whole.weight, whole.tags) == (1, "a", 2.0, ("x",))
    assert Parcel(1, "a") == Parcel(name="a", number=1) == Parcel(1, name="a", weight=1.5) == (1, "a", 1.5, ())
    assert Parcel.fields == ("number", "name", "weight", "tags")
    assert Nothing() == ()


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (lambda: Parcel(1), "Parcel takes number, name, weight, tags: 'name' is missing"),  # type: ignore[call-arg]
        (lambda: Parcel(1, "a", 2.0, (), 5), "too much are .1, 'a', 2.0, .., 5."),  # type: ignore[call-arg]
        (lambda: Parcel(1, "a", size=3), r"too much are \['size'\]"),  # type: ignore[call-arg]
        (lambda: Parcel(1, "a", number=3), r"too much are \['number'\]"),  # type: ignore[misc]
        (lambda: Parcel(1, "a").but(size=3), "Parcel has no size"),
    ],
)
def test_what_does_not_fit_is_refused(wrong: Callable[[], object], complaint: str) -> None:
    """A field that is missing, one too many, one that is not known, one given twice."""
    with pytest.raises(TypeError, match=complaint):
        wrong()


def test_a_record_stays_as_it_is() -> None:
    """It has no room for anything else, and ``but`` makes another one."""
    parcel = Parcel(1, "a")
    for name in ("number", "size"):
        with pytest.raises(AttributeError):
            setattr(parcel, name, 2)
    assert parcel.but(weight=2.0, name="b") == Parcel(1, "b", 2.0)
    assert parcel == Parcel(1, "a")


def test_a_record_is_a_tuple() -> None:
    """Unpacked, hashed, matched, copied and pickled as one, and shown with its names."""
    parcel = Parcel(1, "a", tags=("x",))
    number, name, *_ = parcel
    assert (number, name) == (1, "a")
    assert hash(parcel) == hash((1, "a", 1.5, ("x",)))
    match parcel:
        case Parcel(1, "a", weight=weight):
            assert weight == 1.5
    for other in (copy.copy(parcel), copy.deepcopy(parcel), pickle.loads(pickle.dumps(parcel))):
        assert (type(other), other) == (Parcel, parcel)
    assert repr(parcel) == "Parcel(number=1, name='a', weight=1.5, tags=('x',))"
    assert parcel.by_name() == {"number": 1, "name": "a", "weight": 1.5, "tags": ("x",)}
