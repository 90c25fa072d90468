"""Whether a peer is still there: asked when nothing else is sent, judged by what comes back.

The rule is AMQP's (``protocols.amqp.heartbeats``).  Redis never beats by itself, but answers everything,
so its silence means that it can't.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ..protocols.amqp.heartbeats import Verdict, pulse

if TYPE_CHECKING:
    from ._contract import Pulsing

__all__ = ["keep_pulse"]


async def keep_pulse(wire: Pulsing, interval: float, beats: str) -> None:
    """Beat after each ``interval / 2`` seconds without sending; lose the wire after two intervals of silence.

    ``beats`` says for people what should have been answered how often.  Ends with the wire.
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
                wire.lose(f"no byte came for {now - heard:.1f} s, with {beats}")
                return
            # The reader gets a turn: bytes may be waiting that nobody had time to take.
            for _ in range(3):
                await trio.lowlevel.checkpoint()
            looked = True
            continue
        looked = False
        if verdict is Verdict.BEAT:
            wire.beat()
        with trio.move_on_at(until):
            await wire.wait_closed()
        stalled += max(0.0, trio.current_time() - until)
