"""What becomes of a use: is it here, and which differences may it meet."""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from functools import cache

import attrs

from .lookup import look_up
from .meets import COMMON, MEETS
from .missing import missing_reason
from .scanning import Use

TRIGGER = re.compile(r"(?P<name>[\w.]+)(?:\((?P<keyword>[\w*]+)(?:=(?P<value>.+))?\))?$")


@attrs.frozen
class Trigger:
    """One way to meet a row."""

    key: str
    thing: object
    member: str | None
    keyword: str | None
    value: str | None

    def is_met(self, use: Use, thing: object, member: str | None) -> bool:
        """Whether a use of this member of that thing meets the row; an unknown thing is anything."""
        if member != self.member or not (thing is None or is_kind_of(thing, self.thing)):
            return False
        if self.keyword is None:
            return use.kind != "call"
        return any(
            name == self.keyword and (self.value is None or repr(value) == self.value) for name, value in use.keywords
        )


@attrs.frozen
class Verdict:
    """What is to be said of a use."""

    here: bool | None
    """None: that can't be seen in the source."""
    why: str
    """Of what isn't here: the reason, and what to use instead."""
    differences: tuple[str, ...]
    """Keys of rows."""


def is_kind_of(thing: object, wanted: object) -> bool:
    """The same, or a class derived from it."""
    return thing is wanted or (inspect.isclass(thing) and inspect.isclass(wanted) and issubclass(thing, wanted))


@cache
def triggers() -> dict[str, list[Trigger]]:
    """All of them by what has to be looked at first: the member's name, else ``""``; URLs by their scheme."""
    found = defaultdict(list)
    for key, texts in MEETS.items():
        for text in texts:
            if text.endswith("://"):
                found[text].append(Trigger(key, None, None, None, None))
            elif parts := TRIGGER.match(text):
                name = look_up(f"kombu.{parts['name']}")
                found[name.member or ""].append(Trigger(key, name.thing, name.member, parts["keyword"], parts["value"]))
    return found


def members() -> frozenset[str]:
    """What counts as kombu's whatever object it is asked of."""
    return frozenset(triggers()) - COMMON - {""}


def judge(use: Use) -> Verdict:
    """Say of a use what is known."""
    if use.kind == "url":
        return Verdict(None, "", tuple(trigger.key for trigger in triggers().get(f"{use.name}://", ())))
    if use.kind == "star":
        return Verdict(None, "which names it brings can't be seen: name them", ())
    root, _, rest = use.name.partition(".")
    if root == "?":
        return Verdict(None, "", _met(use, None, rest))
    found = look_up(use.name.replace(":", "."))
    if found.here is False and use.kind == "member":
        return Verdict(None, "", ())  # it is told of where its class is named
    why = missing_reason(found.name) if found.here is not True else ""
    met = _met(use, found.thing, found.member) if found.thing is not None else ()
    return Verdict(False if why else found.here, why, met)


def _met(use: Use, thing: object, member: str | None) -> tuple[str, ...]:
    met = [trigger.key for trigger in triggers().get(member or "", ()) if trigger.is_met(use, thing, member)]
    return tuple(dict.fromkeys(met))
