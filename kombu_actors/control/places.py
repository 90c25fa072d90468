"""Where control sockets are: ``<directory>/<fleet>-<pid>.sock``, in a directory that is its user's alone."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct

TYPE_CHECKING = False  # as type checkers know it: importing typing takes a probe's time
if TYPE_CHECKING:
    from typing import Protocol

    class HasOptions(Protocol):
        """A socket, trio's too."""

        def getsockopt(self, level: int, option: int, size: int, /) -> bytes: ...


__all__ = ["PATH_MAX", "check_length", "directories", "file_name", "named", "own_directory", "peer_uid", "sockets"]

PATH_MAX = 107
"""Bytes of a unix socket's path (``unix(7)``: 108 with the zero at its end)."""
SUFFIX = ".sock"


def directories() -> list[str]:
    """Where to look, and the first that can be is where to make one: the session's runtime directory, or one of /tmp.

    A service has often no ``XDG_RUNTIME_DIR`` where its user's shell has one, so each looks at both.
    """
    uid = os.geteuid()
    given = os.environ.get("XDG_RUNTIME_DIR")
    bases = [given] if given else []
    if f"/run/user/{uid}" not in bases:
        bases.append(f"/run/user/{uid}")
    return [f"{base}/kombu-actors" for base in bases if _owned(base, uid)] + [f"/tmp/kombu-actors-{uid}"]


def _owned(base: str, uid: int) -> bool:
    """Whether a directory is this user's: ``sudo`` often leaves the variable of the user who called it."""
    try:
        return os.stat(base).st_uid == uid
    except OSError:
        return False


def own_directory() -> str:
    """The directory for the sockets of this user, made if need be.

    Raises:
        OSError: it can't be made, or is open to others, who could put a socket of theirs there.
    """
    path = directories()[0]
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        found = os.lstat(path)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            text = "it has to be a directory of this user's alone (mode 0700)"
            raise PermissionError(errno.EPERM, text, path) from None
    return path


def file_name(fleet: str, pid: int) -> str:
    """The socket's name; what a path can't hold of the fleet's name is ``_`` there."""
    return f"{_plain(fleet)}-{pid}{SUFFIX}"


def named(path: str) -> tuple[str, int]:
    """The fleet (as ``file_name`` has it) and the pid that a socket's path tells of; raises ``ValueError``."""
    name, _, pid = os.path.basename(path).removesuffix(SUFFIX).rpartition("-")
    return name, int(pid)


def sockets(fleet: str | None = None, directory: str | None = None) -> list[str]:
    """The sockets of this user's fleets, or of those of one name, or in one directory; those of the dead, too."""
    found = []
    for place in directories() if directory is None else [directory]:
        try:
            names = sorted(os.listdir(place))
        except OSError:
            continue
        for name in names:
            try:
                whose, _ = named(name)
            except ValueError:
                continue
            if name.endswith(SUFFIX) and (fleet is None or whose == _plain(fleet)):
                found.append(os.path.join(place, name))
    return found


def check_length(path: str) -> None:
    """Raise ``OSError`` when the system can't take a path for a socket."""
    length = len(os.fsencode(path))
    if length > PATH_MAX:
        text = f"a control socket's path may have {PATH_MAX} bytes, and this has {length}: choose one with --control"
        raise OSError(errno.ENAMETOOLONG, text, path)


def peer_uid(connection: HasOptions) -> int:
    """Whose process is at the other end (``unix(7)``, SO_PEERCRED)."""
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(uid)


def _plain(fleet: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._" else "_" for letter in fleet)
