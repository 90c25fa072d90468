"""How the server is told which script to run: by its name, or by its text where names can't be used."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, TypeVar

from amqp.exceptions import AccessRefused

from ...protocols.redis.calls import Call
from ...protocols.redis.scripts import Script
from .errors import NOT_TAKEN, without_arguments

__all__ = ["Scripting"]

T = TypeVar("T")

_EVAL: Final = re.compile(r"(?i)\beval(sha)?\b")


def _refused(text: str) -> re.Match[str] | None:
    """The command that an error is about, if it is EVALSHA or EVAL itself and not what happened in a script."""
    if not text.startswith("NOPERM ") and NOT_TAKEN.search(text) is None:
        return None
    return _EVAL.search(text)


class Scripting:
    """What one link knows about the scripts in its server.

    By name (``EVALSHA``), which takes them to be loaded (``SCRIPT LOAD``); where that is forbidden, by text (``EVAL``)
    the first time, which loads it as well; where names are forbidden, by text each time.
    """

    def __init__(self) -> None:
        self._loads = True
        """``SCRIPT LOAD`` is allowed, as far as is known."""
        self._names = True
        """``EVALSHA`` is."""
        self._sent: set[Script] = set()
        """While nothing can be loaded: the scripts whose text the server has been sent."""

    def command(self, call: Call[T], common: Sequence[bytes]) -> tuple[bytes, ...]:
        """The command as it is to be sent now."""
        by_name = self._names and (self._loads or call.script in self._sent)
        if not self._loads:
            self._sent.add(call.script)
        return call.command(common) if by_name else call.command_with_text(common)

    def forgotten(self, *, again: bool) -> bool:
        """The server doesn't know the script; whether to load them all before the call is repeated.

        ``again`` says that it had been loaded just before: whoever loads it isn't whoever is asked for it.
        """
        self._sent.clear()
        if again and self._loads:
            self._names = False
        return self._loads and self._names

    def cannot_load(self) -> None:
        """``SCRIPT LOAD`` is refused."""
        self._loads = False

    def refused(self, text: str) -> bool:
        """Whether an error means that there are no calls by name, and that was news: then the call is repeated."""
        found = _refused(text)
        if found is None or found[1] is None or not self._names:
            return False
        self._names = False
        return True

    def refusal(self, text: str) -> Exception | None:
        """What it means for the link if there are no calls by text either; None of any other error."""
        if _refused(text) is None:
            return None
        refused: Exception = AccessRefused(
            f"ACCESS_REFUSED - Redis runs no scripts for us, and every step of the broker is one"
            f" ({without_arguments(text)}): its ACL has to allow EVALSHA and SCRIPT LOAD (+evalsha +script|load), or"
            " EVAL (+eval)",
            reply_code=403,
        )
        return refused
