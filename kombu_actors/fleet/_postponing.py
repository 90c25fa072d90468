"""Publishing to a delay: declared when it is first needed, and again when somebody has deleted it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Unpack

import trio

from .._logs import get_logger
from ..broker import Broker, MessageProperties
from ..errors import NotFound, PublishReturned
from ..supervisors._interrupts import protected
from ._delays import Delay
from ._headers import Copy

__all__ = ["PUBLISH_TIMEOUT", "Postponer"]

logger = get_logger("kombu_actors.fleet")

PUBLISH_TIMEOUT = 30.0
"""Seconds for declaring and publishing: longer than a failover takes."""
PLACES = 3
"""Queues for one delay at most: in a cluster the classic queues of a node that is down are there, and can't be reached.
One that is declared then is on a node that is up; a cluster that has lost two of three nodes serves nobody."""
AWAY = 10.0
"""Seconds until a queue that could not be reached is tried again: each attempt costs the broker a channel."""


@protected
class Postponer:
    """The delays of one connection.

    The connection declares them again in each session, so each is declared here once; what an operator deletes
    meanwhile is noticed by the publish, which nobody gets then.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._declared: set[Delay] = set()
        """At most what the program names, and 90 for each power of ten."""
        self._declaring = trio.Lock()
        self._away: dict[Delay, float] = {}
        """Until when those are not tried that could not be declared."""

    async def declare(self, delay: Delay, *, timeout: float = PUBLISH_TIMEOUT) -> None:
        """Declare a delay ahead of its first use, which is the faster then; raises as ``Broker.declare``."""
        await self._declare(delay, trio.current_time() + timeout)

    async def postpone(self, copy: Copy, queue: str, delay: Delay, *, timeout: float = PUBLISH_TIMEOUT) -> None:
        """``publish`` for a message that came from a queue."""
        await self.publish(
            delay,
            queue,
            copy.body,
            content_type=copy.content_type,
            content_encoding=copy.content_encoding,
            headers=copy.headers,
            persistent=copy.persistent,
            timeout=timeout,
            **copy.properties,
        )

    async def publish(
        self,
        delay: Delay,
        queue: str,
        body: object,
        *,
        serializer: str | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        headers: Mapping[str, object] | None = None,
        persistent: bool = True,
        timeout: float = PUBLISH_TIMEOUT,
        **properties: Unpack[MessageProperties],
    ) -> None:
        """Publish a message that comes to ``queue`` after the delay; returns once the broker has confirmed it.

        From then on it survives restarts of the broker, and of everybody else.  It is lost when its home queue doesn't
        exist at the end of the delay, or when somebody deletes or purges the delay's queue while it waits there.

        Raises:
            ValueError: the message has an ``expiration``, which would end the delay early.
            as ``Broker.declare`` and ``Broker.publish``.

        Cancellation leaves open whether the message waits.
        """
        if properties.get("expiration") is not None:
            raise ValueError(f"a message to {queue!r} can't both wait {delay.seconds:g} s and expire: leave one out")
        at = trio.current_time() + timeout

        async def publish(here: Delay) -> None:
            await self._declare(here, at)
            await self._broker.publish(
                body,
                exchange=here.name,
                routing_key=queue,
                serializer=serializer,
                content_type=content_type,
                content_encoding=content_encoding,
                headers=headers,
                persistent=persistent,
                mandatory=True,
                timeout=_left(at),
                **properties,
            )

        here = delay
        while True:
            try:
                if self._away.get(here, 0.0) <= trio.current_time():
                    return await self._here_or_again(here, publish)
            except (NotFound, PublishReturned) as away:
                if here.place == PLACES - 1:
                    raise
                self._away[here] = trio.current_time() + AWAY
                logger.warning("queue %r is away (%s): messages wait in another one", here.name, away)
            here = here.elsewhere

    async def _here_or_again(self, here: Delay, publish: Callable[[Delay], Awaitable[None]]) -> None:
        try:
            await publish(here)
        except (NotFound, PublishReturned):
            self._declared.discard(here)
            await publish(here)

    async def _declare(self, delay: Delay, at: float) -> None:
        if delay in self._declared:
            return
        async with self._declaring:
            if delay not in self._declared:
                await self._broker.declare(delay.exchange, delay.queue, delay.binding, timeout=_left(at))
                self._declared.add(delay)


def _left(at: float) -> float:
    return max(at - trio.current_time(), 0.0)
