"""Whether messages can be sent and taken: on a queue of the examination's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ssl import SSLContext

import trio

from ..broker import QueueSpec, open_broker
from ..errors import AccessRefused, ConnectionBlocked, DeadlineExceeded, KombuError
from ..utils.uuid import uuid
from ._network import Unwell
from .findings import Finding, Verdict

__all__ = ["permissions_finding"]

PREFIX = "ka.delay.doctor."
"""How the queue's name begins: as those that fleets declare for retries, which permissions have to allow anyway."""
_ADVICE = (
    "RabbitMQ: rabbitmqctl set_permissions -p VHOST USER CONFIGURE WRITE READ, where each matches the program's queues,"
    " their dead letters (NAME.dead) and ka\\.delay\\..*; Redis: the user's ACL needs all commands but the dangerous"
    " ones, on all keys and channels of the program (+@all -@dangerous ~* &*)"
)
_ALARM_ADVICE = (
    "the broker takes no messages until its memory or disk is less full; consumers go on.  RabbitMQ:"
    " rabbitmq-diagnostics alarms says which it is (vm_memory_high_watermark, disk_free_limit), and rabbitmqctl"
    " list_queues name messages where the messages are; Redis: INFO memory, and CONFIG SET maxmemory"
)


async def permissions_finding(
    url: str,
    *,
    tls: bool | Mapping[str, object] | SSLContext,
    transport_options: Mapping[str, object] | None,
    timeout: float,
) -> Finding:
    """Declare a queue, publish to it, take the message, delete the queue; raises ``Unwell``."""
    name, doing = f"{PREFIX}{uuid()}", "connecting"
    try:
        async with open_broker(url, tls=tls, transport_options=transport_options, connect_timeout=timeout) as broker:
            doing = "declaring a queue (configure)"
            await broker.declare(QueueSpec(name=name, type="classic", expires=60), timeout=timeout)
            doing = "publishing to it (write)"
            try:
                await broker.publish("doctor", routing_key=name, mandatory=True, timeout=timeout)
            except KombuError:
                if broker.blocked is None:
                    raise
                raise Unwell(
                    "permissions", f"nothing can be published: {broker.blocked}, says the broker", _ALARM_ADVICE
                ) from None
            doing = "consuming from it (read)"
            with trio.fail_after(timeout):
                async with broker.subscribe(name, timeout=timeout) as messages:
                    (await anext(messages)).ack()
            doing = "deleting it (configure)"
            await broker.delete_queue(name, timeout=timeout)
    except AccessRefused as error:
        raise Unwell("permissions", f"{doing} was refused: {_said(error)}", _ADVICE) from None
    except ConnectionBlocked as error:
        raise Unwell("permissions", f"{doing}: {error}", _ALARM_ADVICE) from None
    except (KombuError, DeadlineExceeded, trio.TooSlowError) as error:
        raise Unwell("permissions", f"{doing} failed: {str(error) or 'no message came in time'}", None) from None
    return Finding("permissions", Verdict.OK, "a queue was declared, published to, consumed and deleted")


def _said(error: Exception) -> str:
    text = str(getattr(error, "message", None) or getattr(error, "reply_text", None) or error)
    return re.sub(rf"'{re.escape(PREFIX)}\S+'", "of the examination", text)
