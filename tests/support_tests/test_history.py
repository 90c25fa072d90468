"""The checker of message histories finds what it exists to find."""

from __future__ import annotations

import pytest

from tests.support.history import History


def history(attempted: str, confirmed: str, received: str) -> History:
    ledger = History()
    for message in attempted:
        ledger.attempt(message)
    for message in confirmed:
        ledger.confirm(message)
    for message in received:
        ledger.receive(message)
        ledger.handle(message)
    return ledger


def test_a_clean_history_passes() -> None:
    """Everything confirmed was received, in order, once; an unconfirmed one may be there too."""
    ledger = history("abcd", "abc", "abcd")
    report = ledger.report()
    report.check(duplicates=0, in_order=True)
    assert report.recovered == ("d",)
    assert ledger.missing() == frozenset()


def test_a_lost_message_fails_by_name() -> None:
    """Confirmed and never received is the failure that matters most."""
    ledger = history("abc", "ab", "a")
    assert ledger.missing() == {"b"}
    with pytest.raises(AssertionError, match="1 confirmed and lost: 'b'"):
        ledger.report().check()


def test_a_message_that_was_never_sent_fails() -> None:
    """A stranger's message is no less wrong than a missing one."""
    with pytest.raises(AssertionError, match="1 received and never sent: 'x'"):
        history("a", "a", "ax").report().check()


def test_duplicates_are_counted_and_bounded() -> None:
    """At least once allows duplicates; a test says how many."""
    report = history("ab", "ab", "abbba").report()
    assert report.duplicates == {"a": 1, "b": 2}
    report.check()
    report.check(duplicates=3)
    with pytest.raises(AssertionError, match="3 duplicates, allowed 2"):
        report.check(duplicates=2)


def test_order_is_that_of_first_receipts() -> None:
    """A late duplicate disturbs nothing; a first receipt out of turn does."""
    history("abc", "abc", "abcab").report().check(in_order=True)
    with pytest.raises(AssertionError, match=r"1 out of order: \('c', 'b'\)"):
        history("abc", "abc", "acb").report().check(in_order=True)


def test_an_id_is_attempted_once() -> None:
    """Two messages with one id would hide each other's loss."""
    with pytest.raises(ValueError, match="unique"):
        history("aa", "", "")
