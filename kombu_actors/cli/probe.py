"""``health`` for a machine that asks every few seconds: without click, in half the time.

What is well-formed, and asks for no help, is answered here; all else by the verb itself, which says what is wrong.
"""

from __future__ import annotations

import json
import os
import sys
from getopt import GetoptError, getopt

from ..control.client import AmbiguousFleet, Control, NobodyAnswers, Refused, find
from ..control.wire import TIMEOUT
from .exits import DRAINED, NOBODY, UNHEALTHY, USAGE

__all__ = ["health", "probe", "verdict"]

TYPE_CHECKING = False  # as type checkers know it: importing typing takes time
if TYPE_CHECKING:
    from ..control.answers import HealthAnswer, StatusAnswer

_VARIABLES = {"--fleet": "FLEET", "--control": "CONTROL", "--timeout": "TIMEOUT"}
_FLAGS = ("live", "json")


def probe(arguments: list[str]) -> int | None:
    """The exit code, having said what ``health`` says; None: this is for the verb itself."""
    try:
        options, rest = getopt(arguments, "f:j", ["fleet=", "control=", "timeout=", *_FLAGS])
        given = {{"-f": "--fleet", "-j": "--json"}.get(name, name): value for name, value in options}
        for name, variable in _VARIABLES.items():
            if name not in given and (value := os.environ.get(f"KOMBU_ACTORS_{variable}")):
                given[name] = value
        timeout = float(given.get("--timeout", TIMEOUT))
    except (GetoptError, ValueError):
        return None
    if rest or not timeout > 0 or any(f"KOMBU_ACTORS_{flag.upper()}" in os.environ for flag in _FLAGS):
        return None
    fleet = given.get("--fleet")
    if fleet is not None and ":" in fleet:
        return None
    try:
        with Control(find(fleet=fleet, control=given.get("--control")), timeout=timeout) as control:
            found: HealthAnswer = control.ask("health")
    except (NobodyAnswers, AmbiguousFleet, Refused) as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit if isinstance(error, Refused) else NOBODY if isinstance(error, NobodyAnswers) else USAGE
    print(json.dumps(found, ensure_ascii=False, indent=2) if "--json" in given else verdict(found))
    return health(found, live="--live" in given)


def health(found: HealthAnswer, *, live: bool) -> int:
    """The exit code for an answer."""
    return DRAINED if found["ready"] or live else UNHEALTHY


def verdict(found: HealthAnswer | StatusAnswer) -> str:
    """The lines that say how it is."""
    if found["state"] == "ready":
        return f"fleet {found['fleet']!r} is READY"
    return "\n  ".join([f"fleet {found['fleet']!r} is {found['state'].upper()}", *found["reasons"]])
