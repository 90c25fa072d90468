"""``ensure``, ``ensure_connection`` and ``autoretry``: calls, errbacks, sleeps, revivals, the final error.

Each row of the table that kombu's retrying was observed by is a test here, for both libraries, over a
connection that really breaks and dials that are really refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from time import monotonic
from typing import Any

import amqp
import pytest

from tests.support.brokers import RabbitMQNode
from tests.support.proxy import Direction, FaultProxy

from .libraries import Library


class Ledger:
    """Something to ensure; writes down what is done to it."""

    def __init__(self, outcomes: list[Any]) -> None:
        self.outcomes = outcomes
        self.calls: list[tuple[Any, ...]] = []
        self.errbacks: list[tuple[type[BaseException], float]] = []
        self.revived: list[Any] = []
        self.on_revived: list[Any] = []
        self.order: list[str] = []

    def fun(self, *args: Any, **kwargs: Any) -> Any:
        """Do what the next outcome says; the last one repeats."""
        self.calls.append((args, kwargs))
        self.order.append("fun")
        outcome = self.outcomes[0] if len(self.outcomes) == 1 else self.outcomes.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome() if callable(outcome) else outcome

    def errback(self, exc: BaseException, interval: float) -> None:
        self.errbacks.append((type(exc), interval))
        self.order.append("errback")

    def revive(self, channel: Any) -> None:
        self.revived.append(channel)
        self.order.append("revive")

    def on_revive(self, channel: Any) -> None:
        self.on_revived.append(channel)
        self.order.append("on_revive")

    def ensured(self, connection: Any, **policy: Any) -> Callable[..., Any]:
        policy = {"errback": self.errback, "on_revive": self.on_revive, **policy}
        made: Callable[..., Any] = connection.ensure(self, self.fun, **policy)
        return made

    @property
    def intervals(self) -> list[float]:
        return [interval for _, interval in self.errbacks]


@pytest.fixture
def proxies(rabbitmq: RabbitMQNode) -> Iterator[list[FaultProxy]]:
    """Three ways to the same broker."""
    with ExitStack() as stack:
        yield [stack.enter_context(FaultProxy(rabbitmq.port)) for _ in range(3)]


@pytest.fixture
def by_proxy(rabbitmq: RabbitMQNode, shared_vhost: str, proxies: list[FaultProxy], connect: Callable[..., Any]) -> Any:
    """A connection that goes the first of these ways."""
    made = connect(rabbitmq.url(vhost=shared_vhost, port=proxies[0].port))
    made.connect()
    return made


@pytest.fixture
def on_rabbitmq(broker_url: str, connect: Callable[..., Any]) -> Any:
    """A connection that nothing disturbs."""
    return connect(broker_url)


def cut(connection: Any, *proxies: FaultProxy) -> Callable[[], Any]:
    """Break the connection and refuse new ones; then fail as the library's own calls do."""

    def fail() -> None:
        for proxy in proxies:
            proxy.refuse()
        proxies[0].reset()
        raise amqp.RecoverableConnectionError("the connection was reset")

    return fail


def connection_error() -> Any:
    return amqp.RecoverableConnectionError("gone")


# The table


def test_a_function_that_always_fails_with_a_connection_error(lib: Library, on_rabbitmq: Any) -> None:
    """max_retries=3: 4 calls, an errback and both revivals each time, no sleep, OperationalError from it."""
    error = connection_error()
    ledger = Ledger([error])
    begin = monotonic()
    with pytest.raises(lib.module("exceptions").OperationalError) as caught:
        ledger.ensured(on_rabbitmq, max_retries=3)()
    assert monotonic() - begin < 1
    assert caught.value.__cause__ is error
    assert str(caught.value) == str(error)
    assert len(ledger.calls) == 4
    assert ledger.errbacks == [(amqp.RecoverableConnectionError, 0)] * 3
    assert len(ledger.revived) == len(ledger.on_revived) == 3
    assert ledger.order == ["fun", "errback", "revive", "on_revive"] * 3 + ["fun"]


@pytest.mark.slow
def test_one_connection_error_then_four_failed_dials(lib: Library, by_proxy: Any, proxies: list[FaultProxy]) -> None:
    """Defaults: errback (exc, 0), then (exc, 1.0) four times, each slept; revived once; 2 calls."""
    ledger = Ledger([cut(by_proxy, proxies[0]), "done"])

    def errback(exc: BaseException, interval: float) -> None:
        ledger.errback(exc, interval)
        if len(ledger.errbacks) == 5:
            proxies[0].heal()

    begin = monotonic()
    assert ledger.ensured(by_proxy, max_retries=10, errback=errback)() == "done"
    assert 4 <= monotonic() - begin < 6
    assert ledger.intervals == [0, 1.0, 1.0, 1.0, 1.0]
    assert all(issubclass(kind, OSError) for kind, _ in ledger.errbacks[1:])
    assert len(ledger.calls) == 2
    assert len(ledger.revived) == len(ledger.on_revived) == 1


