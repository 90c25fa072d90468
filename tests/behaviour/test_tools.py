"""kombu's smaller modules: clocks, matchers, logs, and what is under ``utils``."""

from __future__ import annotations

import copy
import io
import logging
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import permutations
from typing import Any

import pytest

from .libraries import Library


@pytest.fixture(params=["kombu", "kombu_actors"])
def lib(request: pytest.FixtureRequest) -> Library:
    """The library under test; nothing here opens a socket that would have to be collected."""
    return Library(request.param)


def outcome(call: Any, *args: Any, **kwargs: Any) -> Any:
    """What a call gives, or the kind of what it raises."""
    try:
        return call(*args, **kwargs)
    except Exception as error:
        return type(error).__name__


# Clocks and matchers


def test_a_lamport_clock_goes_past_what_it_hears_of(lib: Library) -> None:
    """Each event is one more; a message puts the clock past its sender's."""
    clock = lib.module("clocks").LamportClock()
    assert [clock.value, clock.forward(), clock.adjust(7), clock.adjust(3), clock.forward()] == [0, 1, 8, 9, 10]
    assert (str(clock), repr(clock)) == ("10", "<LamportClock: 10>")
    assert clock.sort_heap([(1, "b"), (2, "a")]) == (1, "b")
    assert clock.sort_heap([(1, "b"), (1, "a"), (1, "c"), (2, "a")]) == (1, "a")


def test_events_sort_by_logical_clock_first(lib: Library) -> None:
    """Then by id; by wall clock where one of the two has no logical clock."""
    timetuple = lib.module("clocks").timetuple
    early, late, other = timetuple(1, 9.0, "a"), timetuple(2, 1.0, "a", "x"), timetuple(1, 5.0, "b")
    without = timetuple(None, 3.0, "z")
    assert [early < late, late > early, early < other, other >= early, early <= late] == [True] * 5
    assert [late < without, without < early, late < early] == [True, True, False]
    assert (late.clock, late.timestamp, late.id, late.obj) == (2, 1.0, "a", "x")
    assert repr(late) == "_lamport(clock=2, timestamp=1.0, id=a 'x')"
    again = pickle.loads(pickle.dumps(late))
    assert (type(again), tuple(again)) == (timetuple, tuple(late))


def test_all_orders_of_events_are_those_of_the_other(lib: Library) -> None:
    """Compared pairwise with what kombu 5.7 says."""
    theirs = Library("kombu").module("clocks").timetuple
    mine = lib.module("clocks").timetuple
    events = [(1, 2.0, "a"), (1, 3.0, "a"), (1, 2.0, "b"), (0, 1.0, "z"), (None, 9.0, "a"), (3, 0.5, "q")]
    for one, two in permutations(events, 2):
        for compare in ("__lt__", "__gt__", "__le__", "__ge__"):
            expected = getattr(theirs(*one), compare)(theirs(*two))
            assert getattr(mine(*one), compare)(mine(*two)) == expected, (one, two, compare)


def test_names_match_patterns(lib: Library) -> None:
    """By the shell's rules, by regular expressions, or by a matcher of one's own."""
    matcher = lib.module("matcher")
    assert matcher.match("foo.bar", "foo.*")
    assert not matcher.match("foo.bar", "bar*")
    assert matcher.match(b"foo", b"f*")
    assert matcher.match("foo", ".*o$", "pcre")
    assert not matcher.match("foo", "o", "pcre")
    matcher.register("equal", lambda data, pattern, fold: data.lower() == pattern if fold else data == pattern)
    assert matcher.match("FOO", "foo", "equal", {"fold": True})
    matcher.unregister("equal")
    with pytest.raises(matcher.MatcherNotInstalled):
        matcher.match("a", "a", "equal")
    with pytest.raises(matcher.MatcherNotInstalled):
        matcher.unregister("equal")


# Logs


@pytest.fixture
def logged(lib: Library) -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """A logger that shows what it is given."""
    logger = logging.getLogger(f"tools.{lib}")
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield logger, text
    logger.removeHandler(handler)


def test_loggers_are_silent_until_logging_is_configured(lib: Library) -> None:
    """They have a handler that does nothing."""
    log = lib.module("log")
    logger = log.get_logger(f"silent.{lib}")
    assert [type(handler) for handler in logger.handlers] == [logging.NullHandler]
    assert log.get_logger(logger) is logger
    assert (log.get_loglevel("INFO"), log.get_loglevel(13), log.LOG_LEVELS[30]) == (20, 13, "WARNING")
    assert outcome(log.get_loglevel, "LOUD") == "KeyError"


