"""The rows of ``docs/differences.md``, which is part of the package."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

import attrs

ROW = re.compile(r"^\| `([a-z0-9-]+)` \| (.*) \|$", re.M)


@attrs.frozen
class Difference:
    """One row."""

    key: str
    section: str
    """``Found by the behaviour suite``, ``On Redis``, ``By design`` or ``Not there``."""
    kombu: str
    """What kombu does; empty where the page doesn't tell it apart."""
    ours: str
    """What happens here."""
    why: str


@cache
def differences() -> dict[str, Difference]:
    """All rows by key, in the order of the page."""
    page = (files(__package__) / "differences.md").read_text(encoding="utf-8")
    found = {}
    section = ""
    for block in re.split(r"^(?=## |On Redis there is more)", page, flags=re.M):
        section = "On Redis" if block.startswith("On Redis") else block.partition("\n")[0].removeprefix("## ")
        for key, rest in ROW.findall(block):
            *kombu, ours, why = rest.split(" | ")
            found[key] = Difference(key, section, " ".join(kombu), ours, why)
    return found
