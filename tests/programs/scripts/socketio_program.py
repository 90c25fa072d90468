"""python-socketio's KombuManager: two servers that hear what each other, and a program that only writes, emit.

``python socketio_program.py URL`` prints what came of it as JSON; in the middle it asks for a reset (``told.reset``).
"""

import os
import sys
import threading

import socketio
from told import outcome, reset

EVENTS = 30


class Manager(socketio.KombuManager):
    """Notes what its server is told to emit."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.heard = []

    def _handle_emit(self, message):
        data = message["data"]
        self.heard.append(data[-1] if isinstance(data, list) else data)
        return super()._handle_emit(message)


managers = [Manager(sys.argv[1]) for _ in range(2)]
servers = [socketio.Server(client_manager=manager, async_mode="threading") for manager in managers]
for manager in managers:
    manager.initialize()
writer = socketio.KombuManager(sys.argv[1], write_only=True)
waiting = threading.Event()


def wait_for(count):
    """Until both have heard so many, or nothing comes any more."""
    for _ in range(150):
        if all(len(set(manager.heard)) >= count for manager in managers):
            break
        waiting.wait(0.1)


def prime():
    """Emit until both listen: what is broadcast before they do is nobody's."""
    number = 0
    while not all(manager.heard for manager in managers):
        number -= 1
        writer.emit("news", number)
        waiting.wait(0.1)


prime()
for number in range(EVENTS):
    writer.emit("news", number)
wait_for(EVENTS)
first = [len({one for one in manager.heard if one >= 0}) for manager in managers]
reset()
for manager in managers:
    manager.heard.clear()
prime()
for number in range(EVENTS):
    servers[0].emit("news", number)
wait_for(EVENTS)
outcome(first=first, second=[len({one for one in manager.heard if one >= 0}) for manager in managers])
os._exit(0)  # their threads listen for ever
