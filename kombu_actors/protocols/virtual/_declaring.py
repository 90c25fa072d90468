"""What a channel has before it carries messages: the topology's requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from amqp.exceptions import AMQPError, ChannelError

from ..._values.model import BindingSpec, ExchangeSpec, QueueInfo, QueueSpec
from ._queue import Queue
from ._request import request

if TYPE_CHECKING:
    from ._session import Session


@attrs.define(eq=False)
class DeclaringChannel:
    """A channel over which exchanges, queues and bindings are declared."""

    session: Session
    number: int
    closed: AMQPError | ChannelError | None = None
    last_queue: str = ""
    """The queue last declared here, which an empty queue name means."""

    def fail(self, error: AMQPError) -> None:
        """Close the channel, or the whole session, over a refused request."""
        raise NotImplementedError

    @request(40, 10)
    def exchange_declare(self, spec: ExchangeSpec, *, passive: bool = False) -> None:
        """Declare an exchange; passively, only look whether it is there."""
        self.session.broker.topology.declare_exchange(spec, passive=passive)

    @request(40, 20)
    def exchange_delete(self, name: str, *, if_unused: bool = False) -> None:
        """Delete an exchange with its bindings; no error if there is none."""
        self.session.broker.topology.delete_exchange(name, if_unused=if_unused)

    @request(40, 30)
    def exchange_bind(self, binding: BindingSpec) -> None:
        """Bind an exchange to another."""
        self.session.broker.topology.bind(binding, self.session)

    @request(40, 40)
    def exchange_unbind(self, binding: BindingSpec) -> None:
        """Undo ``exchange_bind``; no error if there is no such binding."""
        self.session.broker.topology.unbind(binding, self.session)

    @request(50, 10)
    def queue_declare(self, spec: QueueSpec, *, passive: bool = False, fresh_name: str = "") -> QueueInfo:
        """Declare a queue; ``fresh_name`` is the driver's choice should the broker have to choose."""
        topology = self.session.broker.topology
        if not spec.name and not passive:
            spec = spec.but(name=fresh_name)
            queue = topology.declare_queue(spec, self.session, fresh=True)
        else:
            queue = topology.declare_queue(spec, self.session, passive=passive)
        self.last_queue = spec.name
        return QueueInfo(spec.name, queue.ready.count, len(queue.rotation))

    @request(50, 40)
    def queue_delete(self, name: str, *, if_unused: bool = False, if_empty: bool = False) -> int:
        """Delete a queue; returns how many messages went with it."""
        return self.session.broker.topology.delete_queue(
            self._named(name), self.session, if_unused=if_unused, if_empty=if_empty
        )

    @request(50, 20)
    def queue_bind(self, binding: BindingSpec) -> None:
        """Bind a queue to an exchange."""
        self.session.broker.topology.bind(self._completed(binding), self.session)

    @request(50, 50)
    def queue_unbind(self, binding: BindingSpec) -> None:
        """Undo ``queue_bind``; no error if there is no such binding."""
        self.session.broker.topology.unbind(self._completed(binding), self.session)

    @request(50, 30)
    def queue_purge(self, name: str) -> int:
        """Remove a queue's ready messages; returns how many there were."""
        return self._queue(name).purge()

    def _named(self, name: str) -> str:
        return name or self.session.broker.topology.last_declared(self.last_queue)

    def _queue(self, name: str) -> Queue:
        return self.session.broker.topology.usable_queue(self._named(name), self.session)

    def _completed(self, binding: BindingSpec) -> BindingSpec:
        return binding if binding.destination else binding.but(destination=self._named(""))
