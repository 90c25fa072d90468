"""A pool of sockets: each is an actor that dials, serves, and dies of a lost connection; its supervisor dials again.

    python examples/trio_socket_pool.py

The server is part of the program, and rude: it hangs up after every fifth answer.
"""

from __future__ import annotations

import logging
from functools import partial
from itertools import cycle

import trio

from kombu_actors.supervisors import (
    ActorContext,
    ActorDown,
    Backoff,
    ChildSpec,
    RestartLimit,
    Supervisor,
    SupervisorSpec,
    open_supervisor,
)

SIZE, QUESTIONS = 4, 100


async def serve(stream: trio.SocketStream) -> None:
    """Answer five lines in capitals, then hang up."""
    for _ in range(5):
        line = await stream.receive_some(1000)
        if not line:
            break
        await stream.send_all(line.upper())
    await stream.aclose()


async def connection(port: int, ctx: ActorContext) -> None:
    """One socket: READY when it is connected; whatever goes wrong with it is raised."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        ctx.ready()
        async for envelope in ctx.mailbox:
            await stream.send_all(envelope.message)
            answer = await stream.receive_some(1000)
            if not answer:
                raise ConnectionError("the server hung up")
            envelope.reply(answer)


class Pool:
    """Asks over whichever socket is next, and once more over another one when that was lost."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._sockets = cycle([supervisor.ref(f"socket-{number}") for number in range(SIZE)])

    async def ask(self, line: bytes) -> bytes:
        while True:
            try:
                answer: bytes = await next(self._sockets).ask(line, timeout=10)
            except ActorDown:
                continue  # it was on its way when the server hung up: this question may be asked twice
            return answer


async def main() -> None:
    logging.getLogger("kombu_actors.supervisors").setLevel(logging.CRITICAL)  # hanging up is what this server does
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        sockets = tuple(
            ChildSpec(id=f"socket-{number}", start=partial(connection, port), mailbox=100) for number in range(SIZE)
        )
        backoff = Backoff(first=0, base=0.01, maximum=1)
        spec = SupervisorSpec(id="pool", children=sockets, backoff=backoff, limit=RestartLimit(max_restarts=None))
        async with open_supervisor(spec) as supervisor:
            pool = Pool(supervisor)
            answers: list[bytes] = []

            async def ask(number: int) -> None:
                answers.append(await pool.ask(b"question %d" % number))

            async with trio.open_nursery() as asking:
                for number in range(QUESTIONS):
                    asking.start_soon(ask, number)
            assert sorted(answers) == sorted(b"QUESTION %d" % number for number in range(QUESTIONS))
            print(f"{QUESTIONS} questions answered over {SIZE} sockets, by a server that hangs up all the time")
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
