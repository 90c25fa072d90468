"""How what a thread hands over leaves it: written at once, past the runtime, or submitted to it in a batch."""

from __future__ import annotations

from collections.abc import Callable

from .._values.model import Sent
from ..actors.channel import ChannelActor
from ..actors.connection import ConnectionActor
from ..actors.submissions import Settlement
from ..protocols.ledger import Entry
from .portal import Portal

__all__ = ["Leaving"]


class Leaving:
    """One channel's way out of any thread.  An interruption in the middle leaves nothing behind unsent."""

    __slots__ = ("_actor", "_owner", "_portal", "submissions")

    def __init__(self, portal: Portal, owner: ConnectionActor, actor: ChannelActor) -> None:
        self.submissions = owner.submissions
        """Of all channels of the connection: what the runtime has not taken in yet."""
        self._portal = portal
        self._owner = owner
        self._actor = actor

    def write(self, send: Callable[[], Sent]) -> bool:
        """Have ``send`` write past the runtime; whether it did, and if only in part the runtime writes the rest."""
        sent = self._portal.past(send, self._actor.flush)
        if sent is Sent.PART:
            self._portal.post(self._actor.flush)
        return sent is not Sent.NOTHING

    def submit(self, item: Entry | Settlement) -> None:
        """Put it with what the runtime takes in next.  Never waits."""
        submissions = self.submissions
        try:
            submissions.waiting.append((self._actor, item))
            if not submissions.posted:
                submissions.posted = True
                self._portal.post(self._owner.collect)
        except BaseException:
            self._portal.post(self._owner.collect)  # who was interrupted may have said so and not have done it
            raise
