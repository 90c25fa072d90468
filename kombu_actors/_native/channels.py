"""A channel that calls share: opened when the first needs it, and anew when supervision has given it up."""

from __future__ import annotations

import trio

from ..actors.channel import ChannelActor
from ..actors.connection import ConnectionActor
from ..supervisors._interrupts import protected


@protected
class SharedChannel:
    """One channel of a native broker, for one kind of calls."""

    def __init__(self, actor: ConnectionActor) -> None:
        self.open: ChannelActor | None = None
        """The channel; None until ``get`` has been awaited."""
        self._actor = actor
        self._opening = trio.Lock()

    async def get(self) -> ChannelActor:
        """The channel.

        Raises:
            ChannelLimitExceeded: the connection has none left.
        """
        async with self._opening:
            if self.open is None:
                self.open = await self._actor.open_channel(self._gone)
        return self.open

    def forget(self) -> None:
        """Have the next call ask for another one."""
        self.open = None

    def _gone(self, error: BaseException) -> None:
        self.forget()
