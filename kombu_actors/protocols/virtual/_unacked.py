"""The deliveries of one channel that await an acknowledgement."""

from __future__ import annotations

import attrs
from amqp.exceptions import PreconditionFailed

from ._errors import precondition_failed
from ._message import Entry


@attrs.define(eq=False)
class Unacked:
    """Entries by delivery tag.  Bounded by prefetch; without prefetch by what the client lets pile up."""

    last_tag: int = 0
    entries: dict[int, Entry] = attrs.field(factory=dict)
    _first: int = 1
    """No tag below is left: each tag is passed once by a multiple acknowledgement, however many there are."""

    def take(self, tag: int, *, multiple: bool) -> list[Entry]:
        """Take what an ack, nack or reject speaks of; raises 406 for a tag that is not outstanding.

        With ``multiple`` everything up to the tag; tag 0 then means all there is.
        """
        entries = self.entries
        if not multiple:
            entry = entries.pop(tag, None)
            if entry is None:
                raise unknown_tag(tag)
            return [entry]
        if tag == 0:
            return self.take_all()
        if tag not in entries:
            raise unknown_tag(tag)
        taken = [entries.pop(older) for older in range(self._first, tag + 1) if older in entries]
        self._first = tag + 1
        return taken

    def take_all(self) -> list[Entry]:
        taken = list(self.entries.values())
        self.entries.clear()
        self._first = self.last_tag + 1
        return taken


def unknown_tag(tag: int) -> PreconditionFailed:
    """406: never delivered on this channel, or acknowledged before."""
    return precondition_failed(f"unknown delivery tag {tag}")
