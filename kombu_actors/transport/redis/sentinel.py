"""Asking a Sentinel which server is the primary now."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import trio

from ...errors import BrokerUnreachable, HandshakeFailed
from .errors import ErrorReply
from .hello import Introduction, ask_all, check_answered, refused_login
from .wire import Argument, RedisWire

__all__ = ["find_primary", "next_primary"]

SWITCHED: Final = "+switch-master"
"""What a sentinel publishes when it names another primary."""


async def find_primary(wire: RedisWire, we: Introduction, service: str, min_other_sentinels: int) -> tuple[str, int]:
    """Ask the sentinel at the other end of ``wire`` for the address of ``service``'s primary.

    Raises:
        BrokerUnreachable: it knows none, holds the one it knows for dead, or sees too few other sentinels.
        HandshakeFailed: it is no Sentinel.
        amqp.exceptions.AccessRefused: it wants other credentials (``sentinel_kwargs``).
        ConnectionLost: the wire died over it.
    """
    commands: list[tuple[Argument, ...]] = []
    if we.userid or we.password:
        commands.append(("AUTH", we.userid, we.password or "") if we.userid else ("AUTH", we.password or ""))
    # The first answer names the new primary as soon as a failover has settled on it; the second says more.
    commands += [("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service), ("SENTINEL", "MASTER", service)]
    *login, address, details = await ask_all(wire, commands)
    for answer in (*login, address):
        if isinstance(answer, ErrorReply):
            raise _refused(answer, we)
        check_answered(answer)
    check_answered(details)
    if address is None:
        (watched,) = await ask_all(wire, [("SENTINEL", "MASTERS")])
        raise BrokerUnreachable(
            f"the sentinel {we.where} watches no primary named {service!r} (option master_name){_but(watched)}"
        )
    try:
        host, port = address[0].decode(), int(address[1])
        known = _as_dict(details)
        others = int(known.get(b"num-other-sentinels", 0))
    except (TypeError, IndexError, AttributeError, ValueError):
        raise HandshakeFailed(f"{we.where} answers, but not like a Sentinel") from None
    if others < min_other_sentinels:
        raise BrokerUnreachable(
            f"the sentinel {we.where} sees {others} other sentinels; min_other_sentinels asks for {min_other_sentinels}"
        )
    same = known.get(b"ip") == address[0] and known.get(b"port") == address[1]
    if same and {b"s_down", b"o_down"} & set(known.get(b"flags", b"").split(b",")):
        raise BrokerUnreachable(f"the sentinel {we.where} holds the primary {host}:{port} for dead, and has no other")
    return host, port


async def next_primary(
    wire: RedisWire, we: Introduction, service: str, primary: tuple[str, int], pulse: float
) -> tuple[str, int]:
    """Wait until the sentinel at the other end of ``wire`` names another primary than ``primary``; return its address.

    Raises as ``find_primary``; ``ConnectionLost`` also when the sentinel gives no sign of life for two ``pulse``.
    """
    hello: list[Argument] = ["HELLO", 3]
    if we.userid or we.password:
        hello += ["AUTH", we.userid or "default", we.password or ""]
    told, hear = trio.open_memory_channel[None](1)

    def heard(_: object) -> None:
        with suppress(trio.WouldBlock):  # it is about to be asked anyway
            told.send_nowait(None)

    wire.on_push = heard
    for answer in await ask_all(wire, [tuple(hello), ("SUBSCRIBE", SWITCHED)]):
        if isinstance(answer, BaseException):
            raise answer
    # What it said before we listened, or says of another group, is told apart by asking.
    while (named := await find_primary(wire, we, service, 0)) == primary:
        await _heard_or_dead(wire, hear, pulse)
    return named


async def _heard_or_dead(wire: RedisWire, hear: trio.MemoryReceiveChannel[None], pulse: float) -> None:
    async with trio.open_nursery() as nursery:

        @trio.lowlevel.enable_ki_protection
        async def until_dead() -> None:
            await wire.wait_closed()
            nursery.cancel_scope.cancel()

        nursery.start_soon(until_dead)
        nursery.start_soon(wire.run_reader)
        nursery.start_soon(wire.run_writer)
        nursery.start_soon(wire.run_pulse, pulse)
        await hear.receive()
        nursery.cancel_scope.cancel()
    check_answered(wire.closed)


def _but(watched: object) -> str:
    """What it watches instead."""
    if not isinstance(watched, list):
        return ""
    names = [_as_dict(one).get(b"name", b"?").decode(errors="replace") for one in watched]
    return f", but {', '.join(map(repr, names)) or 'none'}"


def _as_dict(details: object) -> dict[bytes, bytes]:
    """``SENTINEL MASTER``'s answer; empty when it may not be asked for."""
    if not isinstance(details, list):
        return {}
    return dict(zip(details[::2], details[1::2], strict=False))


def _refused(answer: ErrorReply, we: Introduction) -> Exception:
    if "unknown command" in answer.text and "SENTINEL" in answer.text.upper():
        return HandshakeFailed(f"{we.where} is a Redis server, not a Sentinel: use redis:// for it")
    return refused_login(answer, we)
