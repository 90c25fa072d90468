"""What the tool knows is what the documents say and what stock kombu has."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import kombu
import pytest

from kombu_actors.migrate.differences import differences
from kombu_actors.migrate.judging import TRIGGER
from kombu_actors.migrate.meets import COMMON, MEETS
from kombu_actors.migrate.missing import MEMBERS, MODULES, missing_reason
from tests.behaviour.libraries import DIFFERS
from tests.docs.migration_table import missing_names


def test_every_row_of_the_page_is_known_and_no_other() -> None:
    """A new row says what meets it."""
    assert set(MEETS) == set(differences())
    assert {key for key, row in differences().items() if row.kombu} == DIFFERS
    assert all(row.ours and row.why for row in differences().values())


@pytest.mark.parametrize("trigger", sorted({one for texts in MEETS.values() for one in texts if "://" not in one}))
def test_what_meets_a_row_is_kombus(trigger: str) -> None:
    """Stock kombu has the name, and takes the keyword."""
    parts = TRIGGER.match(trigger)
    assert parts
    thing: Any = kombu
    for name in parts["name"].split("."):
        owner = thing
        if not hasattr(thing, name) and inspect.ismodule(thing):
            importlib.import_module(f"{thing.__name__}.{name}")
        if not hasattr(thing, name):
            assert inspect.isclass(owner)
            assert f"self.{name}" in inspect.getsource(owner), "an attribute of its objects"
            return
        thing = getattr(thing, name)
    if parts["keyword"] and parts["keyword"] != "**":
        accepted = inspect.signature(thing).parameters
        assert parts["keyword"] in accepted or any(one.kind is one.VAR_KEYWORD for one in accepted.values())


def test_names_that_others_have_too_are_members_that_meet_rows() -> None:
    """The list of common names holds nothing that nobody asks for."""
    members = {text.partition("(")[0].rpartition(".")[2] for texts in MEETS.values() for text in texts}
    assert members >= COMMON


def test_every_public_name_that_is_missing_has_its_reason() -> None:
    """And what has a reason is missing, and kombu's."""
    missing = missing_names()
    assert {name for name in missing if not missing_reason(name)} == set()
    tails = {".".join(name.split(".")[-2:]) for name in missing}
    assert {member for member in MEMBERS if member not in tails} == set()
    modules = {one for one in MODULES if not one.startswith("transport")}  # of those parts are here
    assert {one for one in modules if not any(f"{name}.".startswith(f"kombu.{one}.") for name in missing)} == set()
