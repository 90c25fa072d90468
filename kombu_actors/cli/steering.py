"""``pause``, ``resume``, ``restart``, ``reload`` and ``stop``."""

from __future__ import annotations

import click

from .asking import Asking, asks

__all__ = ["pause", "reload", "restart", "resume", "stop"]


@click.command()
@click.argument("queue")
@asks
def pause(asking: Asking, queue: str) -> None:
    """Take no more messages of a QUEUE, in all processes of the fleet, until `resume`.

    It returns when the broker sends none any more, and what no handler had begun is back in the queue.  Handlers that
    had begun finish.  Other fleets go on.
    """
    asking.ask("pause", queue=queue)
    asking.show(
        {"queue": queue, "paused": True}, lambda: f"queue {queue!r} is paused; `resume {queue}` goes on with it"
    )


@click.command()
@click.argument("queue")
@asks
def resume(asking: Asking, queue: str) -> None:
    """Go on with a QUEUE that was paused."""
    asking.ask("resume", queue=queue)
    asking.show({"queue": queue, "paused": False}, lambda: f"queue {queue!r} goes on")


@click.command()
@click.argument("path")
@click.option("--process", type=click.IntRange(min=1), help="Only in this process; in all when it isn't said.")
@asks
def restart(asking: Asking, path: str, process: int | None) -> None:
    """Restart the actor at PATH (as `inspect tree` has it) at once, with its group, and off its budget.

    A consumer's handlers have the drain timeout to finish.
    """
    asking.ask("restart", path=path, process=process)
    asking.show({"path": path, "process": process, "restarted": True}, lambda: f"{path} is restarted")


@click.command()
@asks
def reload(asking: Asking) -> None:
    """Replace each process by a new one, which loads the program anew: first it is READY, then the old one drains.

    It returns when all are replaced.  A fleet that was run without --processes has nobody to replace it.
    """
    asking.ask("reload")
    asking.show({"reloaded": True}, lambda: "all processes are replaced")


@click.command()
@click.option("--now", is_flag=True, help="Cancel the handlers; their messages go back into their queues.")
@click.option("--wait", is_flag=True, help="Return when the fleet has ended.")
@asks
def stop(asking: Asking, now: bool, wait: bool) -> None:
    """Have the fleet end in order, as TERM does: no more messages are taken, and handlers finish."""
    with asking.connected() as control:
        control.ask("stop", now=now)
        if wait:
            control.wait_closed()
    done = "has ended" if wait else "ends at once" if now else "drains"
    asking.show({"stopped": True, "now": now, "ended": wait}, lambda: f"the fleet {done}")
