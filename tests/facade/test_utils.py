"""The small tools behave as kombu's do, where kombu behaves."""

from __future__ import annotations

import pickle
import ssl
from collections.abc import Callable
from itertools import islice
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kombu_actors.errors import InvalidURL
from kombu_actors.utils import encoding, functional, url, uuid
from tests.facade import oracle

URLS = [
    "amqp://",
    "amqp://localhost",
    "amqp://guest:guest@localhost:5672//",
    "amqp://guest:guest@localhost:5672/",
    "amqp://user@host/vhost",
    "amqp://u%40x:p%2Fw%3A%23@host:1/%2Fv%20h",
    "amqps://host?ssl_ca_certs=/ca.pem&ssl_check_hostname=FALSE",
    "rediss://:pw@h:6379/0?ssl_cert_reqs=required&visibility_timeout=3",
    "sqla+sqlite:///a.db",
    "redis+socket:///tmp/redis.sock",
    "memory://",
    "sentinel://a:1",
    "AMQP://Host",
    "redis://[::1]:6379/1",
]


@pytest.mark.parametrize("text", URLS)
def test_urls_are_taken_apart_as_kombu_does(text: str) -> None:
    """Percent-decoded, with ``ssl_*`` of the query gathered."""
    theirs = oracle.url.url_to_parts(text)
    assert url.url_to_parts(text) == theirs
    assert url.parse_url(text) == oracle.url.parse_url(text)


@pytest.mark.parametrize("text", [text for text in URLS if "[" not in text])
def test_urls_are_put_together_as_kombu_does(text: str) -> None:
    """With and without the password."""
    parts = url.url_to_parts(text)
    for options in ({}, {"sanitize": True}, {"sanitize": True, "mask": "?"}, {"sanitize": True, "mask": ""}):
        assert url.as_url(*parts, **options) == oracle.url.as_url(*parts, **options)
    assert url.maybe_sanitize_url(text) == oracle.url.maybe_sanitize_url(text)


def test_an_ipv6_address_keeps_its_brackets() -> None:
    """kombu percent-encodes its colons, and can't dial the result."""
    assert url.as_url(*url.url_to_parts("redis://[::1]:6379/1")) == "redis://[::1]:6379/1"


def test_what_is_no_url_is_left_alone() -> None:
    """By the ``maybe_`` one only."""
    for value in (None, 3, "no url", ["amqp://u:p@h"]):
        assert url.maybe_sanitize_url(value) == value
    with pytest.raises(InvalidURL, match="no '://'"):
        url.url_to_parts("localhost")


@pytest.mark.parametrize(
    "text",
    [
        "amqp://u:CANARY@h:port/",
        "amqp://u:CANARY/x@h/",
        "amqp://u:CANARY#x@h/",
        "amqp://u:CANARY?x@h/",
        "amqp://u:CANARY@[::1/",
        "amqp://u:CANARY@h:99999/",
        "redis://h/0?password=CANARY",
        "redis://u:CANARY@h/0?ssl_cert_reqs=maybe",
        "CANARY:amqp",
    ],
)
def test_errors_about_urls_never_show_the_password(text: str) -> None:
    """Whatever is wrong may be the password."""
    with pytest.raises(InvalidURL) as caught:
        url.parse_url(text)
    seen: BaseException | None = caught.value
    while seen is not None and not (seen.__suppress_context__ and seen is not caught.value):
        assert "CANARY" not in repr(seen)
        seen = None if seen.__suppress_context__ else seen.__context__


@given(st.text(), st.text(), st.text(alphabet=st.characters(codec="utf-8", exclude_characters="[]:")))
def test_safequote_makes_any_password_safe(user: str, password: str, path: str) -> None:
    """What was put in comes out."""
    try:
        text = url.as_url("amqp", "host", 5672, user, password, url.safequote(path))
    except UnicodeEncodeError:
        return
    parts = url.url_to_parts(text)
    assert (parts.username or "", parts.password or "", parts.path or "") == (user, password, path)


@pytest.mark.parametrize("value", ["required", "optional", "none", "CERT_REQUIRED", "CERT_OPTIONAL", "CERT_NONE"])
def test_cert_reqs_are_kombus(value: str) -> None:
    """As ``ssl`` names them, or short."""
    assert url.parse_ssl_cert_reqs(value) == oracle.url.parse_ssl_cert_reqs(value)
    assert isinstance(url.parse_ssl_cert_reqs(value), ssl.VerifyMode)


def test_uuids_are_random_and_of_version_4() -> None:
    """As text."""
    assert UUID(uuid()).version == 4
    assert uuid() != uuid()
    assert uuid(lambda: UUID(int=1)) == "00000000-0000-0000-0000-000000000001"


@pytest.mark.parametrize(
    "options",
    [
        {}, {"start": 0, "stop": 3}, {"start": 1, "stop": 2, "step": 0.5, "repeatlast": True},
        {"start": 5, "stop": 1}, {"start": 0, "stop": 0}, {"start": 0, "stop": 0.2, "step": 0.2, "repeatlast": True},
    ],
)  # fmt: skip
def test_ranges_are_kombus(options: dict[str, Any]) -> None:
    """Up to and including the stop, repeating the last if told so."""
    assert list(islice(functional.fxrange(**options), 20)) == list(islice(oracle.functional.fxrange(**options), 20))
    options.pop("repeatlast", None)
    ours, theirs = functional.fxrangemax(**options, max=10), oracle.functional.fxrangemax(**options, max=10)
    assert list(islice(ours, 50)) == list(islice(theirs, 50))


