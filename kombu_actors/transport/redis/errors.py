"""What the server's error replies mean: which class says it, and what has to happen."""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from amqp import exceptions as amqp_errors

from ...errors import ConnectionBlocked, ConnectionLost, InconsistencyError, OperationalError

__all__ = ["NOT_TAKEN", "Consequence", "ErrorReply", "LeaseLost", "consequence_of", "translate", "without_arguments"]


class LeaseLost(ConnectionLost):
    """Others took this link's process for dead: its messages are theirs (``FENCED``)."""


class ErrorReply(Exception):
    """An error reply as it came (``-CODE text``): a value until somebody translates it."""

    @property
    def text(self) -> str:
        """The line; without what Redis before 7.0 says around errors that come from inside a script."""
        return _FROM_SCRIPT.sub("", str(self))

    @property
    def code(self) -> str:
        """Its first word: ``ERR``, ``NOPERM``, ``WRONGTYPE``, ..."""
        return self.text.partition(" ")[0]


_FROM_SCRIPT: Final = re.compile(
    r"^(?:ERR Error running script \(call to f_\w+\): @user_script:\d+: )?(?:@user_script: ?\d+: )?-?(?=[A-Z]+ )"
)


class Consequence(Enum):
    """What an error reply asks for, besides being raised."""

    NONE = "none"
    """The command failed, and that is all."""
    LINK_DIES = "link dies"
    """This server is no longer, or not yet, ours to talk to: close, resolve again, come back."""
    BLOCKED = "blocked"
    """The server takes no writes for now; reads and releases go on."""
    RELOAD = "reload"
    """It has forgotten our scripts: load them, then repeat the command (it did nothing)."""


_MEANINGS: Final[dict[str, tuple[Consequence, str]]] = {
    "READONLY": (Consequence.LINK_DIES, "it is a replica now"),
    "MASTERDOWN": (Consequence.LINK_DIES, "it is a replica that has lost its primary"),
    "LOADING": (Consequence.LINK_DIES, "it is loading its data"),
    "FENCED": (Consequence.LINK_DIES, "our lease ran out, and what we held went to others"),
    "MOVED": (Consequence.LINK_DIES, "another node of the cluster has our keys"),
    "ASK": (Consequence.LINK_DIES, "our keys are on their way to another node of the cluster"),
    "TRYAGAIN": (Consequence.LINK_DIES, "our keys are on their way to another node of the cluster"),
    "CROSSSLOT": (Consequence.LINK_DIES, "in a cluster all keys must share one slot: see option global_keyprefix"),
    "CLUSTERDOWN": (Consequence.LINK_DIES, "the cluster has lost the node that had our keys"),
    "NOAUTH": (Consequence.LINK_DIES, "it has forgotten who we are"),
    "OOM": (Consequence.BLOCKED, "its memory is full (maxmemory)"),
    "MISCONF": (Consequence.BLOCKED, "it can't write to disk"),
    "NOREPLICAS": (Consequence.BLOCKED, "too few replicas follow it (min-replicas-to-write)"),
    "BUSY": (Consequence.BLOCKED, "somebody's script has run for too long; SCRIPT KILL ends it"),
    "NOSCRIPT": (Consequence.RELOAD, "it has forgotten our scripts"),
}


def consequence_of(text: str) -> Consequence:
    """What an error reply asks for."""
    return _MEANINGS.get(text.partition(" ")[0], (Consequence.NONE, ""))[0]


def without_arguments(text: str) -> str:
    """An error reply without what it repeats of the command: long, and maybe not for everybody's eyes."""
    return _REPEATED.sub("", text)


_REPEATED: Final = re.compile(r",? with args beginning with.*", re.DOTALL)
NOT_TAKEN: Final = re.compile(r"(?i)\b(unknown|unsupported|disabled|not (allowed|supported|permitted))\b")
"""What servers, and services' fronts, say of commands that they don't have; no two of them the same."""


def translate(text: str, what: str) -> Exception:
    """The exception for an error reply to ``what`` (a command or a deed, with its object, in words).

    ``ConnectionLost`` for what must end the link (``LeaseLost`` when it was fenced), ``ConnectionBlocked`` while
    the server takes no writes, ``AccessRefused`` (403) for NOPERM and for commands that it doesn't have,
    ``PreconditionFailed`` (406) for a key of another type, ``InconsistencyError`` for scripts that are gone even
    after loading, else ``OperationalError``.
    """
    code, text = text.partition(" ")[0], without_arguments(text)
    consequence, meaning = _MEANINGS.get(code, (Consequence.NONE, ""))
    if consequence is Consequence.LINK_DIES:
        return (LeaseLost if code == "FENCED" else ConnectionLost)(f"Redis refused {what}: {meaning} ({text})")
    if consequence is Consequence.BLOCKED:
        return ConnectionBlocked(f"Redis refused {what}: {meaning} ({text})")
    if consequence is Consequence.RELOAD:
        return InconsistencyError(f"Redis refused {what}: {meaning} ({text})")
    if code == "NOPERM" or NOT_TAKEN.search(text):
        remedy = "its ACL must allow that" if code == "NOPERM" else "it is blocked there, or has another name"
        refused: Exception = amqp_errors.AccessRefused(
            f"ACCESS_REFUSED - Redis refused {what}: {text}; {remedy}", reply_code=403
        )
        return refused
    if code == "WRONGTYPE":
        wrong: Exception = amqp_errors.PreconditionFailed(
            f"PRECONDITION_FAILED - Redis refused {what}: a key of that name holds something else ({text})",
            reply_code=406,
        )
        return wrong
    return OperationalError(f"Redis refused {what}: {text}")