def test_a_function_that_always_fails_with_a_channel_error(lib: Library, on_rabbitmq: Any) -> None:
    """max_retries=3: 4 calls, errback (exc, 0) three times, nothing revived, no sleep, OperationalError."""
    error = amqp.RecoverableChannelError("channel")
    ledger = Ledger([error])
    begin = monotonic()
    with pytest.raises(lib.module("exceptions").OperationalError) as caught:
        ledger.ensured(on_rabbitmq, max_retries=3)()
    assert monotonic() - begin < 1
    assert caught.value.__cause__ is error
    assert len(ledger.calls) == 4
    assert ledger.errbacks == [(amqp.RecoverableChannelError, 0)] * 3
    assert not ledger.revived
    assert not ledger.on_revived


def test_errors_to_retry_are_retried_silently(lib: Library, on_rabbitmq: Any) -> None:
    """max_retries=3: 4 calls, no errback, nothing revived, the original exception."""
    error = KeyError("mine")
    ledger = Ledger([error])
    with pytest.raises(KeyError) as caught:
        ledger.ensured(on_rabbitmq, max_retries=3, retry_errors=(KeyError,))()
    assert caught.value is error
    assert len(ledger.calls) == 4
    assert not ledger.errbacks
    assert not ledger.revived


@pytest.mark.parametrize("error", [amqp.RecoverableConnectionError("x"), amqp.RecoverableChannelError("x")])
def test_no_retries_is_one_call(lib: Library, on_rabbitmq: Any, error: Exception) -> None:
    """max_retries=0."""
    ledger = Ledger([error])
    with pytest.raises(lib.module("exceptions").OperationalError):
        ledger.ensured(on_rabbitmq, max_retries=0)()
    assert len(ledger.calls) == 1
    assert not ledger.errbacks
    assert not ledger.revived


@pytest.mark.slow
def test_three_hosts_and_five_failed_dials(
    lib: Library, rabbitmq: RabbitMQNode, shared_vhost: str, proxies: list[FaultProxy], connect: Callable[..., Any]
) -> None:
    """Errbacks 0, 0, 0, 1.0, 0, 0: one sleep per round of all hosts."""
    connection = connect(";".join(rabbitmq.url(vhost=shared_vhost, port=proxy.port) for proxy in proxies))
    connection.connect()
    ledger = Ledger([cut(connection, *proxies), "done"])

    def errback(exc: BaseException, interval: float) -> None:
        ledger.errback(exc, interval)
        if len(ledger.errbacks) == 6:
            for proxy in proxies:
                proxy.heal()

    begin = monotonic()
    assert ledger.ensured(connection, errback=errback)() == "done"
    assert 1 <= monotonic() - begin < 3
    assert ledger.intervals == [0, 0, 0, 1.0, 0, 0]
    assert len(ledger.calls) == 2
    assert len(ledger.revived) == len(ledger.on_revived) == 1


# What else ``ensure`` promises


def test_the_result_and_the_arguments_pass_through(lib: Library, on_rabbitmq: Any) -> None:
    """And the wrapper says what it wraps."""
    ledger = Ledger(["result"])
    ensured = ledger.ensured(on_rabbitmq)
    assert ensured(1, a=2) == "result"
    assert ledger.calls == [((1,), {"a": 2})]
    assert ensured.__name__ == "fun(ensured)"
    assert ensured.__doc__ == Ledger.fun.__doc__
    assert ensured.__module__ == __name__


def test_other_errors_are_nobodys_to_retry(lib: Library, on_rabbitmq: Any) -> None:
    """One call, raised as they are; irrecoverable broker errors too."""
    for error in (KeyError("x"), amqp.NotFound("x"), amqp.AccessRefused("x"), amqp.PreconditionFailed("x")):
        ledger = Ledger([error])
        with pytest.raises(type(error)) as caught:
            ledger.ensured(on_rabbitmq, max_retries=3)()
        assert caught.value is error
        assert len(ledger.calls) == 1


