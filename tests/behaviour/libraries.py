"""The two packages that every test of this suite runs against, and where they may differ."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

DIFFERS = frozenset(["url-connect-timeout","url-tls-keys","bad-url-errors","host-with-port","ipv6-uri","no-guessed-password","alternates-and-url","failover-strategy-attribute","unknown-failover-strategy","unknown-arguments","mask-without-password","uri-prefix","eqhash-tls","is-evented","heartbeat-default","drain-events-recovers","channels-survive","headers-unchanged"])
"""Every difference that the suite knows of; ``docs/differences.md`` has a row with the reason for each."""


class Library:
    """``kombu`` or ``kombu_actors``; its names are this object's attributes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._package: Any = import_module(name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._package, name)

    def __repr__(self) -> str:
        return self.name

    def module(self, name: str) -> Any:
        """One of its modules, e.g. ``exceptions``."""
        found: ModuleType = import_module(f"{self.name}.{name}")
        return found

    def either(self, difference: str, *, kombu: Any, actors: Any) -> Any:
        """What is expected of this library, where they differ on purpose."""
        assert difference in DIFFERS, f"{difference!r} is not among the listed differences"
        return kombu if self.name == "kombu" else actors