def test_a_class_logs_behind_its_name(lib: Library, logged: tuple[logging.Logger, io.StringIO]) -> None:
    """Formats, lazy arguments, several texts, and the traceback with an error."""
    logger, text = logged
    log = lib.module("log").Log("mine", logger)
    log.info("hi %s %r", "a", lib.module("utils.functional").lazy(lambda: "b"))
    log.warn("100% sure")
    try:
        raise ValueError("broken")
    except ValueError:
        log.error("it %s", "failed")  # noqa: TRY400  # kombu's have no other
    lines = text.getvalue().splitlines()
    assert lines[:3] == ["mine - hi a 'b'", "mine - 100% sure", "mine - it failed"]
    assert lines[-1] == "ValueError: broken"
    assert (log.logger_name, log.annotate("x"), log.is_enabled_for("DEBUG")) == ("mine", "mine - x", True)


def test_calls_can_be_logged(lib: Library, logged: tuple[logging.Logger, io.StringIO]) -> None:
    """``Logwrapped`` tells of each, and else is the object."""
    logger, text = logged
    wrapped = lib.module("utils.debug").Logwrapped([3], logger, "list.")
    wrapped.append(4)
    assert (repr(wrapped), text.getvalue()) == ("[3, 4]", "list.append(4)\n")
    assert "append" in dir(wrapped)


def test_debugging_shows_named_loggers(lib: Library) -> None:
    """With a handler for the standard error."""
    logger = logging.getLogger(f"shown.{lib}")
    lib.module("utils.debug").setup_logging(logging.INFO, [logger.name])
    assert logger.level == logging.INFO
    assert any(isinstance(handler, logging.StreamHandler) for handler in logger.handlers)


# Objects and imports


def test_cached_properties_are_worked_out_once(lib: Library) -> None:
    """Until they are deleted; what is assigned stays, and both can be heard of."""
    cached_property = lib.module("utils.objects").cached_property
    heard: list[Any] = []

    class Thing:
        count = 0

        @cached_property  # type: ignore[untyped-decorator]  # both libraries' by name
        def plain(self) -> int:
            """How often."""
            self.count += 1
            return self.count

        told = (
            cached_property(lambda self: 1)
            .setter(lambda self, value: value * 2)
            .deleter(lambda self, value: heard.append(value))
        )

    thing: Any = Thing()
    assert [thing.plain, thing.plain, vars(thing)["plain"]] == [1, 1, 1]
    del thing.plain
    assert thing.plain == 2
    thing.plain = 9
    assert thing.plain == 9
    del thing.plain
    del thing.plain  # nothing to forget is no mistake
    thing.told = 4
    assert thing.told == 8
    del thing.told
    assert (thing.told, heard) == (1, [8])
    assert isinstance(vars(Thing)["plain"], cached_property)
    assert vars(Thing)["plain"].__doc__ == "How often."
    plain = vars(Thing)["plain"]
    assert [plain.__get__(None), plain.__set__(None, 1), plain.__delete__(None)] == [plain] * 3  # no object's: its own
    assert lib.module("utils").cached_property is cached_property


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("os.path.join", {}),
        ("os.path:join", {}),
        ("os", {}),
        ("short", {"aliases": {"short": "os.path:join"}}),
        (os.path, {}),
        ("no_such.thing", {}),
        ("os.nothing", {}),
        ("os:nothing", {"default": 3}),
        ("no_such.thing", {"default": 3}),
        ("", {}),
        (":path", {"package": "os"}),
        (".path:join", {"package": "os", "imp": lambda name, package, **kwargs: os.path}),
    ],
)
def test_symbols_by_name(lib: Library, name: Any, options: dict[str, Any]) -> None:
    """Modules and what is in them, aliases, defaults, mistakes: as kombu finds them."""
    from kombu.utils.imports import symbol_by_name

    found = outcome(lib.module("utils.imports").symbol_by_name, name, **options)
    assert found == outcome(symbol_by_name, name, **options)


def test_files_have_descriptors(lib: Library) -> None:
    """Numbers are their own; what has none is None where that is asked for."""
    compat = lib.module("utils.compat")
    with open(os.devnull) as file:
        assert compat.fileno(file) == compat.maybe_fileno(file) == file.fileno()
    assert (compat.maybe_fileno(7), compat.maybe_fileno("x"), compat.maybe_fileno(io.StringIO())) == (7, None, None)
    assert outcome(compat.fileno, "x") == "AttributeError"
    assert compat.detect_environment() == "default"
    assert compat.get_gevent_concurrent_error() is None


