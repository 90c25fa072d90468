"""Whatever comes from outside stays text, and can be seen."""

from __future__ import annotations

import pytest

from kombu_actors.web.page.markup import cut, h, id_of, joined, text


def test_text_can_be_no_markup() -> None:
    """Neither in an element nor in an attribute, whichever quotes stand around that."""
    evil = "<script>alert('1')</script>\" onload='x"
    made = h("b", evil, title=evil)
    assert made.count("<") == 2
    assert "<script" not in made
    assert made.count('"') == 2
    assert "'" not in made


def test_markup_is_not_escaped_twice() -> None:
    """What ``h`` made goes into another element as it is."""
    assert h("p", h("b", "a & b"), " and ", joined(["x", None, h("i")], ", ")) == (
        "<p><b>a &amp; b</b> and x, <i></i></p>"
    )


@pytest.mark.parametrize("hidden", ["\x00", "\x1b", "\u202e", "\u2066", "\u200f", "\ud800"])
def test_what_is_unseen_is_shown(hidden: str) -> None:
    """Control characters, those that turn text around, and halves of characters, which UTF-8 can't hold."""
    made = text(f"a{hidden}b")
    assert made == f"a\\u{ord(hidden):04x}b"
    made.encode()


def test_attributes() -> None:
    """None and False are left out, True is bare, names are HTML's."""
    assert h("input", type="text", required=True, disabled=False, id=None, aria_label="a", for_="b") == (
        '<input type="text" required aria-label="a" for="b">'
    )


def test_ids_have_no_whitespace() -> None:
    """An id with a blank would be two for an attribute that names several."""
    assert " " not in id_of("queue", "a b\n<c>", "\ud800")
    assert id_of("queue", "a b") != id_of("queue", "a-b")


def test_long_texts_end_with_an_ellipsis() -> None:
    """And are not longer than was said."""
    assert cut("abcdef", 6) == "abcdef"
    assert cut("abcdefg", 6) == "abcde\u2026"
