"""What `ssl=` may say: verification is on unless turned off by name, and no typo turns anything off."""

from __future__ import annotations

import pickle
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from kombu_actors import Connection
from kombu_actors._values.tls_settings import TLSSettings, tls_settings
from kombu_actors.broker import open_broker
from kombu_actors.errors import InvalidURL
from tests.support.certs import Certificates


def connection(ssl: Any = False, url: str = "amqp://broker.example") -> Connection:
    return Connection(url, ssl=ssl)


def context(option: Any) -> ssl.SSLContext:
    settings = tls_settings(option)
    assert settings is not None
    return settings.context()


@pytest.mark.parametrize("option", [True, {}, {"ca_certs": None, "server_hostname": None}, {"cert_reqs": "required"}])
def test_chain_name_and_version_are_checked_by_default(option: Any) -> None:
    """However TLS was asked for; kombu's `ssl=True` leaves the name unchecked."""
    made = context(option)
    assert made.verify_mode is ssl.CERT_REQUIRED
    assert made.check_hostname
    assert made.minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("option", [False, None])
def test_no_tls_is_said_with_false(option: Any) -> None:
    """And with None, kombu's default in places."""
    assert tls_settings(option) is None


@pytest.mark.parametrize("option", [{"cert_reqs": ssl.CERT_NONE}, {"ssl_cert_reqs": "none"}, {"cert_reqs": 0}])
def test_verification_is_turned_off_by_name_only(option: Any) -> None:
    """`CERT_NONE` under one of its names."""
    made = context(option)
    assert made.verify_mode is ssl.CERT_NONE
    assert not made.check_hostname


def test_the_name_alone_can_be_left_unchecked() -> None:
    """`ssl_check_hostname=False` (kombu's name for URLs) keeps the check of the chain."""
    made = context({"ssl_check_hostname": False})
    assert made.verify_mode is ssl.CERT_REQUIRED
    assert not made.check_hostname


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"ca_cert": "/ca.pem"}, r"unknown TLS option 'ca_cert' \(did you mean ca_certs\?\)"),
        ({"verify": False}, "unknown TLS option 'verify'"),
        ({"cert_reqs": "nonee"}, "required, optional, none"),
        ({"cert_reqs": 7}, "cert_reqs must be ssl.CERT_REQUIRED"),
        ({"cert_reqs": False}, "cert_reqs must be ssl.CERT_REQUIRED"),
        ({"check_hostname": "False"}, "check_hostname must be True or False"),
        ({"check_hostname": 0}, "check_hostname must be True or False"),
        ({"check_hostname": True, "cert_reqs": ssl.CERT_NONE}, "contradicts"),
        ({"ca_certs": "/a", "ssl_ca_certs": "/b"}, "ca_certs is given twice"),
        ({"keyfile": "/key.pem"}, "keyfile needs certfile"),
        ({"ca_certs": 3}, "ca_certs must be str"),
        ({"server_hostname": b"x"}, "server_hostname must be str"),
        ({"ssl_version": 3}, "older than TLS 1.2, or unknown"),
        ({"tls_minimum_version": ssl.TLSVersion.TLSv1_1}, "must be ssl.TLSVersion.TLSv1_2 or newer"),
        ({"tls_maximum_version": "1.2"}, "must be ssl.TLSVersion.TLSv1_2 or newer"),
        ({"context": {}}, "give an ssl.SSLContext itself"),
        ({"server_side": True}, "always the client's side"),
        ({"ciphers": "ROT13"}, "OpenSSL knows none of 'ROT13'"),
        ("true", "ssl must be True, False, a dict or an ssl.SSLContext, not str"),
        (1, "not int"),
        (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), "is a server's"),
    ],
)
def test_what_is_not_understood_is_refused_before_dialling(option: Any, says: str) -> None:
    """A key nobody knows, a value of another type, a contradiction: `ValueError` or `TypeError` at once."""
    with pytest.raises((TypeError, ValueError), match=says):
        connection(option)


async def test_the_native_api_refuses_the_same() -> None:
    """And query parameters, which it doesn't read: silence would lose a setting."""
    with pytest.raises(ValueError, match="did you mean ca_certs"):
        await open_broker("amqps://broker.example", tls={"ca_cert": "/ca.pem"}).__aenter__()
    with pytest.raises(InvalidURL, match="as its own arguments"):
        await open_broker("amqps://broker.example?ssl_ca_certs=/ca.pem").__aenter__()


def test_files_are_looked_at_when_the_connection_is_made(certificates: Certificates, tmp_path: Path) -> None:
    """A path that isn't there, one without certificates, a key of another certificate: option and path are named."""
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing\n")
    client, stranger = certificates.client, certificates.stranger
    with pytest.raises(FileNotFoundError, match=r"TLS option ca_certs: No such file or directory: '.*missing.pem'"):
        connection({"ca_certs": str(tmp_path / "missing.pem")})
    with pytest.raises(FileNotFoundError, match="TLS option keyfile"):
        connection({"certfile": client.certificate, "keyfile": tmp_path / "missing.key"})
    with pytest.raises(ValueError, match=r"ca_certs: no certificates in PEM form in '.*empty.pem'"):
        connection({"ca_certs": empty})
    with pytest.raises(ValueError, match=r"the key in '.*stranger.key' is not that of '.*client.pem'"):
        connection({"certfile": client.certificate, "keyfile": stranger.key})
    with pytest.raises(ValueError, match=r"'.*empty.pem' must hold a certificate"):
        connection({"certfile": empty, "keyfile": client.key})


