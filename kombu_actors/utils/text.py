"""Regular expressions, words that are nearly alike, version numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

__all__ = ["escape_regex", "fmatch_best", "fmatch_iter", "version_info_t", "version_string_as_tuple"]


class version_info_t(NamedTuple):
    """A version number in pieces."""

    major: int
    minor: int
    micro: int
    releaselevel: str
    serial: str


def escape_regex(p: str, white: str = "") -> str:
    """A text as a regular expression that fits nothing else; the characters in ``white`` keep their meaning."""
    return "".join(char if char in white else re.escape(char) for char in p)


def fmatch_iter(needle: str, haystack: Iterable[str], min_ratio: float = 0.6) -> Iterator[tuple[float, str]]:
    """Which words are like another one, each with how much: 1.0 is equal."""
    from difflib import SequenceMatcher  # for mistakes only

    for word in haystack:
        ratio = SequenceMatcher(None, needle, word).ratio()
        if ratio >= min_ratio:
            yield ratio, word


def fmatch_best(needle: str, haystack: Iterable[str], min_ratio: float = 0.6) -> str | None:
    """The word that is most like another one; ``None`` when none is like it."""
    found = list(fmatch_iter(needle, haystack, min_ratio))
    return max(found)[1] if found else None


def version_string_as_tuple(s: str) -> version_info_t:
    """``3.2.1rc1`` in pieces.  Raises ``ValueError`` where major or minor is no number."""
    major, minor, micro, release, serial, *_ = [*s.split("."), "", "", "", ""]
    digits = re.match(r"\d*", micro)
    number = digits.group() if digits else ""
    if not release:
        release, dash, after = micro[len(number) :].partition("-")
        serial = after if dash else ""
    return version_info_t(int(major), int(minor or 0), int(number or 0), release, serial)
