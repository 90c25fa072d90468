"""Who may look, and who may act.

A page of this machine is reached by every browser on it, and so by every site that such a browser shows.  Against that
stand: a ``Host`` that is no stranger's name (a site may have its own name resolve to 127.0.0.1), an ``Origin`` that is
the page's own, and for actions a token that no site can know.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import secrets
import socket
from collections.abc import Collection, Mapping
from pathlib import Path

import attrs

__all__ = ["Token", "host_refusal", "origin_refusal", "token_at"]

TOKEN_MIN = 16
"""Characters of a token: what is shorter can be guessed."""
TOKEN_BYTES = 24


@attrs.frozen
class Token:
    """What has to be said to act; never shown."""

    _value: str = attrs.field(repr=False)

    def __attrs_post_init__(self) -> None:
        if len(self._value) < TOKEN_MIN or not self._value.isascii() or not self._value.isprintable():
            raise ValueError(f"a token takes at least {TOKEN_MIN} printable ASCII characters")

    def refusal(self, authorization: str | None) -> str | None:
        """Why an ``Authorization`` header does not do; None: it does.  Takes the same time whatever is wrong."""
        scheme, _, given = (authorization or "").partition(" ")
        right = hmac.compare_digest(given.strip().encode(), self._value.encode())
        if scheme.lower() != "bearer":
            return "actions take a token: Authorization: Bearer TOKEN"
        return None if right else "that is not the token of this fleet"


def token_at(path: Path) -> tuple[Token, bool]:
    """The token in a file, which is made (mode 0600) when there is none; and whether it was made.

    Raises:
        ValueError: it holds no token, or others than its owner may read it.
        OSError: it can't be read or made.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        mode = path.stat().st_mode
        if mode & 0o077:
            raise ValueError(f"{path} holds a token that others may read: chmod 600 {path}") from None
        try:
            return Token(path.read_text().strip()), False
        except ValueError as error:
            raise ValueError(f"{path}: {error}; remove it, and one is made") from None
    value = secrets.token_urlsafe(TOKEN_BYTES)
    with os.fdopen(descriptor, "w") as file:
        file.write(value + "\n")
    return Token(value), True


def host_refusal(host: str | None, names: Collection[str]) -> str | None:
    """Why a ``Host`` header is refused; None: it isn't.

    An address is nobody's trick: only a name can be made to point here by somebody else.
    """
    name = host_name(host or "")
    if name is None:
        return "the request names no host"
    known = {"localhost", socket.gethostname().lower(), *(one.lower() for one in names)}
    if name in known or name.endswith(".localhost") or _is_address(name):
        return None
    return f"this page is not known as {name!r:.80}: ask by address, or allow the name with --allow-host"


def host_name(host: str) -> str | None:
    """The name in a ``Host`` header, without its port; None when it is none."""
    if host.startswith("["):
        name, bracket, port = host[1:].partition("]")
        return name if bracket and (not port or port.startswith(":")) else None
    name, _, _ = host.partition(":")
    return name.lower().rstrip(".") or None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def origin_refusal(headers: Mapping[str, str]) -> str | None:
    """Why a request that would change something is refused for where it comes from; None: it isn't.

    Browsers say ``Origin`` with each POST; programs, which no site can lead astray, say none.
    """
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2].lower() != headers.get("host", "").lower():
        return "the request comes from another site"
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return "the request comes from another site"
    return None
