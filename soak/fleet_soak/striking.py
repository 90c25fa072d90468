"""How each fault is made, and mended."""

from __future__ import annotations

import contextlib
import os
import signal

import trio

from kombu_actors.broker import Broker
from kombu_actors.errors import KombuError, NotFound, PreconditionFailed
from kombu_actors.fleet.program import Program
from tests.support.brokers import RabbitMQNode, RedisNode
from tests.support.proxy import FaultProxy

from .faults import ONE_WORKER, Fault, Planned
from .history import History
from .shop import SIDE

Node = RabbitMQNode | RedisNode


class Striker:
    """Does harm to a broker, the way to it, and a program's workers."""

    def __init__(self, node: Node, proxy: FaultProxy, program: Program, operator: Broker, history: History) -> None:
        self.side_may = trio.Event()
        """Set: the other queue may be published to."""
        self.side_may.set()
        self._node = node
        self._proxy = proxy
        self._program = program
        self._operator = operator
        self._history = history

    async def strike(self, planned: Planned) -> bool:
        """Strike and heal; False when it could not be."""
        fault, node = planned.fault, self._node
        if fault is Fault.KILL_BROKER:
            await trio.to_thread.run_sync(node.kill9)
            await node.start_async()
        elif fault in ONE_WORKER:
            await self._strike_worker(planned)
        elif fault is Fault.STOP_BROKER:
            node.sigstop()
            await trio.sleep(planned.seconds)
            node.sigcont()
        elif fault is Fault.RESET:
            self._proxy.reset()
        elif fault is Fault.DELETE:
            return await self._delete_queue()
        else:
            await self._hold(planned)
        return True

    async def _hold(self, planned: Planned) -> None:
        if planned.fault is Fault.BLACKHOLE:
            self._proxy.blackhole()
        elif planned.fault is Fault.REFUSE:
            self._proxy.refuse()
            self._proxy.reset()
        else:
            self._alarm(True)
        await trio.sleep(planned.seconds)
        if planned.fault is Fault.ALARM:
            self._alarm(False)
        else:
            self._proxy.heal()

    def _alarm(self, on: bool) -> None:
        node = self._node
        if isinstance(node, RedisNode):
            node.ask("CONFIG", "SET", "maxmemory", 1 if on else 0)
        elif on:
            node.set_memory_alarm()
        else:
            node.clear_memory_alarm()

    async def _strike_worker(self, planned: Planned) -> None:
        pids = [process.pid for process in self._program.processes() if process.pid is not None]
        pid = pids[int(planned.which * len(pids))]
        with contextlib.suppress(ProcessLookupError):
            if planned.fault is Fault.KILL_WORKER:
                os.kill(pid, signal.SIGKILL)
                return
            os.kill(pid, signal.SIGSTOP)
            await trio.sleep(planned.seconds)
            os.kill(pid, signal.SIGCONT)

    async def _delete_queue(self) -> bool:
        """The other queue, when it is empty and everything of it was handled."""
        self.side_may = trio.Event()
        try:
            with trio.move_on_after(20):
                while (  # noqa: ASYNC110  # a queue tells only who asks
                    self._history.side_open or (await self._operator.inspect_queue(SIDE)).messages
                ):
                    await trio.sleep(0.1)
                await trio.sleep(0.5)  # acks are on their way
                await self._operator.delete_queue(SIDE, if_empty=True)
                return True
        except (NotFound, PreconditionFailed, KombuError):
            return False
        finally:
            self.side_may.set()
        return False