def test_retries_are_counted_over_all_kinds_of_error(lib: Library, on_rabbitmq: Any) -> None:
    """One budget for the call."""
    kinds = [connection_error(), amqp.RecoverableChannelError("x"), KeyError("x"), connection_error()]
    ledger = Ledger([*kinds, "too late"])
    with pytest.raises(lib.module("exceptions").OperationalError):
        ledger.ensured(on_rabbitmq, max_retries=3, retry_errors=(KeyError,))()
    assert len(ledger.calls) == 4


def test_each_call_has_its_own_budget(lib: Library, on_rabbitmq: Any) -> None:
    """Nothing is kept from one call of the wrapper to the next."""
    ledger = Ledger([connection_error(), connection_error(), "one", connection_error(), connection_error(), "two"])
    ensured = ledger.ensured(on_rabbitmq, max_retries=2)
    assert ensured() == "one"
    ledger.outcomes = [connection_error(), connection_error(), "two"]
    assert ensured() == "two"


def test_an_errback_that_raises_ends_it(lib: Library, on_rabbitmq: Any) -> None:
    """With its error."""
    ledger = Ledger([connection_error()])

    def errback(exc: BaseException, interval: float) -> None:
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        ledger.ensured(on_rabbitmq, errback=errback)()
    assert len(ledger.calls) == 1


def test_the_last_dials_are_counted_too(lib: Library, by_proxy: Any, proxies: list[FaultProxy]) -> None:
    """max_retries bounds the dials after a failed call: that many retries, then OperationalError."""
    ledger = Ledger([cut(by_proxy, proxies[0])])
    with pytest.raises(lib.module("exceptions").OperationalError) as caught:
        ledger.ensured(by_proxy, max_retries=2, interval_start=0, interval_step=0, interval_max=0)()
    assert isinstance(caught.value.__cause__ or caught.value, OSError)
    assert ledger.intervals == [0, 0, 0]
    assert len(ledger.calls) == 1
    proxies[0].heal()


def test_intervals_grow_and_are_capped(lib: Library, by_proxy: Any, proxies: list[FaultProxy]) -> None:
    """start, start + step, ... never above max."""
    ledger = Ledger([cut(by_proxy, proxies[0])])
    begin = monotonic()
    with pytest.raises(lib.module("exceptions").OperationalError):
        ledger.ensured(by_proxy, max_retries=4, interval_start=0.05, interval_step=0.1, interval_max=0.2)()
    assert ledger.intervals == pytest.approx([0, 0.05, 0.15, 0.2, 0.2])
    assert 0.6 <= monotonic() - begin < 2
    proxies[0].heal()


def test_an_ensured_call_fails_with_its_connection(
    lib: Library, by_proxy: Any, proxies: list[FaultProxy], name: str
) -> None:
    """At once: the policy says how to wait, not the call's own deadline."""
    heard: list[float] = []

    class Declaring:
        channel = by_proxy.default_channel

        def revive(self, channel: Any) -> None:
            self.channel = channel

        def declare(self) -> Any:
            return self.channel.queue_declare(name, exclusive=True)

    def errback(exc: BaseException, interval: float) -> None:
        heard.append(interval)
        if len(heard) == 3:
            proxies[0].heal()

    proxies[0].refuse()
    proxies[0].reset()
    declaring = Declaring()
    begin = monotonic()
    declared = by_proxy.ensure(declaring, declaring.declare, errback, interval_start=0.05, interval_max=0.05)()
    assert declared[0] == name
    assert monotonic() - begin < 3
    assert heard == [0, 0.05, 0.05]


def test_policies_are_arguments(lib: Library, on_rabbitmq: Any) -> None:
    """Neither the connection's options nor the policy given are changed by a call."""
    before = dict(on_rabbitmq.transport_options)
    policy = {"max_retries": 2, "interval_start": 0, "interval_step": 0, "interval_max": 0}
    given = dict(policy)
    ledger = Ledger([connection_error(), "done"])
    assert ledger.ensured(on_rabbitmq, **policy)() == "done"
    assert on_rabbitmq.transport_options == before
    assert policy == given


# ensure_connection


def test_ensure_connection_returns_the_connection(lib: Library, on_rabbitmq: Any) -> None:
    """Connected; again, at once."""
    assert on_rabbitmq.ensure_connection() is on_rabbitmq
    assert on_rabbitmq.connected
    assert on_rabbitmq.ensure_connection(max_retries=0) is on_rabbitmq


