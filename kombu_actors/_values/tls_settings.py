"""What ``ssl=`` and ``tls=`` may say, checked whole; verification is on unless turned off by name."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from .._frozen import Frozen
from ..utils.url import parse_ssl_cert_reqs

__all__ = ["TLSSettings", "tls_settings"]

OLDEST: Final = ssl.TLSVersion.TLSv1_2
"""RFC 8996 deprecates everything older."""
ALIASES: Final[Mapping[str, str]] = {
    "ssl_ca_certs": "ca_certs",
    "ssl_certfile": "certfile",
    "ssl_keyfile": "keyfile",
    "ssl_password": "password",
    "ssl_cert_reqs": "cert_reqs",
    "ssl_check_hostname": "check_hostname",
    "ssl_ciphers": "ciphers",
    "ssl_min_version": "tls_minimum_version",
}
"""redis-py's spellings, which kombu's users write for ``redis://``, and kombu's own in URLs."""
VERSIONS: Final[Mapping[object, Mapping[str, ssl.TLSVersion]]] = {
    ssl.PROTOCOL_TLS_CLIENT: {},
    ssl.PROTOCOL_TLS: {},
    ssl.PROTOCOL_TLSv1_2: {"tls_maximum_version": ssl.TLSVersion.TLSv1_2},
}
"""What is left of each ``ssl_version``; those that aren't here are too old."""
NOT_TAKEN: Final[Mapping[str, str]] = {
    "context": "give an ssl.SSLContext itself as ssl= (or tls=), not inside the dict",
    "server_side": "a connection is always the client's side",
    "do_handshake_on_connect": "the handshake is always part of connecting",
    "suppress_ragged_eofs": "AMQP says itself when a connection ends",
}
"""py-amqp's keys without a meaning here, and why."""
_FILES: Final = ("ca_certs", "certfile", "keyfile")


class TLSSettings(Frozen):
    """How a connection is secured.  ``context()`` reads the files at each dial, so that renewed ones count."""

    hidden = ("password",)

    ca_certs: str | None = None
    """File with the authorities to trust; None for those of the system."""
    certfile: str | None = None
    """Client certificate, with its chain."""
    keyfile: str | None = None
    """Its key; None when ``certfile`` has it too."""
    password: str | bytes | None = None
    """What ``keyfile`` is encrypted with."""
    cert_reqs: ssl.VerifyMode = ssl.CERT_REQUIRED
    """Only ``CERT_NONE`` turns verification off; for a client, optional means required."""
    check_hostname: bool = True
    """Whether the broker's certificate must be for the name dialled."""
    server_hostname: str | None = None
    """The name that certificate must have (and SNI asks for); None for the host of the endpoint dialled."""
    ciphers: str | None = None
    """OpenSSL's cipher list, for TLS 1.2; None for Python's choice."""
    tls_minimum_version: ssl.TLSVersion = OLDEST
    tls_maximum_version: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED
    own: ssl.SSLContext | None = None
    """The caller's context, used as it is."""

    def settle(self) -> None:
        """Files may be given as paths."""
        vars(self).update({name: os.fspath(path) for name in _FILES if (path := getattr(self, name)) is not None})

    def context(self) -> ssl.SSLContext:
        """The context for one dial.

        Raises:
            OSError: a file can't be read.
            ValueError: what is in a file, or the cipher list, can't be used.
        """
        if self.own is not None:
            return self.own
        for option in _FILES:
            path = getattr(self, option)
            if path is not None:
                _must_be_readable(option, path)
        try:
            context = ssl.create_default_context(cafile=self.ca_certs)
        except ssl.SSLError as error:
            raise ValueError(f"TLS option ca_certs: no certificates in PEM form in {self.ca_certs!r}") from error
        context.minimum_version = self.tls_minimum_version
        context.maximum_version = self.tls_maximum_version
        if self.ciphers is not None:
            try:
                context.set_ciphers(self.ciphers)
            except ssl.SSLError as error:
                raise ValueError(f"TLS option ciphers: OpenSSL knows none of {self.ciphers!r}") from error
        if self.certfile is not None:
            self._load_certificate(context, self.certfile)
        context.check_hostname = self.check_hostname and self.cert_reqs is not ssl.CERT_NONE
        context.verify_mode = self.cert_reqs
        return context

    def check(self) -> None:
        """Read the files named, so that a wrong one is told where the settings were given."""
        if self.ca_certs or self.certfile or self.ciphers:
            self.context()

    def _load_certificate(self, context: ssl.SSLContext, certfile: str) -> None:
        asked = False

        def password() -> str | bytes:  # without it, OpenSSL would ask on the terminal
            nonlocal asked
            asked = True
            return self.password or ""

        try:
            context.load_cert_chain(certfile, self.keyfile, password)
        except ssl.SSLError as error:
            key = self.keyfile or certfile
            if asked:
                trouble = "is encrypted, and the password is wrong" if self.password else "is encrypted: give password"
                raise ValueError(f"TLS option keyfile: {key!r} {trouble}") from error
            if error.reason == "KEY_VALUES_MISMATCH":
                raise ValueError(f"TLS options: the key in {key!r} is not that of {certfile!r}") from error
            raise ValueError(
                f"TLS options: {certfile!r} must hold a certificate and {key!r} its private key, in PEM form"
                f" ({error.reason or error})"
            ) from error


