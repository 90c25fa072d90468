"""``doctor``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import KombuError
from .exits import DRAINED, FAILED
from .options import option

if TYPE_CHECKING:
    from ..doctor.findings import PlacedFinding

__all__ = ["doctor"]

_MARKS = {"ok": "ok", "warning": "warn", "failed": "FAIL", "skipped": "-"}
_file = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("url", envvar="KOMBU_ACTORS_URL")
@option("--ca-certs", type=_file, help="The authorities to trust; without it, the system's.")
@option("--certfile", type=_file, help="A TLS client certificate.")
@option("--keyfile", type=_file, help="Its key.")
@option("--server-hostname", metavar="NAME", help="The name that the broker's certificate has to be for.")
@option("--master-name", metavar="NAME", help="Of a sentinel:// URL: what the Sentinels call the group.")
@option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="Seconds for each step.",
)
@option("-j", "--json", "as_json", is_flag=True, help="What is found as JSON.")
def doctor(
    url: str, server_hostname: str | None, master_name: str | None, timeout: float, as_json: bool, **files: Path | None
) -> None:
    """Find out why the broker at URL can't be used, and what to do about it.

    One after the other: the name, the port, TLS, the protocol, user and password, the virtual host or database, the
    server's version, its clock and limits, permissions, and the open files of this machine.  It stops at the first that
    fails.  To try permissions it declares a queue of its own, sends a message to itself, and deletes the queue.

    URL may be given as the environment variable KOMBU_ACTORS_URL, where other users of this machine don't see it.
    Exit code 0: it can be used; 1: something failed.
    """
    import trio  # the runtime: only for who asks

    if url.startswith("sentinel") and master_name is None:
        raise click.UsageError("a sentinel:// URL needs --master-name: what the Sentinels call the group")
    tls = {name: str(path) for name, path in files.items() if path is not None}
    if server_hostname is not None:
        tls["server_hostname"] = server_hostname
    options = {} if master_name is None else {"master_name": master_name}
    try:
        found = trio.run(_examined, url, tls or False, options, timeout)
    except (KombuError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    click.echo(json.dumps(found, ensure_ascii=False, indent=2) if as_json else text_of(found))
    sys.exit(FAILED if any(one["verdict"] == "failed" for one in found) else DRAINED)


async def _examined(
    url: str, tls: bool | Mapping[str, object], options: Mapping[str, object], timeout: float
) -> list[PlacedFinding]:
    from ..doctor import examine

    async with aclosing(examine(url, tls=tls, transport_options=options, timeout=timeout)) as findings:
        return [{"where": where, **finding.to_dict()} async for where, finding in findings]


def text_of(found: Sequence[PlacedFinding]) -> str:
    """What was found, for people: those that were not tried in a line."""
    lines = []
    for where, findings in groupby(found, key=lambda one: one["where"]):
        lines.append(where)
        tried: list[PlacedFinding] = []
        left: list[str] = []
        for one in findings:
            if one["verdict"] == "skipped":
                left.append(one["check"])
            else:
                tried.append(one)
        for one in tried:
            lines.append(f"  {_MARKS[one['verdict']]:4}  {one['check']}: {one['text']}")
            if one["advice"] is not None:
                lines.append(f"        do: {one['advice']}")
        if left:
            lines.append(f"  {_MARKS['skipped']:4}  not tried: {', '.join(left)}")
    return "\n".join(lines)
