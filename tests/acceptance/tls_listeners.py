"""One RabbitMQ node with as many TLS listeners as there are ways to be right or wrong."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trustme

from tests.support.brokers import RabbitMQNode, free_port
from tests.support.certs import Credential

LOCAL = ("localhost", "127.0.0.1")
EXTERNAL_CONF = (
    "auth_mechanisms.1 = PLAIN",
    "auth_mechanisms.2 = EXTERNAL",
    "ssl_cert_login_from = common_name",
    "ssl_options.verify = verify_peer",  # without, the plugin calls the node unsafe and lets nobody in
)


class Authority:
    """A certificate authority that issues what a test needs, as files."""

    def __init__(self, directory: Path, name: str) -> None:
        self._ca = trustme.CA(organization_name=name)
        self._directory = directory
        self.certificate = directory / f"{name}.pem"
        self._ca.cert_pem.write_to_path(str(self.certificate))
        key = directory / f"{name}.key"
        self._ca.private_key_pem.write_to_path(str(key))
        self.itself = Credential(self.certificate, key)

    def issue(self, name: str, *identities: str, common_name: str | None = None, expired: bool = False) -> Credential:
        """A certificate and its key for host names or addresses, written to ``name``.pem and ``name``.key."""
        days: dict[str, Any] = {}
        if expired:
            yesterday = datetime.now(UTC) - timedelta(days=1)
            days = {"not_before": yesterday - timedelta(days=7), "not_after": yesterday}
        leaf = self._ca.issue_cert(*identities, common_name=common_name, **days)
        credential = Credential(self._directory / f"{name}.pem", self._directory / f"{name}.key")
        for index, blob in enumerate(leaf.cert_chain_pems):
            blob.write_to_path(str(credential.certificate), append=index > 0)
        leaf.private_key_pem.write_to_path(str(credential.key))
        return credential


class Listeners:
    """TLS listeners of one node, each with a certificate of its own."""

    def __init__(self, node: RabbitMQNode, authority: Authority) -> None:
        self.node = node
        self._authority = authority

    def open(self, shown: Credential, *, client_certificate: bool = False, versions: Sequence[str] = ()) -> int:
        """Listen on another port; returns it.  ``versions`` are Erlang's, e.g. ``tlsv1.1``."""
        port = free_port()
        options = [
            f'{{cacertfile, "{self._authority.certificate}"}}',
            f'{{certfile, "{shown.certificate}"}}',
            f'{{keyfile, "{shown.key}"}}',
            f"{{verify, {'verify_peer' if client_certificate else 'verify_none'}}}",
            f"{{fail_if_no_peer_cert, {str(client_certificate).lower()}}}",
        ]
        if versions:
            options.append(f"{{versions, [{', '.join(repr(version) for version in versions)}]}}")
        self.node.eval(f'rabbit_networking:start_ssl_listener({{"127.0.0.1", {port}}}, [{", ".join(options)}], 1)')
        return port

    def sessions(self, vhost: str) -> list[dict[str, Any]]:
        """Per connection of a virtual host, as the broker sees it: user, ssl, protocol, mechanism."""
        rows: list[dict[str, Any]] = self.node.door.query(
            "[#{user => proplists:get_value(user, Row), vhost => proplists:get_value(vhost, Row),"
            " ssl => proplists:get_value(ssl, Row), protocol => proplists:get_value(ssl_protocol, Row),"
            " mechanism => proplists:get_value(auth_mechanism, Row)}"
            " || Row <- rabbit_networking:connection_info_all([user, vhost, ssl, ssl_protocol, auth_mechanism])]"
        )
        return [row for row in rows if row.pop("vhost") == vhost]
