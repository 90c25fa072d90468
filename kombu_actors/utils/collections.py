"""Dicts whose keys are compared by what they stand for."""

from __future__ import annotations

from typing import Any

__all__ = ["EqualityDict", "HashedSeq", "eqhash"]


class HashedSeq(list[Any]):
    """A list that is hashed once, when it is made.  Don't change it."""

    __slots__ = ("hashvalue",)

    def __init__(self, *seq: object) -> None:
        super().__init__(seq)
        self.hashvalue = hash(seq)

    def __hash__(self) -> int:  # type: ignore[override]  # lists have none
        return self.hashvalue


def eqhash(o: object) -> object:
    """What an object stands for, by its ``__eqhash__`` method; the hash of one that has none."""
    method = getattr(o, "__eqhash__", None)
    return hash(o) if method is None else method()


class EqualityDict(dict[Any, Any]):
    """A dict by ``eqhash`` of its keys; one that makes values for missing keys says so in ``__missing__``."""

    def __getitem__(self, key: object) -> Any:
        known = eqhash(key)
        if known in self:
            return super().__getitem__(known)
        return self.__missing__(key)

    def __missing__(self, key: object) -> Any:
        raise KeyError(key)

    def __setitem__(self, key: object, value: object) -> None:
        super().__setitem__(eqhash(key), value)

    def __delitem__(self, key: object) -> None:
        super().__delitem__(eqhash(key))
