"""Every method the broker may send, and every request we make, with its replies.

Ids and argument layouts are the specification's (py-amqp's ``amqp.spec`` names the ids; the
layouts use ``amqp.serialization``'s letters).
"""

from __future__ import annotations

import struct
from typing import Final

from amqp import spec
from amqp.serialization import dumps

from ..._frozen import Record
from .._content import check_table

__all__ = ["INCOMING", "Incoming", "Request", "encode_method", "method_id", "request"]

_IDS: Final = struct.Struct(">HH")


def method_id(signature: tuple[int, int]) -> int:
    """Class and method id as the one number they form on the wire."""
    return signature[0] << 16 | signature[1]


class Incoming(Record):
    """A method the broker may send."""

    name: str
    layout: str = ""
    content: bool = False
    reply: bool = False


INCOMING: Final[dict[int, Incoming]] = {
    method_id(signature): incoming
    for signature, incoming in {
        spec.Connection.Start: Incoming("connection.start", "ooFSS"),
        spec.Connection.Secure: Incoming("connection.secure", "S"),
        spec.Connection.Tune: Incoming("connection.tune", "BlB"),
        spec.Connection.OpenOk: Incoming("connection.open-ok", "s"),
        spec.Connection.Close: Incoming("connection.close", "BsBB"),
        spec.Connection.CloseOk: Incoming("connection.close-ok"),
        spec.Connection.Blocked: Incoming("connection.blocked", "s"),
        spec.Connection.Unblocked: Incoming("connection.unblocked"),
        spec.Channel.OpenOk: Incoming("channel.open-ok", "S"),
        spec.Channel.Flow: Incoming("channel.flow", "b"),
        spec.Channel.FlowOk: Incoming("channel.flow-ok", "b", reply=True),
        spec.Channel.Close: Incoming("channel.close", "BsBB"),
        spec.Channel.CloseOk: Incoming("channel.close-ok"),
        spec.Exchange.DeclareOk: Incoming("exchange.declare-ok", reply=True),
        spec.Exchange.DeleteOk: Incoming("exchange.delete-ok", reply=True),
        spec.Exchange.BindOk: Incoming("exchange.bind-ok", reply=True),
        spec.Exchange.UnbindOk: Incoming("exchange.unbind-ok", reply=True),
        spec.Queue.DeclareOk: Incoming("queue.declare-ok", "sll", reply=True),
        spec.Queue.BindOk: Incoming("queue.bind-ok", reply=True),
        spec.Queue.UnbindOk: Incoming("queue.unbind-ok", reply=True),
        spec.Queue.PurgeOk: Incoming("queue.purge-ok", "l", reply=True),
        spec.Queue.DeleteOk: Incoming("queue.delete-ok", "l", reply=True),
        spec.Basic.QosOk: Incoming("basic.qos-ok", reply=True),
        spec.Basic.ConsumeOk: Incoming("basic.consume-ok", "s", reply=True),
        spec.Basic.Cancel: Incoming("basic.cancel", "sb"),
        spec.Basic.CancelOk: Incoming("basic.cancel-ok", "s", reply=True),
        spec.Basic.Return: Incoming("basic.return", "Bsss", content=True),
        spec.Basic.Deliver: Incoming("basic.deliver", "sLbss", content=True),
        spec.Basic.GetOk: Incoming("basic.get-ok", "Lbssl", content=True),
        spec.Basic.GetEmpty: Incoming("basic.get-empty", "s", reply=True),
        spec.Basic.Ack: Incoming("basic.ack", "Lb"),
        spec.Basic.Nack: Incoming("basic.nack", "Lbb"),
        spec.Basic.RecoverOk: Incoming("basic.recover-ok", reply=True),
    }.items()
}

_OUTGOING: Final[dict[str, tuple[tuple[int, int], str, tuple[str, ...]]]] = {
    "channel.flow": (spec.Channel.Flow, "b", ("channel.flow-ok",)),
    "exchange.declare": (spec.Exchange.Declare, "BssbbbbbF", ("exchange.declare-ok",)),
    "exchange.delete": (spec.Exchange.Delete, "Bsbb", ("exchange.delete-ok",)),
    "exchange.bind": (spec.Exchange.Bind, "BsssbF", ("exchange.bind-ok",)),
    "exchange.unbind": (spec.Exchange.Unbind, "BsssbF", ("exchange.unbind-ok",)),
    "queue.declare": (spec.Queue.Declare, "BsbbbbbF", ("queue.declare-ok",)),
    "queue.bind": (spec.Queue.Bind, "BsssbF", ("queue.bind-ok",)),
    "queue.unbind": (spec.Queue.Unbind, "BsssF", ("queue.unbind-ok",)),
    "queue.purge": (spec.Queue.Purge, "Bsb", ("queue.purge-ok",)),
    "queue.delete": (spec.Queue.Delete, "Bsbbb", ("queue.delete-ok",)),
    "basic.qos": (spec.Basic.Qos, "lBb", ("basic.qos-ok",)),
    "basic.consume": (spec.Basic.Consume, "BssbbbbF", ("basic.consume-ok",)),
    "basic.cancel": (spec.Basic.Cancel, "sb", ("basic.cancel-ok",)),
    "basic.get": (spec.Basic.Get, "Bsb", ("basic.get-ok", "basic.get-empty")),
    "basic.recover": (spec.Basic.Recover, "b", ("basic.recover-ok",)),
    "confirm.select": (spec.Confirm.Select, "b", ()),  # nowait
}


REPLIES: Final = {signature: replies for signature, _, replies in _OUTGOING.values()}
"""What may answer a request, by its class and method id."""


class Request(Record):
    """A synchronous method, encoded, with the names of the methods that may answer it."""

    name: str
    payload: bytes
    replies: tuple[str, ...]


def encode_method(signature: tuple[int, int], layout: str = "", *values: object) -> bytes:
    """Encode a method frame's payload, byte for byte as py-amqp does."""
    payload: bytes = _IDS.pack(*signature) + dumps(layout, values)
    return payload


def request(name: str, *values: object) -> Request:
    """Encode the request ``name``.

    Raises:
        ValueError: a string is longer than a short string, a number out of range, or a table holds
            what AMQP tables can't carry.
    """
    signature, layout, replies = _OUTGOING[name]
    checked = [_checked(name, letter, value) for letter, value in zip(layout, values, strict=True)]
    return Request(name, encode_method(signature, layout, *checked), replies)


_NUMBERS: Final = {"B": 0xFFFF, "l": 0xFFFFFFFF}


def _checked(name: str, letter: str, value: object) -> object:
    if letter == "s":
        if not isinstance(value, str):
            raise ValueError(f"{name} takes a str, not {type(value).__name__}: {value!r:.80}")
        # Not the stricter UTF-8 check: a name the broker gave us must come back as it came.
        raw = _encoded(value)
        if len(raw) > 255:
            raise ValueError(f"{name}: names and keys are at most 255 bytes of UTF-8, not {len(raw)}: {value!r:.80}")
        return raw
    if letter == "F":
        return check_table("arguments", value)[0]
    if letter in _NUMBERS and not (isinstance(value, int) and 0 <= value <= _NUMBERS[letter]):
        raise ValueError(f"{name} takes a number from 0 to {_NUMBERS[letter]}, not {value!r:.80}")
    return value


def _encoded(value: str) -> bytes:
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ValueError(f"{value!r:.80} can't be encoded as UTF-8") from None
