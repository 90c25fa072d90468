"""The scripts as files: loaded whole, and named by their digest."""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files

import pytest

from kombu_actors.protocols.redis.scripts import ALL_SCRIPTS, PARTS, Script

from .driver import Client

LUA = files("kombu_actors.protocols.redis").joinpath("lua")
SOURCES = {
    path.name.removesuffix(".lua"): path.read_text("utf-8") for path in LUA.iterdir() if path.name.endswith(".lua")
}


def test_every_file_is_a_script_or_a_part() -> None:
    """And every part is used by a script."""
    assert set(SOURCES) == set(ALL_SCRIPTS) | set(PARTS)
    for part in PARTS:
        assert any(SOURCES[part] in script.text for script in ALL_SCRIPTS.values())


@pytest.mark.parametrize("name", sorted(ALL_SCRIPTS))
def test_the_server_takes_each_script(client: Client, name: str) -> None:
    """It compiles, and the server knows it by the digest we call it by."""
    script = ALL_SCRIPTS[name]
    assert client.script_load(script.text) == script.sha1
    assert script.sha1 == hashlib.sha1(script.text.encode()).hexdigest()


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_scripts_build_no_code(name: str) -> None:
    """No ``loadstring``, no random, and loops only over what is there, or while something shrinks."""
    assert not re.search(r"\b(loadstring|load|dofile|setfenv|math\.random)\b", SOURCES[name])
    assert len(SOURCES[name].splitlines()) <= 350


@pytest.mark.parametrize("name", sorted(set(ALL_SCRIPTS)))
def test_scripts_say_how_they_are_called(name: str) -> None:
    """The first comment is the call: its arguments, and what comes back."""
    lines = SOURCES[name].splitlines()
    assert lines[1 if lines[0].startswith("-- needs:") else 0].startswith(f"-- {name}")


def test_scripts_are_short_to_show() -> None:
    """A traceback with a script in it shows its name and digest, not pages of Lua."""
    script = Script("noop", "return 1")
    assert "return" not in repr(script)
