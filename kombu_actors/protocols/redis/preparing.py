"""A message on its way out: checked, and written as the arguments that the ``publish`` script takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Final

from ..._frozen import Record
from ..._values.model import BODY_MAX, Properties, Returned
from .._content import refuse_size, validate_content
from .envelope import encode
from .layout import Layout

__all__ = ["NO_ROUTE", "PreparedMessage", "message_arguments", "prepare"]

NO_ROUTE: Final = 312
_PRESENT: Final = {False: b"0", True: b"1"}
_WAYS: Final = 1024
"""Ways of messages that are kept encoded: each a hundred bytes, and enough for a busy program."""


class PreparedMessage(Record):
    """One message as the ``publish`` script takes it, and what tells its sender about it."""

    arguments: tuple[bytes, ...]
    """``exchange flags step expiration nkeys key.. nskip queue.. envelope``."""
    size: int
    """Bytes of the envelope, for bounding a batch: the rest of the arguments is short."""
    exchange: str
    routing_key: str
    properties: dict[str, object]
    """As a receiver will see them."""
    body: bytes
    mandatory: bool

    def returned(self) -> Returned:
        """What the sender of a mandatory message is told when no queue took it."""
        return Returned(NO_ROUTE, "NO_ROUTE", self.exchange, self.routing_key, self.properties, self.body)


def prepare(
    body: bytes | bytearray | memoryview,
    *,
    exchange: str,
    routing_key: str,
    properties: Properties,
    layout: Layout,
    new_tag: Callable[[], str],
    body_max: int = BODY_MAX,
    mandatory: bool = False,
    body_encoding: str | None = "base64",
) -> PreparedMessage:
    """Check one message and write its envelope; any thread may call this.

    ``new_tag`` makes kombu's id of the message, a UUID's text.  Headers travel as kombu's JSON writes
    them, so ``bytes`` and moments keep what AMQP would take off.

    Raises:
        ValueError: an argument breaks a rule of ``protocols._content``, or the body has more than ``body_max`` bytes.
        TypeError: the body is not bytes.
    """
    if type(body) is not bytes:
        if not isinstance(body, (bytes, bytearray, memoryview)):
            raise TypeError(f"body must be bytes, not {type(body).__name__}; serialize it first")
        body = bytes(body)
    if len(body) > body_max:
        refuse_size(len(body), body_max)
    sent = validate_content(exchange, routing_key, properties)
    more_keys: tuple[str, ...] = ()
    written = sent
    headers = sent.get("headers")
    if headers:
        own = properties["headers"]
        if "CC" in headers or "BCC" in headers:
            more_keys = _keys(headers.get("CC", ()), headers.get("BCC", ()))
            sent["headers"] = {name: value for name, value in headers.items() if name != "BCC"}
            assert isinstance(own, Mapping)
            own = {name: value for name, value in own.items() if name != "BCC"}
        written = {**sent, "headers": own}
    envelope = encode(body, written, exchange, routing_key, new_tag(), body_encoding=body_encoding)
    arguments = message_arguments(
        exchange, (routing_key, *more_keys), envelope,
        step=layout.step(sent.get("priority")), expiration=sent.get("expiration", ""), mandatory=mandatory,
    )  # fmt: skip
    return PreparedMessage(arguments, len(envelope), exchange, routing_key, sent, body, mandatory)


def message_arguments(
    exchange: str,
    keys: tuple[str, ...],
    envelope: bytes,
    *,
    step: int,
    expiration: str = "",
    mandatory: bool = False,
    never_to: tuple[str, ...] = (),
) -> tuple[bytes, ...]:
    """The arguments of ``publish`` and ``bury`` for one message; ``never_to`` are queues that must not get it."""
    # The bound of what is kept is a number, so long ones aren't.
    way = _way if len(keys) == 1 and not never_to else _encoded_way
    return (*way(exchange, keys, step, expiration, mandatory, never_to), envelope)


def _encoded_way(
    exchange: str, keys: tuple[str, ...], step: int, expiration: str, mandatory: bool, never_to: tuple[str, ...]
) -> tuple[bytes, ...]:
    return (
        exchange.encode(),
        _PRESENT[mandatory],
        b"%d" % step,
        expiration.encode(),
        b"%d" % len(keys),
        *(key.encode() for key in keys),
        b"%d" % len(never_to),
        *(queue.encode() for queue in never_to),
    )


_way: Final = lru_cache(_WAYS)(_encoded_way)


def _keys(*lists: Iterable[object]) -> tuple[str, ...]:
    return tuple(key for keys in lists for key in keys if isinstance(key, str))
