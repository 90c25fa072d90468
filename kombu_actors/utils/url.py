"""Broker URLs in kombu's terms: taken apart, put together, shown without their password.

Errors never repeat the URL: whatever is wrong with it may be an unescaped password.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, overload
from urllib.parse import parse_qsl, quote, unquote, urlparse, urlsplit

from ..errors import InvalidURL

if TYPE_CHECKING:
    from ssl import VerifyMode

__all__ = [
    "as_url",
    "maybe_sanitize_url",
    "parse_ssl_cert_reqs",
    "parse_url",
    "safequote",
    "sanitize_url",
    "url_to_parts",
    "urlparse",
    "urlparts",
]

T = TypeVar("T")

safequote: Final = partial(quote, safe="")
"""Percent-encode everything that means something in a URL."""


class urlparts(NamedTuple):
    """A broker URL in pieces, percent-decoded; ``None`` for a piece that isn't there."""

    scheme: str
    hostname: str | None
    port: int | None
    username: str | None
    password: str | None
    path: str | None
    """Without its leading slash."""
    query: dict[str, str]


def url_to_parts(url: str) -> urlparts:
    """Take a URL apart.

    Raises ``InvalidURL`` when it has no ``scheme://``, no numeric port, or a stray bracket.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise InvalidURL("a broker URL looks like amqp://user:password@host:5672/vhost; this one has no '://'")
    try:
        parts = urlsplit(f"http://{rest}")
        port = parts.port
    except ValueError:
        raise InvalidURL(
            f"can't tell host and port of this {scheme:.20}:// URL apart; if the password contains any of "
            "@ : / ? # %, percent-encode it with kombu_actors.utils.url.safequote"
        ) from None
    return urlparts(
        scheme.lower(),
        unquote(parts.hostname or "") or None,
        port,
        unquote(parts.username or "") or None,
        unquote(parts.password or "") or None,
        unquote(parts.path.removeprefix("/")) or None,
        dict(parse_qsl(parts.query)),
    )


_parse_url = url_to_parts


def parse_url(url: str) -> dict[str, Any]:
    """Turn a URL into ``Connection``'s keywords.

    Keys are ``transport``, ``hostname``, ``port``, ``userid``, ``password``, ``virtual_host`` and
    those of the query, its ``ssl_*`` ones gathered under ``ssl``.  Raises ``InvalidURL``.
    """
    parts = url_to_parts(url)
    keywords: dict[str, object] = {
        "transport": parts.scheme,
        "hostname": parts.hostname,
        "port": parts.port,
        "userid": parts.username,
        "password": parts.password,
        "virtual_host": parts.path,
    }
    twice = keywords.keys() & parts.query.keys()
    if twice:
        raise InvalidURL(f"{', '.join(sorted(twice))} must be given in front of the '?' of a {parts.scheme}:// URL")
    tls = {key: _tls_value(key, value) for key, value in parts.query.items() if key.startswith("ssl_")}
    keywords.update((key, value) for key, value in parts.query.items() if key not in tls)
    if tls:
        keywords["ssl"] = tls
    return keywords


def _tls_value(key: str, value: str) -> object:
    if key == "ssl_check_hostname":
        return value.lower() != "false"
    if key == "ssl_cert_reqs":
        return parse_ssl_cert_reqs(value)
    return value


def parse_ssl_cert_reqs(query_value: str) -> VerifyMode:
    """The ``ssl.VerifyMode`` of ``required``, ``optional`` or ``none`` (or ``CERT_REQUIRED``, ...)."""
    import ssl  # 10 ms that plain connections need not pay

    modes = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}
    try:
        return modes[query_value.removeprefix("CERT_").lower()]
    except KeyError:
        raise InvalidURL(f"ssl_cert_reqs must be one of {', '.join(modes)}, not {query_value!r:.40}") from None


def as_url(
    scheme: str,
    host: str | None = None,
    port: int | str | None = None,
    user: str | None = None,
    password: str | None = None,
    path: str | None = None,
    query: Mapping[str, object] | None = None,
    sanitize: bool = False,
    mask: str = "**",
) -> str:
    """Put a URL together; with ``sanitize`` the password is shown as ``mask``.

    ``path`` is used as it is; ``query`` is left out, as in kombu: it may hold secrets.
    """
    userinfo = safequote(user) if user else ""
    if password:
        userinfo += f":{mask}" if sanitize else f":{safequote(password)}"
    address = f"[{host}]" if host and ":" in host else safequote(host or "")
    return f"{scheme}://{userinfo}{'@' if userinfo else ''}{address}{f':{port}' if port else ''}/{path if path else ''}"


def sanitize_url(url: str, mask: str = "**") -> str:
    """The URL with ``mask`` for its password and without its query."""
    return as_url(*url_to_parts(url), sanitize=True, mask=mask)


@overload
def maybe_sanitize_url(url: str, mask: str = "**") -> str: ...
@overload
def maybe_sanitize_url(url: T, mask: str = "**") -> T: ...
def maybe_sanitize_url(url: object, mask: str = "**") -> object:
    """``sanitize_url`` for what looks like a URL; anything else is returned as it is."""
    if isinstance(url, str) and "://" in url:
        return sanitize_url(url, mask)
    return url