@pytest.mark.parametrize(("max_retries", "heard"), [(0, 0), (1, 1), (3, 3)])
def test_ensure_connection_gives_up(lib: Library, dead_url: str, max_retries: int, heard: int) -> None:
    """After ``max_retries`` retries; the last failure has no errback."""
    errbacks: list[Any] = []
    connection = lib.Connection(dead_url)
    with pytest.raises(lib.module("exceptions").OperationalError) as caught:
        connection.ensure_connection(
            errback=lambda exc, interval: errbacks.append((isinstance(exc, OSError), interval)),
            max_retries=max_retries, interval_start=0.02, interval_step=0.02, interval_max=0.03,
        )  # fmt: skip
    assert isinstance(caught.value.__cause__ or caught.value, OSError)
    assert errbacks == [(True, interval) for interval in (0.02, 0.03, 0.03)[:heard]]
    connection.release()


def test_no_dial_is_made_that_was_not_asked_for(
    lib: Library, dead_url: str, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    """``max_retries=1`` is two dials, from the very first on."""
    proxy = fault_proxy(int(dead_url.split(":")[3].split("/")[0]))
    for _ in range(20):
        connection = lib.Connection(f"amqp://127.0.0.1:{proxy.port}")
        with pytest.raises(lib.module("exceptions").OperationalError):
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, interval_max=0)
        connection.release()
    assert proxy.accepted == 40


def test_ensure_connection_may_raise_the_plain_error(lib: Library, dead_url: str) -> None:
    """``reraise_as_library_errors=False``."""
    connection = lib.Connection(dead_url)
    with pytest.raises(OSError):
        connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)
    connection.release()


def test_ensure_connection_ends_by_its_timeout(lib: Library, dead_url: str) -> None:
    """Checked between the dials; here the last sleep ends by it, too."""
    connection = lib.Connection(dead_url)
    begin = monotonic()
    with pytest.raises(lib.module("exceptions").OperationalError):
        connection.ensure_connection(interval_start=0.1, interval_step=0, interval_max=0.1, timeout=0.25)
    assert 0.15 <= monotonic() - begin < 2
    connection.release()


@pytest.mark.slow
def test_ensure_connections_callback_is_called_while_it_waits(lib: Library, dead_url: str) -> None:
    """Before each sleep and each second of it."""
    called: list[int] = []
    connection = lib.Connection(dead_url)
    with pytest.raises(lib.module("exceptions").OperationalError):
        connection.ensure_connection(
            max_retries=2, interval_start=1, interval_step=0, interval_max=1, callback=lambda: called.append(1)
        )
    assert len(called) == 4
    connection.release()


def test_a_callback_that_raises_ends_the_wait(lib: Library, dead_url: str) -> None:
    """This is how a program stops waiting."""

    def callback() -> None:
        raise KeyboardInterrupt

    connection = lib.Connection(dead_url)
    with pytest.raises(KeyboardInterrupt):
        connection.ensure_connection(callback=callback)
    connection.release()


