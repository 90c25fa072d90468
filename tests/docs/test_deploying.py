"""The files that docs/deploying.md shows can be used: they parse, and name what there is."""

from __future__ import annotations

import configparser
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from kombu_actors.cli.verbs import program
from kombu_actors.fleet import Fleet
from kombu_actors.fleet.depths import DelayDepth, FleetDepths, QueueDepth
from kombu_actors.fleet.program import SingleProcess
from kombu_actors.web.metrics import metrics

DOCS = Path(__file__).resolve().parents[2] / "docs"
DEPLOYING = (DOCS / "deploying.md").read_text()


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", DEPLOYING, re.M | re.S)


def flags_of(command: list[str]) -> set[str]:
    return {word for word in command if word.startswith("--")}


@pytest.fixture(scope="module")
def known() -> set[str]:
    """The flags of ``kombu-actors run``."""
    return set(re.findall(r"--[a-z-]+", CliRunner().invoke(program, ["run", "--help"]).output))


def test_the_unit_is_one(known: set[str]) -> None:
    """systemd's format, with a command that there is, and times that fit: it is not killed while it drains."""
    (text,) = blocks("ini")
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[method-assign,assignment]  # as configparser's documentation has it
    unit.read_string(text)
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert int(service["TimeoutStopSec"]) >= 25 + 5 + 4
    command = shlex.split(service["ExecStart"])
    assert command[1:3] == ["run", "shop:fleet"]
    assert flags_of(command) <= known


def test_the_manifest_is_one(known: set[str]) -> None:
    """YAML with probes of paths that are served, and a grace that fits."""
    manifest: dict[str, Any] = yaml.safe_load(blocks("yaml")[0])
    pod = manifest["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["terminationGracePeriodSeconds"] >= 25 + 5 + 4
    assert flags_of(container["command"]) <= known
    probes = {name: probe["httpGet"]["path"] for name, probe in container.items() if name.endswith("Probe")}
    assert probes == {"startupProbe": "/livez", "readinessProbe": "/readyz", "livenessProbe": "/livez"}
    assert manifest["spec"]["selector"]["matchLabels"] == manifest["spec"]["template"]["metadata"]["labels"]


def test_the_probe_that_runs_a_command_is_the_one_that_is_tested() -> None:
    """``tests/hosting/test_healthfile.py`` runs it."""
    probe = yaml.safe_load(blocks("yaml")[1])["readinessProbe"]["exec"]["command"]
    assert probe == ["sh", "-c", PROBE.format(file="/tmp/ready")]


PROBE = "test $(( $(date +%s) - $(stat -c %Y {file}) )) -lt 15"


def families() -> set[str]:
    """Names of metrics without their prefix."""
    fleet = Fleet("memory://docs", name="docs")
    queue = QueueDepth(queue="q", ready=1, consumers=1, dead_letter="q.dead", dead=0, delays=(1.0,))
    depths = FleetDepths(queues=(queue,), delays=(DelayDepth(seconds=1.0, waiting=0),))
    return {family.name for family in metrics(SingleProcess(fleet).status(), depths)}


def test_alerts_are_about_metrics_that_there_are() -> None:
    """A rule with a name that is nobody's never fires."""
    rules = yaml.safe_load(blocks("yaml")[2])["groups"][0]["rules"]
    named = {name for rule in rules for name in re.findall(r"kombu_actors_(\w+)", rule["expr"])}
    assert named
    assert named <= families()


def test_every_metric_is_in_the_table_and_no_other() -> None:
    """docs/observing.md lists what is served."""
    text = (DOCS / "observing.md").read_text()
    table = text[text.index("| name | labels | |") : text.index("While the broker is away its figures")]
    first = [line.split("|")[1] for line in table.splitlines()[2:] if line.startswith("|")]
    assert {name for cell in first for name in re.findall(r"`(\w+)`", cell)} == families()
