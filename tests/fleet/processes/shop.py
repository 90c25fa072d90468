"""A fleet for worker processes; what a handler does is said by its message."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import trio

from kombu_actors.fleet import Batch, Fleet, Message

if "SHOP_BROKEN" in os.environ:
    raise RuntimeError("a deployment with a mistake in it")
fleet = Fleet("memory://nowhere", name="shop")


@fleet.consumer("numbers", concurrency=4)
async def book(number: int, message: Message) -> None:
    await message.publish("numbers.done", {"number": number, "pid": os.getpid()})


Task = dict[str, float | str | bool]


def die(name: str) -> None:
    """As a crash in an extension does; whose it was is written down where that is wanted."""
    if "SHOP_DEATHS" in os.environ:
        with open(os.environ["SHOP_DEATHS"], "a") as file:
            file.write(f"{name}\n")
    os.kill(os.getpid(), signal.SIGKILL)


async def do(task: Task, message: Message) -> None:
    """Sleep, compute, or die."""
    name = str(task.get("id", message.id))
    await message.publish("work.begun", {"id": name, "pid": os.getpid()})
    if task.get("block"):
        time.sleep(float(task["seconds"]))  # noqa: ASYNC251  # a blocked loop is what is wanted
    await trio.sleep(float(task["seconds"]))
    if task.get("die"):
        die(name)
    await message.publish("work.done", {"id": name, "pid": os.getpid()})


def customer(task: Task) -> str:
    """The lane of a task; to find out may be what kills."""
    if task.get("die in key"):
        die(str(task["id"]))
    return str(task["id"])


@fleet.consumer("work", concurrency=10, prefetch=10)
async def work(task: Task, message: Message) -> None:
    await do(task, message)


@fleet.consumer("lanes", concurrency=10, key=customer)
async def lanes(task: Task, message: Message) -> None:
    await do(task, message)


@fleet.consumer("batches", concurrency=2, batch=Batch(size=4, within=0.1))
async def batches(messages: list[Message]) -> None:
    for message in messages:
        await do(message.payload_as(Task), message)


@fleet.consumer("threads", concurrency=10)
def threads(task: Task, message: Message) -> None:
    trio.from_thread.run(do, task, message)


if "SHOP_KILLER" in os.environ:
    killer = Path(os.environ["SHOP_KILLER"])

    @fleet.every(0.1)
    def clean() -> None:
        """Kill the process, as often as the file has bytes."""
        rest = killer.read_bytes()
        if rest:
            killer.write_bytes(rest[1:])
            os.kill(os.getpid(), signal.SIGKILL)