class Retried:
    """Fails ``failures`` times, and notes who was called when."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.log: list[Any] = []

    def __call__(self, *args: Any, **kwargs: Any) -> str:
        self.log.append(("fun", args, kwargs))
        if self.failures:
            self.failures -= 1
            raise KeyError("again")
        return "done"

    def errback(self, exc: Exception, intervals: Any, retries: int) -> float:
        interval = next(intervals)
        self.log.append(("errback", repr(exc), round(interval, 3), retries))
        return 0.0

    def callback(self) -> None:
        self.log.append("callback")


@pytest.mark.parametrize(
    ("failures", "options"),
    [
        (0, {}),
        (3, {}),
        (12, {"interval_start": 1, "interval_step": 3, "interval_max": 10}),
        (3, {"max_retries": 2}),
        (3, {"max_retries": 0}),
        (2, {"max_retries": 2, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.2}),
    ],
)
def test_retrying_over_time_is_kombus(failures: int, options: dict[str, Any]) -> None:
    """The same calls with the same intervals, in the same order, to the same end."""
    logs = []
    for retry in (functional.retry_over_time, oracle.functional.retry_over_time):
        fun = Retried(failures)
        try:
            fun.log.append(
                retry(fun, (KeyError,), (1,), {"a": 2}, errback=fun.errback, callback=fun.callback, **options)
            )
        except KeyError as exc:
            fun.log.append(repr(exc))
        logs.append(fun.log)
    assert logs[0] == logs[1]


def test_retrying_waits_as_long_as_told() -> None:
    """The intervals are slept, and counted against the timeout."""
    slept: list[float] = []
    fun = Retried(3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kombu_actors.utils.functional.time.sleep", slept.append)
        assert functional.retry_over_time(fun, KeyError, callback=fun.callback, interval_max=3) == "done"
        capped = list(slept)
        slept.clear()
        functional.retry_over_time(Retried(1), KeyError, errback=lambda *args: 99.5, interval_max=0.5)
        assert slept == [0.5]  # not even errback waits longer than interval_max
    assert capped == [1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0]
    assert fun.log.count("callback") == 3 + 2 + 3 + 3
    with pytest.raises(KeyError):
        functional.retry_over_time(Retried(10_000), KeyError, timeout=0.001, errback=lambda *args: 0.0)
    with pytest.raises(KeyError):
        functional.retry_over_time(Retried(1), ValueError)


@pytest.mark.parametrize("value", [None, 1, "ab", {"a": 1}, [1], (1,), {1}, b"ab"])
def test_lists_are_kombus(value: Any) -> None:
    """Strings and mappings are one thing."""
    assert functional.maybe_list(value) == oracle.functional.maybe_list(value)
    assert functional.is_list(value) == oracle.functional.is_list(value)


def test_calls_are_shown_as_kombu_shows_them() -> None:
    """For a log line."""
    for args in (("f",), ("f", (1, "a")), ("f", (), {"k": "v"}), ("f", (1,), {"k": [2], "l": None})):
        assert functional.reprcall(*args) == oracle.functional.reprcall(*args)
    assert functional.dictfilter({"a": 1, "b": None}, c=None, d=2) == {"a": 1, "d": 2}


def test_a_lazy_call_is_made_each_time() -> None:
    """And a promised channel opened once."""
    calls: list[int] = []

    def call(*args: int, **kwargs: int) -> int:
        calls.append(1)
        return len(calls)

    later = functional.lazy(call, 1, a=2)
    assert (later(), later.evaluate(), functional.maybe_evaluate(later), functional.maybe_evaluate(7)) == (1, 2, 3, 7)
    assert later == 4
    assert str(later) == "5"
    promise = functional.ChannelPromise(call)
    assert repr(promise).startswith("<promise: 0x")
    assert promise() == promise() == 6
    assert repr(promise) == "6"


class Broken:
    """Can't be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@pytest.mark.parametrize("value", ["é", b"\xc3\xa9", b"\xff", None, 3, bytearray(b"x")])
def test_encoding_tools_are_kombus(value: Any) -> None:
    """Text to bytes and back, never failing."""
    for name in ("str_to_bytes", "bytes_to_str", "ensure_bytes", "safe_str", "safe_repr"):
        assert getattr(encoding, name)(value) == getattr(oracle.encoding, name)(value)


def test_what_cannot_be_shown_is_shown_all_the_same() -> None:
    """An error report may not fail for it."""
    for show in (encoding.safe_repr, encoding.safe_str):
        assert "Unrepresentable" in show(Broken())


def test_documented_places_of_the_tools() -> None:
    """Where kombu's users import them from."""
    from kombu_actors.utils import fxrange, maybe_list, reprcall, reprkwargs, retry_over_time
    from kombu_actors.utils.uuid import uuid as same

    tools: list[Callable[..., Any]] = [fxrange, maybe_list, reprcall, reprkwargs, retry_over_time]
    assert [tool.__module__ for tool in tools] == ["kombu_actors.utils.functional"] * 5
    assert same is uuid


def test_exceptions_are_where_kombu_has_them() -> None:
    """Under their names, related to each other as there, and picklable."""
    import kombu.exceptions

    from kombu_actors import exceptions

    unneeded = {"BatchPublishError", "HttpError"}
    for name in set(kombu.exceptions.__all__) - unneeded - {"reraise"}:
        ours, theirs = getattr(exceptions, name), getattr(kombu.exceptions, name)
        related = {one.__name__ for one in theirs.__mro__ if one.__module__.startswith("kombu")}
        assert related <= {one.__name__ for one in ours.__mro__}
        if ours is not theirs:
            assert str(pickle.loads(pickle.dumps(ours("text")))) == str(ours("text"))
    with pytest.raises(KeyError, match="x"):
        exceptions.reraise(KeyError, KeyError("x"))
