"""What became of the messages of one queue, counted.  Pure."""

from __future__ import annotations

import attrs


@attrs.define(eq=False)
class Tally:
    """Counts of one consumer; it alone changes them, and they outlive its restarts."""

    received: int = 0
    """Taken in: handed to a handler, or returned before that."""
    acked: int = 0
    """Done: handled, or a request answered."""
    retried: int = 0
    """Put off into a delay, because the handler failed, or snoozed it."""
    snoozed: int = 0
    """The part of ``retried`` that no handler failed at."""
    dead_lettered: int = 0
    rejected: int = 0
    """The part of ``dead_lettered`` that a handler rejected."""
    condemned: int = 0
    """The part that was in hand when processes died."""
    undecodable: int = 0
    """The part that no handler could be called with."""
    given_up: int = 0
    """The part that failed with an error of ``give_up_on``."""
    returned: int = 0
    """Back in the queue as they came: by a shutdown, a pause, a lost session, or because no delay could be reached."""
    unknown: int = 0
    """Handled, and the ack came too late: the broker delivers them again."""
    unclaimed: int = 0
    """Replies that nobody waited for any more."""

    @property
    def in_hand(self) -> int:
        """Taken in, and nothing has become of it yet."""
        return self.received - self.acked - self.retried - self.dead_lettered - self.returned - self.unknown