def test_context_managers_are_nested(lib: Library) -> None:
    """Left in reverse."""
    order: list[Any] = []

    @contextmanager
    def each(name: int) -> Iterator[int]:
        yield name
        order.append(name)

    with lib.module("utils.compat").nested(each(1), each(2)) as both:
        assert both == [1, 2]
    assert order == [2, 1]


def test_a_forked_child_is_told(lib: Library) -> None:
    """By Celery's pool of processes, which is billiard's."""

    class Owner:
        state = "parent"

    owner = Owner()
    lib.module("utils.compat").register_after_fork(owner, lambda one: setattr(one, "state", "child"))
    context = import_module("billiard").get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=lambda: queue.put(owner.state))
    child.start()
    assert (queue.get(), owner.state) == ("child", "parent")
    child.join(10)


# Collections, texts, numbers


def test_an_equality_dict_goes_by_what_keys_stand_for(lib: Library) -> None:
    """``__eqhash__`` says what that is; everything else stands for itself."""
    collections = lib.module("utils.collections")

    class Key:
        def __init__(self, value: int) -> None:
            self.value = value

        def __eqhash__(self) -> int:
            return self.value

    found = collections.EqualityDict()
    found[Key(1)] = "one"
    found["text"] = "two"
    assert (found[Key(1)], found["text"]) == ("one", "two")
    del found[Key(1)]
    assert len(found) == 1
    assert collections.eqhash(Key(2)) == 2
    assert hash(collections.HashedSeq(1, 2)) == hash((1, 2))


def test_an_lru_cache_forgets_what_was_not_used(lib: Library) -> None:
    """Of more than fit those that were looked up or added last stay."""
    LRUCache = lib.module("utils.functional").LRUCache
    cache = LRUCache(limit=3)
    for number in range(5):
        cache[number] = number
    assert list(cache) == [2, 3, 4]
    assert cache[2] == 2
    assert list(cache.keys()) == [3, 4, 2]
    cache.update({7: 7, 8: 8})
    assert [list(cache.items()), list(cache.values())] == [[(2, 2), (7, 7), (8, 8)], [2, 7, 8]]
    assert (cache.popitem(), cache.popitem(last=False), list(cache)) == ((8, 8), (2, 2), [7])
    cache["count"] = "5"
    assert (cache.incr("count"), cache["count"], cache.get("x", 3), "count" in cache) == (6, "6", 3, True)
    again = pickle.loads(pickle.dumps(cache))
    assert (list(again), again.limit) == ([7, "count"], 3)
    cache.clear()
    assert (len(cache), outcome(lambda: cache["count"])) == (0, "KeyError")


def test_results_are_remembered(lib: Library) -> None:
    """By arguments, or by a key of one's own; until cleared."""
    memoize = lib.module("utils.functional").memoize
    calls: list[Any] = []

    @memoize(maxsize=2)  # type: ignore[untyped-decorator]  # both libraries' by name
    def double(x: int, by: int = 2) -> int:
        calls.append(x)
        return x * by

    assert [double(1), double(1), double(1, by=2)] == [2, 2, 2]
    assert (calls, double.hits, double.misses) == ([1, 1], 1, 2)
    double.clear()
    assert (double(1), calls, double.hits) == (2, [1, 1, 1], 0)
    keyed = memoize(keyfun=lambda args, kwargs: args[0])(lambda x, **kwargs: calls.append(x))
    keyed(5)
    keyed(5, ignored=True)
    assert calls == [1, 1, 1, 5]


def test_lazy_values_are_copied_and_pickled(lib: Library) -> None:
    """As they are: not worked out."""
    lazy = lib.module("utils.functional").lazy
    value = lazy(max, 1, 2)
    assert pickle.loads(pickle.dumps(value))() == 2
    assert copy.deepcopy(value) == 2
    assert value != 3


@pytest.mark.parametrize("text", ["3.2.1rc1", "3.2", "3", "3.2.1.a.5", "3.2.1rc1-5", "3.2b3", "3.x", "3.2.1-5"])
def test_versions_in_pieces(lib: Library, text: str) -> None:
    """As kombu takes them apart."""
    from kombu.utils.text import version_string_as_tuple

    found = outcome(lib.module("utils.text").version_string_as_tuple, text)
    expected = outcome(version_string_as_tuple, text)
    assert (found if isinstance(found, str) else tuple(found)) == (
        expected if isinstance(expected, str) else tuple(expected)
    )


