"""The publishes of one broker, over one channel, in the runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import trio

from ..actors.channel import ChannelActor
from ..actors.connection import ConnectionActor
from ..actors.sending import send
from ..protocols.ledger import Entry
from ..supervisors._interrupts import protected
from .batch import Batch, Bodies, Source
from .block import Block
from .channels import SharedChannel


@protected
class RuntimePublishing:
    """Publishes over a channel that the first of them opens."""

    def __init__(self, actor: ConnectionActor, block: Block) -> None:
        self.channel = SharedChannel(actor)
        self._block = block

    async def send(self, entry: Entry, timeout: float) -> None:
        """Publish one message and wait for its outcome, opening the channel included."""
        channel = self.channel.open
        if channel is None:
            at = trio.current_time() + timeout
            channel = await self._open(timeout)
            timeout = max(at - trio.current_time(), 0.0)
        channel.check_obstacle()
        await send(channel.publisher, entry, timeout)

    async def send_all(self, bodies: Iterable[object], make: Callable[[object], Entry], timeout: float) -> int:
        """Publish messages in order, many at a time under way."""
        return await self.send_from(Bodies(bodies, make), timeout)

    async def send_from(self, source: Source, timeout: float) -> int:
        """``send_all`` for whatever has the messages."""
        channel = self.channel.open or await self._open(timeout)
        channel.check_obstacle()
        return await Batch(channel.publisher, source, timeout).publish()

    def forget(self) -> None:
        """Have the next call open another channel, or be refused."""
        self.channel.forget()

    async def _open(self, timeout: float) -> ChannelActor:
        return await self._block.call("opening a channel to publish", timeout, self.channel.get)
