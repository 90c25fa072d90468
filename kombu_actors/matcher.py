"""Whether a name fits a pattern: how broadcasts are addressed to some of all nodes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from typing import ClassVar

from .utils.encoding import bytes_to_str

__all__ = [
    "MatcherNotInstalled",
    "MatcherRegistry",
    "match",
    "register",
    "register_glob",
    "register_pcre",
    "registry",
    "unregister",
]

MatcherFunction = Callable[..., object]
"""``matcher(data, pattern)`` for those that are called with the name first, ``matcher(pattern, data)`` for others."""


class MatcherNotInstalled(Exception):
    """No matcher has that name."""


class MatcherRegistry:
    """Matchers by name; ``glob`` (the default) and ``pcre`` are there from the start."""

    MatcherNotInstalled = MatcherNotInstalled
    matcher_pattern_first: ClassVar = ["pcre"]
    """Names of the matchers that are called with the pattern first."""

    def __init__(self) -> None:
        self._matchers: dict[str, MatcherFunction] = {}
        self._default: str | None = None

    def register(self, name: str, matcher: MatcherFunction) -> None:
        """Add a matcher, or replace the one of that name."""
        self._matchers[name] = matcher

    def unregister(self, name: str) -> None:
        """Take a matcher out; raises ``MatcherNotInstalled`` when there is none of that name."""
        self._find(name)
        del self._matchers[name]

    def _set_default_matcher(self, name: str) -> None:
        self._find(name)
        self._default = name

    def _find(self, name: str | None) -> MatcherFunction:
        if name not in self._matchers:
            known = ", ".join(sorted(self._matchers)) or "none"
            raise MatcherNotInstalled(f"no matcher is called {name!r:.80}; there are: {known}")
        return self._matchers[name]

    def match(
        self,
        data: str | bytes,
        pattern: str | bytes,
        matcher: str | None = None,
        matcher_kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Whether ``data`` fits ``pattern``: something true or something false, as the matcher of that name says.

        ``matcher_kwargs`` are further keywords for it.  Raises ``MatcherNotInstalled`` when there is none of that name.
        """
        name = matcher or self._default
        given = [bytes_to_str(data), bytes_to_str(pattern)]
        if name in self.matcher_pattern_first:
            given.reverse()
        return self._find(name)(*given, **(matcher_kwargs or {}))


registry = MatcherRegistry()
"""The one that remote control uses."""
match = registry.match
register = registry.register
unregister = registry.unregister


def register_glob() -> None:
    """Have ``glob``: the patterns of a shell."""
    registry.register("glob", fnmatch)


def register_pcre() -> None:
    """Have ``pcre``: regular expressions, which must fit from the beginning on."""
    registry.register("pcre", re.match)


register_glob()
register_pcre()
registry._set_default_matcher("glob")
