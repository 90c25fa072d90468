"""Ctrl-C strikes between any two lines of a task that isn't protected: none of a broker's tasks may be one."""

from __future__ import annotations

from collections.abc import Iterator

import trio
from trio._core._ki import _CODE_KI_PROTECTION_STATUS_WMAP

from .native import fill, queue, take
from .realms import Realm

SEEN = {"kombu_actors.supervisors._incarnation.Incarnation._run", "kombu_actors.actors.session.Session._serve_role"}
"""An actor's task, and that of a link: among others they must be found for this to say anything."""


def tasks_below(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    """A task, and all in its nurseries."""
    yield task
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from tasks_below(child)


def is_protected(task: trio.lowlevel.Task) -> bool:
    """As trio's signal handler would find: the innermost frame that says anything decides."""
    for frame, _ in reversed(list(task.iter_await_frames())):
        try:
            return _CODE_KI_PROTECTION_STATUS_WMAP[frame.f_code]
        except KeyError:
            continue
    return False


async def test_no_task_of_a_broker_can_be_torn(realm: Realm) -> None:
    """Whatever the transport runs beside: readers, writers, keepers, dispatchers, and every actor."""
    own = trio.lowlevel.current_task()
    async with realm.open_broker() as broker:
        await queue(broker, "q")
        await fill(broker, "q", 1)
        async with broker.subscribe("q") as messages:
            (message,) = await take(messages, 1)
            message.ack()
            tasks = [task for task in tasks_below(own) if task is not own]
            assert {task.name for task in tasks} >= SEEN
            assert [task.name for task in tasks if not is_protected(task)] == []
