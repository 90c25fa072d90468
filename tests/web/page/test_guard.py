"""Who may look, and who may act."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from kombu_actors.web.page.guard import Token, host_refusal, origin_refusal, token_at

TOKEN = "correct horse battery"


@pytest.mark.parametrize("host", ["localhost", "localhost:80", "127.0.0.1:9", "[::1]:9", "a.localhost", "10.1.2.3"])
def test_addresses_and_this_machine_are_known(host: str) -> None:
    """Nobody else can make a browser say these for a page of theirs."""
    assert host_refusal(host, ()) is None


@pytest.mark.parametrize("host", [None, "", ":80", "[::1", "evil.example", "evil.example:80", "localhost.evil.example"])
def test_a_strangers_name_is_refused(host: str | None) -> None:
    """A site whose name has been made to point here is what the browser says it is."""
    assert host_refusal(host, ()) is not None


def test_a_name_can_be_allowed() -> None:
    """As that of a proxy; case and a last dot don't matter."""
    assert host_refusal("Fleet.Example.:80", ["fleet.example"]) is None
    refused = host_refusal("fleet.example", ())
    assert refused is not None
    assert "--allow-host" in refused


def test_only_the_pages_own_origin_may_act() -> None:
    """A program says none; a browser always does."""
    own = {"host": "localhost:80"}
    assert origin_refusal(own) is None
    assert origin_refusal({**own, "origin": "http://localhost:80", "sec-fetch-site": "same-origin"}) is None
    for origin in ("http://evil.example", "null", "http://localhost:81", "", "localhost:80"):
        assert origin_refusal({**own, "origin": origin}) is not None, origin
    assert origin_refusal({**own, "sec-fetch-site": "cross-site"}) is not None


def test_a_token_is_shown_to_nobody() -> None:
    """Not by its repr, nor by what is said of a wrong one."""
    token = Token(TOKEN)
    assert TOKEN not in repr(token)
    assert token.refusal(f"Bearer {TOKEN}") is None
    for wrong in (None, "", TOKEN, f"Basic {TOKEN}", "Bearer", f"Bearer {TOKEN}x", "Bearer \u00e9"):
        refused = token.refusal(wrong)
        assert refused is not None, wrong
        assert TOKEN not in refused


@pytest.mark.parametrize("value", ["", "short", "with\x00control characters", "not asci\u00ed, but long enough"])
def test_a_token_that_can_be_guessed_or_not_be_sent_is_none(value: str) -> None:
    """It would be a promise that can't be kept."""
    with pytest.raises(ValueError, match="at least 16 printable ASCII"):
        Token(value)


def test_a_token_is_made_once(tmp_path: Path) -> None:
    """For its owner alone, and the next start takes the same."""
    path = tmp_path / "token"
    token, made = token_at(path)
    assert made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again, made = token_at(path)
    assert (again, made) == (token, False)
    assert token.refusal(f"Bearer {path.read_text().strip()}") is None


def test_a_token_that_others_may_read_is_refused(tmp_path: Path) -> None:
    """And so is a file that holds none; each says what to do."""
    path = tmp_path / "token"
    path.write_text(TOKEN)
    path.chmod(0o644)
    with pytest.raises(ValueError, match="chmod 600"):
        token_at(path)
    path.chmod(0o600)
    path.write_text("x")
    with pytest.raises(ValueError, match="remove it"):
        token_at(path)
