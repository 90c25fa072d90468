"""What a link leaves to the next one of the same connection."""

from __future__ import annotations

import os
from typing import Final

import attrs

from ...protocols.redis import consuming_calls as consuming
from .caller import Caller
from .errors import LeaseLost
from .fanout import Leftovers
from .schedule import Schedule
from .settling import Settlements, Settling, report_late

__all__ = ["Handover", "carry_out"]

AT_ONCE: Final = 250
"""Decisions per script call."""


@attrs.define
class Handover:
    """One for each connection, whichever links it has."""

    owner: str = ""
    """Who held the last link's lease: what that held is given back before anything else is claimed."""
    decisions: Settlements = attrs.field(factory=Settlements)
    """Acks, requeues and rejects that the server has not carried out as far as that link knew."""
    leftovers: Leftovers = attrs.field(factory=dict)
    """Broadcasts that it had heard."""
    pid: int = attrs.field(factory=os.getpid)


async def carry_out(handover: Handover, successor: Caller) -> None:
    """Settle, in the name of the link that died, what was decided over it: or what was acknowledged would come again.

    Doing it once more changes nothing.  Raises what the server refuses it with; then it is still to be done.
    """
    terms = attrs.evolve(successor.terms, owner=handover.owner)
    caller = Caller(successor.wires, terms, successor.ending, lambda reason: None)
    settling = Settling(caller, Schedule())
    while handover.decisions.count:
        taken = handover.decisions.take(AT_ONCE)
        try:
            settled = await caller.first_call(consuming.settle(*taken))
        except LeaseLost as error:
            report_late(successor.wires.main.name, handover.decisions.count + sum(map(len, taken)), error)
            handover.decisions = Settlements()
        except BaseException:
            handover.decisions.put_back(taken)
            raise
        else:
            settling.attend(settled.deaths)
            handover.decisions.put_back(([], [], list(settled.unreached)))
