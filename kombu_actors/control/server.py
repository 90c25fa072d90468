"""The control socket of a running program: a companion that answers its user, and nobody else."""

from __future__ import annotations

import logging
import os
import socket

import trio

from ..fleet.program import Program
from ..hosting.depths import DepthSampler
from ..hosting.unix_sockets import bind, listened_to, remove_own
from ._answering import serve_connection
from .places import check_length, file_name, named, own_directory, sockets
from .verbs import Steered

__all__ = ["CONNECTIONS_MAX", "ControlSocket"]

logger = logging.getLogger("kombu_actors.control")

CONNECTIONS_MAX = 32
"""Askers at a time: some people with `top`, probes, a script; each may have a request of 17 MiB."""


class ControlSocket:
    """Serves a control socket beside a program.

    Args:
        path: where, or in which directory; None: in this user's for them (``places``), and when it can't be there the
            program runs without one, which is logged.
    """

    def __init__(self, path: str | None = None) -> None:
        self._given = None if path is None else os.path.abspath(path)

    async def __call__(self, program: Program, *, task_status: trio.TaskStatus[None]) -> None:
        """Serve until cancelled; the socket's file goes with it.

        Raises:
            OSError: there can be none at the path that was given.
        """
        try:
            path = self._choose(program.fleet.name)
            bound = _bind(path)
        except OSError as error:
            if self._given is not None:
                raise
            logger.warning("no control socket (--control PATH: elsewhere; --control '': never): %s", error)
            task_status.started()
            return
        with bound:
            inode = os.stat(path).st_ino
            try:
                bound.listen(CONNECTIONS_MAX)
                logger.info("fleet %r is steered over %s", program.fleet.name, path)
                task_status.started()
                await self._serve(program, path, trio.SocketListener(trio.socket.from_stdlib_socket(bound)))
            finally:
                remove_own(path, inode)

    async def _serve(self, program: Program, path: str, listener: trio.SocketListener) -> None:
        limiter = trio.CapacityLimiter(CONNECTIONS_MAX)
        depths = DepthSampler(program.fleet)

        async def serve(stream: trio.SocketStream) -> None:
            await serve_connection(Steered(program, path, depths), limiter, stream)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(depths.run)
            await trio.serve_listeners(serve, [listener])

    def _choose(self, fleet: str) -> str:
        path = self._given or own_directory()
        if not os.path.isdir(path):
            return path
        _remove_stale(path)
        return os.path.join(path, file_name(fleet, os.getpid()))


def _bind(path: str) -> socket.socket:
    check_length(path)
    try:
        return bind(path)
    except OSError as error:
        problem = f"no control socket can be made, choose another place with --control: {error.strerror}"
        raise OSError(error.errno, problem, path) from None


def _remove_stale(directory: str) -> None:
    """Remove the sockets of processes that were killed."""
    for path in sockets(directory=directory):
        _, pid = named(path)
        if not os.path.exists(f"/proc/{pid}") and not listened_to(path):
            try:
                os.unlink(path)
            except OSError as error:
                logger.debug("a control socket of a process that is gone stays: %s", error)
