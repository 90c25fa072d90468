"""The scripts that Redis runs for us: every step of the broker is one of them, hence atomic.

A script is ``lua/lib.lua`` and ``lua/exchanges.lua``, the parts its first line asks for (``-- needs: ending routing``),
and its own file.
It is called as ``EVALSHA sha 3 NS unacked unacked_index  P SEP steps owner body_max  <its own arguments>``:

* ``NS``: what the names of our own keys begin with; ``unacked``, ``unacked_index``: kombu's;
* ``P``: kombu's ``global_keyprefix``; ``SEP``: what kombu puts between a queue's name and a priority step;
* ``steps``: the priority steps in the order they are served, separated by commas;
* ``owner``: the caller's lease.  A script called under a lease that was released changes nothing and
  answers with the error ``FENCED <owner>``;
* ``body_max``: the bytes of the largest body that the caller receives.

All other keys are named by the scripts themselves, which Redis allows outside a cluster.
"""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files
from typing import Final

import attrs

PARTS: Final = (
    "lib",
    "exchanges",
    "headers",
    "ending",
    "pushing",
    "indexing",
    "routing",
    "delivering",
    "waiting",
    "claims",
    "departing",
    "restoring",
    "rights",
)
"""Files that are put in front of scripts, and aren't scripts."""


@attrs.frozen
class Script:
    """One script: its text, and the name Redis knows it by."""

    name: str
    text: str = attrs.field(repr=False)
    sha1: str = attrs.field(init=False)

    @sha1.default
    def _digest(self) -> str:
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


def _load() -> dict[str, Script]:
    folder = files(__package__).joinpath("lua")
    texts = {
        path.name.removesuffix(".lua"): path.read_text("utf-8")
        for path in sorted(folder.iterdir(), key=lambda path: path.name)
        if path.name.endswith(".lua")
    }
    scripts = {}
    for name, text in texts.items():
        if name in PARTS:
            continue
        needs = re.match(r"-- needs:(.*)\n", text)
        parts = ["lib", "exchanges", *(needs[1].split() if needs else ())]
        scripts[name] = Script(name, "\n".join([*(texts[part] for part in parts), text]))
    return scripts


ALL_SCRIPTS: Final = _load()
"""Every script by name."""
