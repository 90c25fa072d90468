"""HTML made by functions.  Whatever is no ``Html`` is escaped: names of queues, keys and errors are other people's."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache, lru_cache
from html import escape
from urllib.parse import quote

__all__ = ["REMEMBERED", "Html", "cut", "h", "id_of", "joined", "text"]

VOID = frozenset({"input", "link", "meta", "br"})
_PLAIN = re.compile(
    "[^&<>\"'\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ud800-\udfff]*"
)
"""What is HTML as it is: most of all texts."""
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ud800-\udfff]")
"""Control characters, those that turn the direction of text around, and what UTF-8 can't hold."""


SHORT = 64
"""Characters of a text that is remembered: of those below most are on each row, and come again a second later."""
REMEMBERED = 8192
"""Texts, and parts of ids, that are remembered: some two megabytes."""


class Html(str):
    """Markup: what came from outside has been escaped in it."""

    __slots__ = ()


def text(value: object) -> Html:
    """What ``value`` says, as HTML in which nothing of it can be markup, nor stay unseen."""
    if isinstance(value, Html):
        return value
    plain = str(value)
    return _short(plain) if len(plain) <= SHORT else _escaped(plain)


def _escaped(plain: str) -> Html:
    if _PLAIN.fullmatch(plain):
        return Html(plain)
    if _INVISIBLE.search(plain):
        plain = _INVISIBLE.sub(lambda found: f"\\u{ord(found[0]):04x}", plain)
    return Html(escape(plain))


_short = lru_cache(REMEMBERED)(_escaped)


def h(tag: str, *children: object, **attributes: object) -> Html:
    """An element.  Children that are None are left out; attributes that are None or False, too; True is bare.

    ``class_`` is ``class``, ``aria_label`` is ``aria-label``.
    """
    start = f"<{tag}"
    for name, value in attributes.items():
        if value is True:
            start += f" {_attribute(name)}"
        elif value is not None and value is not False:
            start += f' {_attribute(name)}="{text(value)}"'
    start += ">"
    if tag in VOID:
        return Html(start)
    inside = [child if isinstance(child, Html) else text(child) for child in children if child is not None]
    return Html(f"{start}{''.join(inside)}</{tag}>")


@cache
def _attribute(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


def joined(parts: Iterable[object], between: str = "") -> Html:
    """Several one after the other, without those that are None."""
    return Html(text(between).join(text(part) for part in parts if part is not None))


def cut(value: object, length: int) -> str:
    """The beginning of a text that may be long; what was left out is said by an ellipsis."""
    plain = str(value)
    return plain if len(plain) <= length else plain[: length - 1] + "…"


def id_of(*parts: object) -> str:
    """An element's id, from names that may hold anything."""
    return "-".join([_quoted(str(part)) for part in parts])


@lru_cache(REMEMBERED)
def _quoted(part: str) -> str:
    return quote(part.encode(errors="surrogatepass"), safe="/")