def test_words_that_are_nearly_alike(lib: Library) -> None:
    """The most like first, or none."""
    text = lib.module("utils.text")
    assert text.fmatch_best("abcd", ["abcx", "abcd", "zz"]) == "abcd"
    assert text.fmatch_best("q", ["zzz"]) is None
    assert list(text.fmatch_iter("abcd", ["abcx", "zz"])) == [(0.75, "abcx")]
    assert [text.escape_regex("a.b*c", white="."), text.escape_regex("a.b *c")] == [r"a.b\*c", r"a\.b\ \*c"]


def test_seconds_become_milliseconds(lib: Library) -> None:
    """None stays None."""
    convert = lib.module("utils.time").maybe_s_to_ms
    assert [convert(None), convert(1.5), convert(0), convert(3)] == [None, 1500, 0, 3000]


def test_text_and_bytes(lib: Library) -> None:
    """Text is text already; the encoding of files can be asked."""
    encoding = lib.module("utils.encoding")
    assert (encoding.from_utf8("x"), encoding.from_utf8(b"\xff")) == ("x", b"\xff")
    assert (encoding.safe_str("é", errors="ignore"), encoding.safe_repr("é", errors="x")) == ("é", "'é'")

    class Latin:
        encoding = "latin-1"

    file = Latin()
    encoding.set_default_encoding_file(file)
    try:
        assert encoding.get_default_encoding_file() is file
        assert (encoding.default_encoding(), encoding.default_encoding(object())) == ("latin-1", "utf-8")
    finally:
        encoding.set_default_encoding_file(None)


def test_state_is_dumped_when_all_else_fails(lib: Library) -> None:
    """Pickled, or as text where it can't be."""
    dump = lib.module("utils.div").emergency_dump_state
    told = io.StringIO()
    pickled = dump({"a": 1}, stderr=told)
    texts = dump({"a": io.StringIO()}, stderr=told, dump=lambda *args, **kwargs: 1 / 0)
    try:
        with open(pickled, "rb") as file:
            assert pickle.load(file) == {"a": 1}
        with open(texts, "rb") as file:
            assert b"StringIO" in file.read()
        assert pickled in told.getvalue()
        assert "Cannot pickle state" in told.getvalue()
    finally:
        os.unlink(pickled)
        os.unlink(texts)


def test_files_are_waited_for(lib: Library) -> None:
    """Readable, writable, hung up; a closed one is forgotten."""
    eventio = lib.module("utils.eventio")
    poller = eventio.poll()
    reading, writing = os.pipe()
    poller.register(reading, eventio.READ | eventio.ERR)
    assert list(poller.poll(0)) == []
    os.write(writing, b"x")
    assert list(poller.poll(None)) == [(reading, eventio.READ)]
    poller.register(writing, eventio.WRITE | eventio.ERR)
    poller.register(writing, eventio.WRITE | eventio.ERR)
    assert sorted(poller.poll(1)) == sorted([(reading, eventio.READ), (writing, eventio.WRITE)])
    poller.unregister(reading)
    poller.unregister(reading)
    os.close(reading)
    [(descriptor, events)] = poller.poll(1)
    assert (descriptor, bool(events & eventio.ERR)) == (writing, True)
    os.close(writing)
    assert list(poller.poll(0)) == []
    assert outcome(poller.register, writing, eventio.READ) in ("OSError", "ValueError")
    poller.close()
    assert 9 in eventio.SELECT_BAD_FD


def test_a_file_that_got_a_closed_ones_number_is_waited_for(lib: Library) -> None:
    """It has to be registered, whoever forgot to take the closed one away."""
    eventio = lib.module("utils.eventio")
    poller = eventio.poll()
    reading, writing = os.pipe()
    poller.register(reading, eventio.READ | eventio.ERR)
    os.close(reading)
    other, others = os.pipe()
    assert other == reading
    poller.register(other, eventio.READ | eventio.ERR)
    os.write(others, b"x")
    assert list(poller.poll(1)) == [(other, eventio.READ)]
    poller.close()
    for descriptor in (writing, other, others):
        os.close(descriptor)


def test_the_version_can_be_compared(lib: Library) -> None:
    """Of kombu whose names these are."""
    assert (5, 7) <= lib.VERSION < (6,)
    assert lib.version_info == lib.VERSION
    assert lib.VERSION.major == 5
