"""One connection to a control socket: requests, one after the other, and what is answered."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

import trio

from .places import peer_uid
from .requests import Arguments, WrongRequest, refusal
from .verbs import VERBS, Asked, Steered
from .wire import BEAT, REQUEST_MAX, NotAMessage, decode, encode

logger = logging.getLogger("kombu_actors.control")

REQUEST_WITHIN = 60.0
"""Seconds between requests of one connection, and for the whole of one to come."""
SEND_WITHIN = 10.0
"""Seconds for an asker to take a line of the answer."""
GOODBYE = 1.0
"""Seconds for one that is turned away to read why."""
CHUNK = 64 * 1024


class AskerGone(Exception):
    """The other end has left, or takes nothing."""


async def serve_connection(steered: Steered, limiter: trio.CapacityLimiter, stream: trio.SocketStream) -> None:
    """Answer one asker until it leaves; ``limiter`` counts the askers."""
    async with stream:
        asker = Asker(stream)
        try:
            uid = peer_uid(stream.socket)
            if uid not in (0, os.geteuid()):
                logger.warning("a process of another user (uid %d) was refused at the control socket", uid)
                await asker.turn_away("this fleet is another user's")
                return
            try:
                limiter.acquire_on_behalf_of_nowait(stream)
            except trio.WouldBlock:
                await asker.turn_away(f"{limiter.total_tokens} others are asking already")
                return
            try:
                while (line := await asker.receive()) is not None:
                    await answer(steered, line, asker)
            finally:
                limiter.release_on_behalf_of(stream)
        except AskerGone as error:
            logger.debug("an asker at the control socket is gone: %s", error)
        except Exception:  # whatever it is, it ends this connection, and not the fleet
            logger.exception("a connection to the control socket failed")


class Asker:
    """The other end of a connection: lines, each whole, each with a deadline."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._rest = bytearray()
        self._sending = trio.Lock()

    async def receive(self) -> bytes | None:
        """The next request; None when there is none any more."""
        searched = 0
        with trio.move_on_after(REQUEST_WITHIN):
            while (end := self._rest.find(b"\n", searched)) < 0:
                searched = len(self._rest)
                if searched > REQUEST_MAX:
                    await self.refuse(f"a request may have {REQUEST_MAX} bytes", 2)
                    return None
                try:
                    chunk = await self._stream.receive_some(CHUNK)
                except trio.BrokenResourceError as error:
                    raise AskerGone(str(error)) from None
                if not chunk:
                    return None
                self._rest += chunk
            line = bytes(self._rest[:end])
            del self._rest[: end + 1]
            return line
        return None

    async def send(self, message: Mapping[str, object]) -> None:
        """Send one line; raises ``AskerGone``."""
        try:
            with trio.fail_after(SEND_WITHIN):
                async with self._sending:
                    await self._stream.send_all(encode(message))
        except (trio.BrokenResourceError, trio.TooSlowError) as error:
            raise AskerGone(str(error)) from None

    async def refuse(self, text: str, exit: int) -> None:
        """Say no."""
        await self.send({"error": text, "exit": exit})

    async def turn_away(self, text: str) -> None:
        """Say no to whatever it asks, and read that: a socket closed on unread bytes takes the answer along."""
        await self.refuse(text, 1)
        with trio.move_on_after(GOODBYE):
            try:
                while await self._stream.receive_some(CHUNK):
                    pass
            except trio.BrokenResourceError as error:
                raise AskerGone(str(error)) from None

    async def beat(self, work: trio.CancelScope) -> None:
        """Show that the work goes on, and end it when there is nobody to see that."""
        try:
            while True:
                await trio.sleep(BEAT)
                await self.send({"beat": True})
        except AskerGone:
            work.cancel(reason="the asker has gone")


async def answer(steered: Steered, line: bytes, asker: Asker) -> None:
    """Do what a request says, and say what came of it; raises ``AskerGone``."""
    try:
        request = decode(line)
        name = request.pop("verb", None)
        if not isinstance(name, str) or name not in VERBS:
            raise WrongRequest(f"this process knows no verb {name!r:.80}, but {', '.join(sorted(VERBS))}")
    except (NotAMessage, WrongRequest) as error:
        await asker.refuse(str(error), 2)
        return
    asked = Asked(steered=steered, arguments=Arguments(request), tell=asker.send)
    outcome: Mapping[str, object] | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asker.beat, nursery.cancel_scope)
        try:
            outcome = {"value": await VERBS[name](asked)}
        except AskerGone:
            pass
        except Exception as error:
            outcome = refusal(error)
        nursery.cancel_scope.cancel(reason="the request is done")
    if outcome is None:
        raise AskerGone("it left before its answer")
    await asker.send(outcome)
