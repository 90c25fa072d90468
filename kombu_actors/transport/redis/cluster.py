"""Finding the node of a Redis Cluster that has our keys.  All of them share one slot, by a hash tag in their prefix."""

from __future__ import annotations

import re
from binascii import crc_hqx
from typing import Any, Final

from ...errors import BrokerUnreachable, HandshakeFailed
from .errors import ErrorReply, translate

__all__ = ["QUESTIONS", "owner_of", "slot_of"]

SLOTS: Final = 16384
_TAG: Final = re.compile(r"^[^{]*\{([^}]+)\}")
QUESTIONS: Final = (("CLUSTER", "MYID"), ("CLUSTER", "SLOTS"))
"""What ``owner_of`` wants the answers to."""


def slot_of(prefix: str) -> int | None:
    """The slot that all keys with this prefix are in; None without a hash tag, ``{...}``, as they are in many then."""
    tag = _TAG.match(prefix)
    return None if tag is None else crc_hqx(tag[1].encode(), 0) % SLOTS


def owner_of(slot: int, myself: object, ranges: Any, *, where: str, host: str) -> tuple[str, int] | None:
    """The address of the primary that has a slot, by the answers to ``QUESTIONS``; None if it is who answered.

    Raises:
        AccessRefused: we may not ask.
        BrokerUnreachable: nobody has it just now.
        HandshakeFailed: that was no answer of a cluster.
    """
    for answer, (command, sub) in zip((myself, ranges), QUESTIONS, strict=True):
        if isinstance(answer, ErrorReply):
            raise translate(answer.text, f"{command} {sub}")
    try:
        for first, last, (named, port, node, *_), *_replicas in ranges:
            if first <= slot <= last:
                # A node that doesn't know its own name leaves it out: it is the one that we have dialled.
                return None if node == myself else (named.decode() if named else host, int(port))
    except (TypeError, ValueError, AttributeError):
        raise HandshakeFailed(f"{where} answers, but not like a node of a cluster") from None
    raise BrokerUnreachable(f"no node of the cluster that {where} knows has our keys (slot {slot})")
