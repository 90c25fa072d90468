"""Lanes: per key in order, one at a time, and no lane waits for another.  Pure, so by random programs."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from kombu_actors.fleet._lanes import Lanes

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 3)),
        st.tuples(st.just("take"), st.just(0)),
        st.tuples(st.just("done"), st.integers(0, 3)),
        st.tuples(st.just("hold"), st.integers(0, 3)),
        st.tuples(st.just("release"), st.integers(0, 9)),
        st.tuples(st.just("clear"), st.just(0)),
    ),
    max_size=60,
)


@given(STEPS)
def test_lanes_keep_their_promises(steps: list[tuple[str, int]]) -> None:
    """A book beside it: order, one of a key at work, a lane that may be taken is taken, nothing is lost or doubled."""
    lanes = Lanes[int]()
    waiting, at_work, held = defaultdict[int, list[int]](list), dict[int, int](), dict[int, float]()
    now, numbers = 0.0, iter(range(1000))
    for step, value in steps:
        match step:
            case "add":
                number = next(numbers)
                lanes.add(value, number)
                waiting[value].append(number)
            case "take":
                free = {key for key, items in waiting.items() if items and key not in at_work and key not in held}
                taken = lanes.take()
                assert (taken is None) == (not free)
                if taken is not None:
                    key, item = taken
                    assert key in free
                    assert waiting[int(str(key))].pop(0) == item
                    at_work[int(str(key))] = item
            case "done" if value in at_work:
                lanes.done(value)
                del at_work[value]
            case "hold" if value in at_work:
                lanes.hold(value, at_work[value], now + 3)
                waiting[value].insert(0, at_work.pop(value))
                held[value] = now + 3
            case "release":
                now += value
                due = {key for key, until in held.items() if until <= now}
                assert lanes.next_release == min(held.values(), default=None)
                assert lanes.release(now) == len(due)
                held = {key: until for key, until in held.items() if key not in due}
            case "clear":
                assert sorted(lanes.clear()) == sorted(item for items in waiting.values() for item in items)
                waiting.clear()
                held.clear()
        assert len(lanes) == sum(map(len, waiting.values()))
        views = {view.key: view for view in lanes.view()}
        assert {key: view.waiting for key, view in views.items()} == {
            key: len(items) - (key in held) for key, items in waiting.items() if items
        }
        assert {key: view.held_until for key, view in views.items() if view.held_until is not None} == held
