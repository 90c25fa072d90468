"""Program order: who asks the broker something finds what it published before, over whichever channel.

Each channel is a stream of its own to the broker, and declarations go over yet another one.  What the broker has
confirmed it has seen; so who asks waits for the confirms of what was published before, if some are still to come.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import trio

from .._logs import get_logger
from .channel import ChannelActor
from .submissions import Submissions

if TYPE_CHECKING:
    from ..transport._contract import Link

__all__ = ["Publishes"]

logger = get_logger("kombu_actors.connection")

PATIENCE = 5.0
"""Seconds that a call waits for the publishes before it, and never more than half of what its deadline leaves: a
broker that doesn't confirm (a quorum queue without its quorum) must not keep answers from those who ask of others."""


class Publishes:
    """The publishes of one connection, to those who ask after them; what ``transport._contract.Upstream`` describes.

    ``channels`` is the connection's own table, ``submissions`` what threads have published and is not in a ledger yet.
    """

    def __init__(self, channels: Mapping[int, ChannelActor], submissions: Submissions) -> None:
        self._channels = channels
        self._submissions = submissions
        self._publishing: dict[ChannelActor, None] = {}
        """Those that have published: whoever asks looks at these only, and not at a thousand that consume."""
        self._token: trio.lowlevel.TrioToken | None = None

    @property
    def unwritten(self) -> bool:
        """Whether threads have published what isn't written yet.  Any thread."""
        if not self._submissions.idle:
            return True
        return any(channel.publisher.ledger.waiting for channel in list(self._channels.values()))

    @property
    def unseen(self) -> bool:
        """Whether the broker may not have seen some of them."""
        return bool(self._submissions.waiting) or any(channel.publisher.under_way for channel in self._publishing)

    def publishes(self, channel: ChannelActor) -> None:
        """A channel has begun to publish."""
        self._publishing[channel] = None

    def forget(self, channel: ChannelActor) -> None:
        """A channel is gone."""
        self._publishing.pop(channel, None)

    def attach(self, link: Link) -> None:
        """Go over this link, in the present run of trio, from now on."""
        self._token = trio.lowlevel.current_trio_token()
        link.upstream = self

    async def wait_seen(self, over: ChannelActor | None = None) -> None:
        """Wait until the broker has seen what has been published so far.

        What was written to channel ``over`` is not waited for: a request over it comes after that.
        """
        self._submissions.take_in()
        for channel in list(self._publishing):
            publisher = channel.publisher
            if publisher.under_way and not (channel is over and _keeps_order(channel)):
                await publisher.wait_settled()

    async def wait_seen_elsewhere(self) -> None:
        """``wait_seen`` from any run of trio."""
        here = trio.lowlevel.current_trio_token()
        there = self._token
        if there is None or there is here:
            await self.wait_seen()
            return
        seen = trio.Event()

        async def wait() -> None:
            try:
                with trio.move_on_after(PATIENCE):
                    await self.wait_seen()
            finally:
                here.run_sync_soon(seen.set)

        try:
            there.run_sync_soon(partial(trio.lowlevel.spawn_system_task, wait))
        except trio.RunFinishedError:
            return  # its publishes have gone with it
        await seen.wait()

    async def come_first(self, link: Link | None, over: ChannelActor | None = None, *, own: bool) -> None:
        """Before a call over this link: have its broker see what was published in this process.

        ``own`` counts this connection's publishes in, as far as ``wait_seen`` does.
        """
        neighbours = [each for each in link.neighbours() if each.unwritten] if link is not None else []
        if not neighbours and not (own and self.unseen):
            return
        now = trio.current_time()
        with trio.move_on_after(min(PATIENCE, (trio.current_effective_deadline() - now) / 2)) as patience:
            if own:
                await self.wait_seen(over)
            for neighbour in neighbours:
                await neighbour.wait_seen_elsewhere()
        if patience.cancelled_caught:
            logger.warning(
                "the broker has not confirmed within %.3g s what was published before; it is asked all the same",
                trio.current_time() - now,
            )


def _keeps_order(channel: ChannelActor) -> bool:
    """Whether a request made now reaches the broker after all that was published on the channel."""
    epoch = channel.live
    return epoch is not None and not epoch.wire.reorders and not channel.publisher.ledger.waiting
