"""Whether a Redis server is still there: asked when nothing else is, judged by what comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from ..protocols.amqp.heartbeats import Verdict, pulse

if TYPE_CHECKING:
    from ._redis_wire import RedisWire

__all__ = ["keep_asking"]


async def keep_asking(wire: RedisWire, interval: float) -> None:
    """PING after each ``interval / 2`` seconds without sending; lose the wire after two intervals of silence.

    The rule is AMQP's, though Redis never beats by itself: it answers everything, so silence means that it can't.
    """
    if not interval:
        await wire.wait_closed()
        return
    stalled, heard, looked = 0.0, wire.last_heard, False
    while wire.closed is None:
        now = trio.current_time()
        if wire.last_heard != heard:
            stalled, heard = 0.0, wire.last_heard
        verdict, until = pulse(now, interval=interval, sent=wire.last_sent, received=heard, stalled=stalled)
        if verdict is Verdict.DEAD:
            if looked:
                wire.lose(f"no byte came for {now - heard:.1f} s, with a PING every {interval / 2:g} s")
                return
            # The reader gets a turn: bytes may be waiting that nobody had time to take.
            for _ in range(3):
                await trio.lowlevel.checkpoint()
            looked = True
            continue
        looked = False
        if verdict is Verdict.BEAT and not wire.sending:
            wire.send(("PING",), _whatever)
        with trio.move_on_at(until):
            await wire.wait_closed()
        stalled += max(0.0, trio.current_time() - until)


def _whatever(_: Any) -> None:
    """Any answer is a sign of life, a refusal too."""
