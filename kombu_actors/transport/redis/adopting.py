"""Putting what stock publishers only broadcast into the lists of durable fanout queues, at the server's pace."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final

from ..._frozen import Record
from ..._logs import get_logger
from ...errors import ConnectionBlocked, ConnectionLost
from ...protocols.redis import publish_calls
from ...protocols.redis.calls import Call
from ...protocols.redis.envelope import Envelope
from ...protocols.redis.publish_calls import Published

if TYPE_CHECKING:
    from .link import RedisLink

__all__ = ["Adopting"]

logger = get_logger("kombu_actors.redis")

UNDER_WAY_BYTES: Final = 1024 * 1024
"""Bytes that are sent before the server has answered; one larger broadcast goes alone."""
WAITING_MESSAGES: Final = 10_000
"""Broadcasts that wait while the server is slow, or takes no writes; as many as for a slow consumer."""
WAITING_BYTES: Final = 16 * 1024 * 1024


class Adoption(Record):
    """One broadcast for one queue."""

    queue: str
    call: Call[Published]
    size: int


class Adopting:
    """What one link adopts, oldest first.  Other links that heard the same adopt it, too: the first one does."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._waiting: deque[Adoption] = deque()
        self._waiting_bytes = 0
        self._under_way_bytes = 0
        self._refusals = 0
        """How many at the head the server has refused: it takes no writes now."""

    def add(self, queue: str, envelope: Envelope, raw: bytes) -> None:
        """Have one broadcast put into the list of a queue."""
        step = self._link.layout.step(envelope.properties.get("priority"))
        expiration = str(envelope.properties.get("expiration") or "")
        if not expiration.isdigit():
            expiration = ""
        call = publish_calls.adopt(queue, envelope.delivery_tag, raw, step=step, expiration=expiration)
        self._keep(Adoption(queue, call, len(raw)), len(self._waiting))
        self._send()

    def _keep(self, adoption: Adoption, place: int) -> None:
        self._waiting.insert(place, adoption)
        self._waiting_bytes += adoption.size
        while len(self._waiting) > WAITING_MESSAGES or (self._waiting_bytes > WAITING_BYTES and len(self._waiting) > 1):
            dropped = self._waiting.popleft()
            self._waiting_bytes -= dropped.size
            logger.error("a broadcast for durable queue %r was dropped, the oldest: the server is slow", dropped.queue)

    def _send(self) -> None:
        while (
            self._waiting
            and not self._refusals
            and (not self._under_way_bytes or self._under_way_bytes + self._waiting[0].size <= UNDER_WAY_BYTES)
        ):
            adoption = self._waiting.popleft()
            self._waiting_bytes -= adoption.size
            self._under_way_bytes += adoption.size
            self._link.submit(adoption.call, partial(self._adopted, adoption), partial(self._refused, adoption))

    def _adopted(self, adoption: Adoption, adopted: Published) -> None:
        self._under_way_bytes -= adoption.size
        self._link.settling.attend(adopted.deaths, adopted.next_timer)
        self._send()

    def _try_again(self) -> None:
        self._refusals = 0
        self._send()

    def _refused(self, adoption: Adoption, error: BaseException) -> None:
        self._under_way_bytes -= adoption.size
        if self._link.closed is not None or isinstance(error, ConnectionLost):
            return
        if isinstance(error, ConnectionBlocked):
            if not self._refusals:
                logger.warning("%s: broadcasts for durable queues wait: %s", self._link.name, error)
                self._link.postpone(self._try_again)
            self._keep(adoption, self._refusals)  # they come back in order
            self._refusals += 1
        else:
            logger.error("%s: a broadcast for durable queue %r is lost: %s", self._link.name, adoption.queue, error)
            self._send()