def test_ensure_connection_waits_for_the_broker(
    lib: Library, rabbitmq: RabbitMQNode, shared_vhost: str, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    """Which comes back meanwhile."""
    proxy = fault_proxy(rabbitmq.port)
    proxy.refuse()
    heard: list[float] = []

    def errback(exc: BaseException, interval: float) -> None:
        heard.append(interval)
        if len(heard) == 3:
            proxy.heal()

    with lib.Connection(rabbitmq.url(vhost=shared_vhost, port=proxy.port)) as connection:
        connection.ensure_connection(errback, interval_start=0.01, interval_step=0.01, interval_max=1)
        assert connection.connected
    assert heard == pytest.approx([0.01, 0.02, 0.03])


def test_the_first_connect_is_retried_as_the_options_say(lib: Library, dead_url: str) -> None:
    """``transport_options`` has the policy of the connect that ``default_channel`` makes."""
    heard: list[float] = []
    options = {
        "max_retries": 2, "interval_start": 0.01, "interval_step": 0.01, "interval_max": 0.05,
        "errback": lambda exc, interval: heard.append(interval),
    }  # fmt: skip
    given = dict(options)
    connection = lib.Connection(dead_url, transport_options=options)
    with pytest.raises(lib.module("exceptions").OperationalError):
        _ = connection.default_channel
    assert heard == pytest.approx([0.01, 0.02])
    assert options == given == connection.transport_options
    connection.release()


# autoretry


def test_autoretry_gives_the_function_a_channel(lib: Library, on_rabbitmq: Any) -> None:
    """The one given, or the default one; returns the result with the channel that was used."""
    seen: list[Any] = []

    def fun(number: int, channel: Any) -> int:
        seen.append(channel)
        return number * 2

    channel = on_rabbitmq.channel()
    assert on_rabbitmq.autoretry(fun, channel)(4) == (8, channel)
    result, default = on_rabbitmq.autoretry(fun)(5)
    assert result == 10
    assert default is on_rabbitmq.default_channel
    assert seen == [channel, default]
    channel.close()


def test_autoretry_goes_on_with_a_new_channel(lib: Library, by_proxy: Any, proxies: list[FaultProxy]) -> None:
    """After a connection error, with one that works."""
    tries: list[Any] = []

    def fun(channel: Any) -> str:
        tries.append(channel)
        if len(tries) == 1:
            proxies[0].reset()
            raise amqp.RecoverableConnectionError("reset")
        channel.queue_declare("", exclusive=True)
        return "done"

    result, channel = by_proxy.autoretry(fun, max_retries=5, interval_start=0, interval_max=0)()
    assert (result, channel) == ("done", tries[-1])
    assert len(tries) == 2


def test_autoretry_keeps_the_channel_it_had(lib: Library, by_proxy: Any, proxies: list[FaultProxy]) -> None:
    """Here channels outlive their connection; kombu makes the default channel anew."""
    tries: list[Any] = []

    def fun(channel: Any) -> str:
        tries.append(channel)
        if len(tries) == 1:
            proxies[0].reset()
            raise amqp.RecoverableConnectionError("reset")
        return "done"

    former = by_proxy.default_channel
    _, latter = by_proxy.autoretry(fun, max_retries=5, interval_start=0, interval_max=0)()
    assert (former is latter) is lib.either("channels-survive", kombu=False, actors=True)


def test_autoretrys_options_hold_for_the_first_connect(lib: Library, dead_url: str) -> None:
    """As for the others."""
    heard: list[float] = []
    connection = lib.Connection(dead_url)
    ensured = connection.autoretry(
        lambda channel: None, max_retries=1, interval_start=0, interval_step=0, interval_max=0,
        errback=lambda exc, interval: heard.append(interval),
    )  # fmt: skip
    with pytest.raises(lib.module("exceptions").OperationalError):
        ensured()
    assert heard == [0]
    connection.release()


def test_autoretry_says_what_it_wraps(lib: Library, on_rabbitmq: Any) -> None:
    """By name."""

    def fun(channel: Any) -> None:
        """Words."""

    ensured = on_rabbitmq.autoretry(fun)
    assert ensured.__name__ == "fun(ensured)"
    assert ensured.__doc__ == "Words."


# Publishing with retry


def test_publishing_with_retry_rides_out_a_reset(
    lib: Library, by_proxy: Any, proxies: list[FaultProxy], name: str
) -> None:
    """And says so; what the caller passed in is as it was."""
    heard: list[float] = []
    queue = lib.Queue(name, durable=True)
    producer = by_proxy.Producer()
    producer.maybe_declare(queue)
    proxies[0].refuse()
    proxies[0].reset()

    def errback(exc: BaseException, interval: float) -> None:
        heard.append(interval)
        proxies[0].heal()

    headers, declare = {"h": 1}, [queue]
    policy = {"max_retries": 10, "interval_start": 0.1, "interval_step": 0, "interval_max": 0.1, "errback": errback}
    given = dict(policy)
    producer.publish(
        "x", routing_key=name, retry=True, retry_policy=policy, headers=headers, declare=declare, compression="zlib"
    )
    assert heard
    assert (declare, policy) == ([queue], given)
    message = queue(by_proxy.default_channel).get(no_ack=True)
    assert message.payload == "x"
    assert message.headers["h"] == 1
    queue(by_proxy.default_channel).delete()


def test_a_publish_whose_confirm_is_lost_is_published_again(
    lib: Library, by_proxy: Any, proxies: list[FaultProxy], name: str
) -> None:
    """As soon as its connection is gone; twice is what "at least once" means."""
    heard: list[float] = []
    queue = lib.Queue(name, durable=True)
    producer = by_proxy.Producer()
    producer.publish("before", routing_key=name, declare=[queue])

    def errback(exc: BaseException, interval: float) -> None:
        heard.append(interval)
        if len(heard) == 2:
            proxies[0].heal()

    proxies[0].refuse()
    proxies[0].cut_after(0, Direction.DOWN)
    begin = monotonic()
    policy = {"errback": errback, "max_retries": 10, "interval_start": 0.05, "interval_max": 0.05}
    producer.publish("twice", routing_key=name, retry=True, retry_policy=policy)
    assert monotonic() - begin < 5
    assert heard[0] == 0
    bound = queue(by_proxy.default_channel)
    assert [bound.get(no_ack=True).payload for _ in range(3)] == ["before", "twice", "twice"]
    assert bound.get() is None
    bound.delete()
