"""Unix sockets that a program serves for its own user: made with mode 0600, in the place of one that was left there."""

from __future__ import annotations

import errno
import logging
import os
import socket
import stat

__all__ = ["bind", "listened_to", "remove_own"]

logger = logging.getLogger("kombu_actors.hosting")


def bind(path: str) -> socket.socket:
    """A socket bound to a path, its owner's alone; one that was left there by a process that was killed is replaced.

    Raises:
        OSError: it can't be there; ``strerror`` says why.
    """
    _make_room(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)  # from the first moment on nobody else may connect
    try:
        bound.bind(path)
    except BaseException:
        bound.close()
        raise
    finally:
        os.umask(mask)
    return bound


def _make_room(path: str) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError(errno.EEXIST, "there is something that is no socket", path)
    if listened_to(path):
        raise OSError(errno.EADDRINUSE, "another program listens there already", path)
    os.unlink(path)


def listened_to(path: str) -> bool:
    """Whether a process listens there."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # it is busy, or another user's
        return True


def remove_own(path: str, inode: int) -> None:
    """Remove a socket, unless another process has put its own there: ``inode`` is what it had when it was bound."""
    try:
        if os.lstat(path).st_ino == inode:
            os.unlink(path)
    except OSError as error:
        logger.debug("the socket %s was gone before: %s", path, error)
