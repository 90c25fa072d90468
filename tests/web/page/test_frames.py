"""What a browser lacks is what it is sent, and no more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kombu_actors.web.page.frames import Frame, Outbox, Piece, kept
from kombu_actors.web.page.markup import Html
from kombu_actors.web.page.streaming import BURST, RATE, Bucket

ROWS = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from("xyz"))
FRAMES = st.lists(ROWS.map(lambda rows: dict(sorted(rows.items()))), max_size=8)


def frame(rows: dict[str, str]) -> Frame:
    """One container's rows."""
    return {"queues": {id: Html(row) for id, row in rows.items()}}


class Browser:
    """What the page's script does with pieces."""

    def __init__(self, rows: dict[str, str]) -> None:
        self.rows = dict(rows)

    def apply(self, piece: Piece) -> None:
        """Take rows out, and put others where they belong."""
        for id in piece["gone"]:
            self.rows.pop(id, None)
        for _, id, after, row in piece["put"]:
            self.rows[id] = row
            order = [one for one in self.rows if one != id]
            order.insert(0 if after is None else order.index(after) + 1, id)
            self.rows = {one: self.rows[one] for one in order}


@given(FRAMES, st.integers(1, 4))
def test_pieces_make_of_each_frame_the_newest(frames: list[dict[str, str]], size: int) -> None:
    """Rows come, change, and go, in pieces of any size, also while older ones are still to be sent."""
    browser, outbox = Browser({}), Outbox({})
    for number, rows in enumerate(frames):
        outbox.offer(frame(rows))
        for _ in range(number % 3):
            if (piece := outbox.take(size)) is not None:
                browser.apply(piece)
    while (piece := outbox.take(size)) is not None:
        browser.apply(piece)
    assert list(browser.rows.items()) == (list(frames[-1].items()) if frames else [])


def test_only_what_differs_is_sent() -> None:
    """A thousand rows of which one changed are one row."""
    rows = {f"q{number}": "same" for number in range(1000)}
    outbox = Outbox(frame(rows))
    outbox.offer(frame({**rows, "q7": "other"}))
    piece = outbox.take(10_000)
    assert piece is not None
    assert (piece["put"], piece["gone"]) == ([("queues", "q7", "q6", "other")], [])
    assert outbox.take(10_000) is None


def test_what_changed_and_changed_back_is_not_sent() -> None:
    """It was late, and that is to the good."""
    outbox = Outbox(frame({"a": "x"}))
    outbox.offer(frame({"a": "y"}))
    outbox.offer(frame({"a": "x"}))
    assert outbox.empty


def test_what_has_waited_longest_goes_first() -> None:
    """So a thousand rows that change all the time take turns."""
    outbox = Outbox({})
    outbox.offer(frame({"a": "1", "b": "1", "c": "1"}))
    assert [row[1] for row in outbox.take(1)["put"]] == ["a"]  # type: ignore[index]  # there is a piece
    outbox.offer(frame({"a": "2", "b": "2", "c": "2"}))
    assert [row[1:] for row in outbox.take(3)["put"]] == [("b", "a", "2"), ("c", "b", "2"), ("a", None, "2")]  # type: ignore[index]


def test_equal_rows_are_remembered_once() -> None:
    """Twelve frames of a thousand rows are not twelve thousand strings."""
    first = frame({"a": "".join(["x"] * 100)})
    second = kept(frame({"a": "".join(["x"] * 100), "b": "y"}), first)
    assert second["queues"]["a"] is first["queues"]["a"]


def test_the_rate_is_never_exceeded() -> None:
    """A second's worth may come at once; from then on it is as fast as was said."""
    bucket, now, sent = Bucket(at=0.0), 0.0, 0.0
    while now < 60:
        now += bucket.spend(4000, now)
        sent += 4000
    assert sent <= BURST + 60 * RATE + 4000
    assert sent >= 59 * RATE