def test_an_encrypted_key_never_asks_on_the_terminal(tmp_path: Path) -> None:
    """OpenSSL would; a worker has no terminal.  The password given is used and never shown."""
    from cryptography.hazmat.primitives import serialization

    leaf = trustme.CA().issue_cert("client.example")
    leaf.cert_chain_pems[0].write_to_path(str(tmp_path / "client.pem"))
    key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
    sealed = serialization.BestAvailableEncryption(b"canary-secret")
    written = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed)
    (tmp_path / "client.key").write_bytes(written)
    files = {"certfile": tmp_path / "client.pem", "keyfile": tmp_path / "client.key"}

    with pytest.raises(ValueError, match="is encrypted: give password"):
        connection(files)
    with pytest.raises(ValueError, match="the password is wrong") as refused:
        connection({**files, "password": "canary-not-it"})
    assert "canary" not in str(refused.value)
    for name in ("password", "ssl_password"):
        made = connection({**files, name: "canary-secret"})
        assert "canary-secret" not in repr(made) + repr(made._parameters) + repr(made._endpoints) + made.as_uri()


@pytest.mark.parametrize("url", ["amqp://broker.example", "amqps://broker.example", "pyamqp://broker.example"])
def test_tls_has_its_own_port_unless_one_is_given(url: str) -> None:
    """5671, as with kombu; `amqps://` needs no `ssl=`, and `ssl=False` doesn't take it away."""
    assert connection(True, url).port == 5671
    assert connection(True, f"{url}:5672").port == 5672
    secured = url.startswith("amqps")
    assert connection(False, url).port == (5671 if secured else 5672)
    assert (connection(False, url)._endpoints[0].tls is not None) is secured


def test_query_parameters_make_the_same_settings(certificates: Certificates) -> None:
    """`?ssl_ca_certs=...`: they hold for every URL of the list; with a context of one's own they contradict."""
    ca = str(certificates.ca)
    urls = f"amqps://a.example?ssl_ca_certs={ca}&ssl_check_hostname=false;amqp://b.example"
    first, second = connection(False, urls)._endpoints
    assert first.tls == second.tls == TLSSettings(ca_certs=ca, check_hostname=False)
    with pytest.raises(InvalidURL, match="contradict"):
        connection(ssl.create_default_context(), urls)
    with pytest.raises(InvalidURL, match="unknown query parameter 'ssl_cacerts'"):
        connection(False, "amqps://a.example?ssl_cacerts=/ca.pem")


def test_ssl_in_the_url_turns_tls_on(certificates: Certificates) -> None:
    """`?ssl=1`, as kombu's user guide has it: verified as with `ssl=True`; `?ssl=0` turns the argument off."""
    ca = str(certificates.ca)
    for text in ("1", "true", "YES"):
        made = connection(False, f"amqp://a.example?ssl={text}")
        assert (made.ssl, made.port, made._endpoints[0].tls) == (True, 5671, TLSSettings())
    assert connection({"ca_certs": ca}, "amqp://a.example?ssl=1").ssl == {"ca_certs": ca}
    assert connection(False, f"amqp://a.example?ssl=1&ssl_ca_certs={ca}").ssl == {"ca_certs": ca}
    assert connection(True, "amqp://a.example?ssl=0").ssl is False
    with pytest.raises(InvalidURL, match="neither yes nor no"):
        connection(False, "amqp://a.example?ssl=maybe")
    with pytest.raises(InvalidURL, match="contradicts"):
        connection(False, f"amqp://a.example?ssl=0&ssl_ca_certs={ca}")


def test_a_connection_with_the_dict_can_be_pickled(certificates: Certificates) -> None:
    """The other process reads the files; `spawn` needs it."""
    options = {"ca_certs": str(certificates.ca), "cert_reqs": ssl.CERT_REQUIRED}
    copy = pickle.loads(pickle.dumps(connection(options)))
    assert copy.ssl == options
    assert copy._endpoints == connection(options)._endpoints


def test_a_connection_with_a_context_says_why_it_cannot_be_pickled() -> None:
    """And what to give instead."""
    made = connection(ssl.create_default_context())
    with pytest.raises(TypeError, match=r"give ssl= the dict that names the files"):
        pickle.dumps(made)


def test_clones_and_pools_keep_tls_apart(certificates: Certificates) -> None:
    """`clone()` keeps the settings; connections with other settings don't share a pool."""
    ca = {"ca_certs": str(certificates.ca)}
    secured = connection(ca)
    assert secured.clone().ssl == ca
    keys = {connection(option).__eqhash__() for option in (False, True, ca, {**ca, "check_hostname": False})}
    assert len(keys) == 4
    assert secured.__eqhash__() == connection(dict(ca)).__eqhash__()
