"""Certificates for TLS tests: one that is right and one for each way of being wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import trustme


@attrs.frozen
class Credential:
    """A certificate chain and its key, as files."""

    certificate: Path
    key: Path


@attrs.frozen(kw_only=True)
class Certificates:
    """Everything a TLS test needs; all but ``stranger`` are signed by ``ca``."""

    ca: Path
    server: Credential
    """For localhost and 127.0.0.1."""
    wrong_host: Credential
    """For other.example only."""
    expired: Credential
    """For localhost and 127.0.0.1, until yesterday."""
    client: Credential
    stranger_ca: Path
    stranger: Credential
    """For localhost and 127.0.0.1, by an authority that nobody trusts."""


def make_certificates(directory: Path) -> Certificates:
    """Write one fresh set of certificates under a directory (0.1 s)."""
    directory.mkdir(parents=True, exist_ok=True)
    ca = trustme.CA(organization_name="kombu_actors tests")
    stranger = trustme.CA(organization_name="strangers")

    def written(name: str, leaf: trustme.LeafCert) -> Credential:
        credential = Credential(directory / f"{name}.pem", directory / f"{name}.key")
        for index, blob in enumerate(leaf.cert_chain_pems):
            blob.write_to_path(str(credential.certificate), append=index > 0)
        leaf.private_key_pem.write_to_path(str(credential.key))
        credential.key.chmod(0o600)
        return credential

    ca.cert_pem.write_to_path(str(directory / "ca.pem"))
    stranger.cert_pem.write_to_path(str(directory / "stranger-ca.pem"))
    local = ("localhost", "127.0.0.1")
    yesterday = datetime.now(UTC) - timedelta(days=1)
    last_week = yesterday - timedelta(days=7)
    return Certificates(
        ca=directory / "ca.pem",
        server=written("server", ca.issue_cert(*local)),
        wrong_host=written("wrong-host", ca.issue_cert("other.example")),
        expired=written("expired", ca.issue_cert(*local, not_before=last_week, not_after=yesterday)),
        client=written("client", ca.issue_cert("client@tests.example", common_name="guest")),
        stranger_ca=directory / "stranger-ca.pem",
        stranger=written("stranger", stranger.issue_cert(*local)),
    )