def _must_be_readable(option: str, path: str) -> None:
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        # ssl's own error doesn't say which file it was.
        raise type(error)(error.errno, f"TLS option {option}: {error.strerror}", path) from None


def tls_settings(option: object) -> TLSSettings | None:
    """Understand ``ssl=``: a bool, the documented dict, an ``ssl.SSLContext``; None for no TLS.

    Keys of the dict: the attributes of ``TLSSettings`` (but for ``own``), ``ssl_version``, and redis-py's
    spellings.  An empty dict means TLS with the defaults.  No file is read.

    Raises:
        TypeError, ValueError: it isn't one of these, a key is unknown, or a value can't be used.
    """
    if option is None or option is False:
        return None
    if option is True:
        return TLSSettings()
    if isinstance(option, TLSSettings):
        return option
    if isinstance(option, ssl.SSLContext):
        if option.protocol == ssl.PROTOCOL_TLS_SERVER:
            raise ValueError("the ssl.SSLContext is a server's; a client's comes from ssl.create_default_context()")
        return TLSSettings(own=option)
    if not isinstance(option, Mapping):
        raise TypeError(f"ssl must be True, False, a dict or an ssl.SSLContext, not {type(option).__name__}")
    return _from_dict(_under_one_name(option))


def _under_one_name(option: Mapping[str, object]) -> dict[str, object]:
    given: dict[str, object] = {}
    for key, value in option.items():
        name = ALIASES.get(key, key)
        if name in given and given[name] != value:
            raise ValueError(f"TLS option {name} is given twice, with different values")
        given[name] = value
    return given


def _from_dict(given: dict[str, object]) -> TLSSettings:
    known = [name for name in TLSSettings.fields if name != "own"]
    for key in given:
        if key in NOT_TAKEN:
            raise ValueError(f"TLS option {key!r} is not taken: {NOT_TAKEN[key]}")
        if key not in known and key != "ssl_version":
            import difflib  # for a mistake only: it costs as much as this module

            close = difflib.get_close_matches(str(key), known, 1)
            meant = f" (did you mean {close[0]}?)" if close else ""
            raise ValueError(f"unknown TLS option {key!r}{meant}; known: {', '.join(known)}")
    version = given.pop("ssl_version", None)
    if version is not None:
        if version not in VERSIONS:
            raise ValueError("TLS option ssl_version: older than TLS 1.2, or unknown; leave it out")
        given = {**VERSIONS[version], **given}
    # None stands for "not given", as in py-amqp.
    given = {key: value for key, value in given.items() if value is not None}
    return _checked(given)


def _checked(given: dict[str, object]) -> TLSSettings:
    if "cert_reqs" in given:
        given["cert_reqs"] = _verify_mode(given["cert_reqs"])
    if not isinstance(given.get("check_hostname", True), bool):
        raise TypeError("TLS option check_hostname must be True or False")
    for key in ("tls_minimum_version", "tls_maximum_version"):
        if key in given:
            given[key] = _version(key, given[key])
    for key, kinds in {**dict.fromkeys(_FILES, (str, os.PathLike)), "password": (str, bytes)}.items():
        if not isinstance(given.get(key, ""), kinds):
            raise TypeError(f"TLS option {key} must be {' or '.join(kind.__name__ for kind in kinds)}")
    for key in ("server_hostname", "ciphers"):
        if not isinstance(given.get(key, ""), str):
            raise TypeError(f"TLS option {key} must be str")
    settings = TLSSettings().but(**given)
    if settings.keyfile is not None and settings.certfile is None:
        raise ValueError("TLS option keyfile needs certfile, the certificate it belongs to")
    if settings.cert_reqs is ssl.CERT_NONE and given.get("check_hostname"):
        raise ValueError("TLS option check_hostname=True contradicts cert_reqs=CERT_NONE, which checks nothing")
    return settings


def _verify_mode(value: object) -> ssl.VerifyMode:
    if isinstance(value, str):
        mode: ssl.VerifyMode = parse_ssl_cert_reqs(value)
        return mode
    if isinstance(value, int) and not isinstance(value, bool) and value in tuple(ssl.VerifyMode):
        return ssl.VerifyMode(value)
    raise ValueError("TLS option cert_reqs must be ssl.CERT_REQUIRED (the default) or ssl.CERT_NONE")


def _version(key: str, value: object) -> ssl.TLSVersion:
    for version in ssl.TLSVersion:
        if version == value and (version == ssl.TLSVersion.MAXIMUM_SUPPORTED or version >= OLDEST):
            return version
    raise ValueError(f"TLS option {key} must be ssl.TLSVersion.TLSv1_2 or newer")
