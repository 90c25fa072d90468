"""The one lock around a broker in this process, and the ways to break it on purpose.

Several trio runs in several threads may use one broker at once: the engine is touched under the
lock only, and whoever causes news for another run leaves it there with that run's token.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from amqp import exceptions as amqp_errors

from ..._values.originals import pristine
from ...errors import BrokerUnreachable, ConnectionLost
from ...protocols.virtual import MEMORY_LIMIT, MESSAGE_LIMIT, Effect, VirtualBroker
from .link import MemoryLink

if TYPE_CHECKING:
    from .channel import MemoryChannel

__all__ = ["MemoryBroker"]

P = ParamSpec("P")
R = TypeVar("R")

OPERATOR = "operator"


class MemoryBroker:
    """A broker that lives as long as the process, reached by its name.

    ``clock`` counts seconds (monotonic by default): give it a clock of your own to test time to live
    and expiry, before anything connects, and call ``tick`` when you have moved it.  ``trio.current_time`` is one for a
    single run of trio, and moves by itself.  ``memory_limit`` bounds the bytes of all
    messages in one virtual host: above it publishers are blocked, as by RabbitMQ's memory alarm.
    ``max_message_size`` is RabbitMQ's setting of that name: a larger publish closes its channel (406).

    Its methods may be called from any thread; they return when the broker has acted, which the
    links concerned hear of in their own time.
    """

    def __init__(
        self,
        name: str = "localhost",
        *,
        clock: Callable[[], float] = time.monotonic,
        memory_limit: int = MEMORY_LIMIT,
        max_message_size: int = MESSAGE_LIMIT,
    ) -> None:
        self.name = name
        self.clock = clock
        self.memory_limit = memory_limit
        self.max_message_size = max_message_size
        self._lock = pristine("threading").RLock()
        self._hosts: dict[str, VirtualBroker] = {}
        self._links: dict[MemoryLink, None] = {}
        self._alarm: str | None = None
        self._refusing = False

    def __repr__(self) -> str:
        return f"<MemoryBroker {self.name!r}: {len(self._links)} links, {len(self._hosts)} virtual hosts>"

    # -- for links -----------------------------------------------------------------------------

    def open_link(
        self, *, user: str, virtual_host: str, channel_max: int, body_max: int, goodbye_timeout: float
    ) -> MemoryLink:
        """Make a link for the present trio run; raises ``BrokerUnreachable`` while refusing."""
        with self._lock:
            if self._refusing:
                raise BrokerUnreachable(f"memory://{self.name} refuses connections (MemoryBroker.refuse)")
            host = self._hosts.get(virtual_host)
            if host is None:
                host = self._hosts[virtual_host] = self._new_host(virtual_host)
            link = MemoryLink(
                self, host, user=user, channel_max=channel_max, body_max=body_max, goodbye_timeout=goodbye_timeout
            )
            self._links[link] = None
            return link

    def act(self, link: MemoryLink, command: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Carry out one command of a link."""
        host = link.session.broker
        with self._lock:
            host.advance(self.clock())
            result = command(*args, **kwargs)
            if host.woken:
                self._hand_over(host, link)
            if host.next_deadline < link.dispatcher.wakes_at:
                link.wake()
        return result

    def collect(self, link: MemoryLink) -> list[Effect]:
        """Take everything the broker has to tell a link."""
        return self.act(link, link.session.take_effects)

    def links_beside(self, link: MemoryLink) -> list[MemoryLink]:
        """The other links to the virtual host of one."""
        with self._lock:
            return [each for each in self._links if each is not link and each.session.broker is link.session.broker]

    def detach(self, link: MemoryLink) -> None:
        """Forget a link that is dead: what it had unacknowledged goes back to the queues."""
        with self._lock:
            if self._links.pop(link, self) is None:
                self._end(link)

    def fresh_name(self, prefix: str) -> str:
        """A random name, as long as RabbitMQ's."""
        return prefix + base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")

    def tick(self) -> None:
        """Do what is due by the clock: expire messages and unused queues."""
        with self._lock:
            self._tick()

    # -- what there is -------------------------------------------------------------------------

    @property
    def links(self) -> tuple[MemoryLink, ...]:
        """The links alive, oldest first."""
        with self._lock:
            return tuple(self._links)

    def queue_depths(self, virtual_host: str = "/") -> dict[str, int]:
        """How many messages wait in each queue."""
        with self._lock:
            self._tick()
            host = self._hosts.get(virtual_host)
            return {} if host is None else {name: queue.ready.count for name, queue in host.topology.queues.items()}

    # -- breaking it ---------------------------------------------------------------------------

    def close_link(self, reason: str = "CLOSED_BY_OPERATOR", *, link: MemoryLink | None = None) -> None:
        """Close one link, or all, as an operator would (``connection.close`` 320)."""
        error_text = f"CONNECTION_FORCED - {reason}"
        with self._lock:
            for each in [link] if link is not None else list(self._links):
                each.session.fail(amqp_errors.ConnectionForced(error_text, reply_code=320))
            self._hand_over_all()

    def close_channel(
        self, channel: MemoryChannel, code: int = 406, text: str = "PRECONDITION_FAILED - closed by operator"
    ) -> None:
        """Close one channel of a link with an error (``channel.close``)."""
        error = amqp_errors.error_for_code(code, text, (20, 40), amqp_errors.ChannelError)
        with self._lock:
            channel.engine.fail(error)
            self._hand_over_all()

    def cut(self, *, link: MemoryLink | None = None) -> None:
        """Cut one link, or all, without a goodbye: nothing it had not read yet reaches it."""
        with self._lock:
            links = [link] if link is not None else list(self._links)
            for each in links:
                self._links.pop(each, None)
                self._end(each)
        for each in links:
            each.kill_soon(ConnectionLost(f"the connection to {each.name} was lost: it was cut (MemoryBroker.cut)"))

    def refuse(self, refusing: bool = True) -> None:
        """Refuse new connections, or (False) take them again."""
        with self._lock:
            self._refusing = refusing

    def block(self, reason: str = "low on memory") -> None:
        """Raise an alarm: each link that publishes from now on is not read from any more."""
        with self._lock:
            self._alarm = reason
            for host in self._hosts.values():
                host.raise_alarm(OPERATOR, reason)

    def unblock(self) -> None:
        """End the alarm that ``block`` raised."""
        with self._lock:
            self._alarm = None
            for host in self._hosts.values():
                host.clear_alarm(OPERATOR)
            self._hand_over_all()

    def restart(self) -> None:
        """Stop and start: links are closed; durable entities and persistent messages remain."""
        with self._lock:
            for host in self._hosts.values():
                host.restart(self.clock())
            self._hand_over_all()

    # -- details, all under the lock -----------------------------------------------------------

    def _new_host(self, virtual_host: str) -> VirtualBroker:
        now = self.clock()
        host = VirtualBroker(
            virtual_host, self.memory_limit, epoch=time.time() - now, max_message_size=self.max_message_size
        )
        host.advance(now)
        if self._alarm is not None:
            host.raise_alarm(OPERATOR, self._alarm)
        return host

    def _tick(self) -> None:
        now = self.clock()
        for host in self._hosts.values():
            host.advance(now)
        self._hand_over_all()

    def _end(self, link: MemoryLink) -> None:
        host = link.session.broker
        host.advance(self.clock())
        link.session.close()
        link.session.effects.clear()
        self._hand_over_all()
        for other in self._links:  # one of them has to watch the timers from now on
            other.notify(None)

    def _hand_over_all(self) -> None:
        for host in self._hosts.values():
            self._hand_over(host, None)

    def _hand_over(self, host: VirtualBroker, acting: MemoryLink | None) -> None:
        while host.woken:
            woken, host.woken = host.woken, []
            for session in woken:
                link: Any = session.receiver
                if not link.notify(acting):
                    # Its trio run ended without a word, like a process that was killed.
                    self._links.pop(link, None)
                    session.close()
                    session.effects.clear()
