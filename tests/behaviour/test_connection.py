"""``Connection``: making, describing, copying, opening and closing."""

from __future__ import annotations

import copy
import pickle
import socket
from collections.abc import Callable
from itertools import cycle, islice
from operator import itemgetter
from ssl import CERT_REQUIRED
from typing import Any

import amqp
import pytest

from tests.support.brokers import RabbitMQNode
from tests.support.proxy import FaultProxy

from .libraries import Library

FIELDS = (
    "hostname", "userid", "password", "virtual_host", "port", "insist", "transport", "connect_timeout",
    "transport_options", "login_method", "uri_prefix", "heartbeat", "failover_strategy", "alternates",
)  # fmt: skip

FORMS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}),
    (("amqp://",), {}),
    (("amqp://h",), {}),
    (("amqp://h/",), {}),
    (("amqp://u:p@h:1234/v",), {}),
    (("amqp://u:p@h:1234//",), {}),
    (("amqp://u%40:p%2F@h/v%2Fw",), {}),
    (("h",), {"userid": "u", "password": "p", "port": 99, "virtual_host": "v"}),
    (("amqp://u:p@h:1234/v",), {"userid": "x", "password": "y", "port": 3, "virtual_host": "z"}),
    (("amqp://a;amqp://b",), {}),
    ((["amqp://a", "amqp://b"],), {}),
    (("a;b",), {"userid": "u", "password": "p"}),
    (("amqp://u:p@a//;amqp://u:q@b//",), {}),
    (("amqp://u:p@h//?heartbeat=10",), {}),
    (("amqp://u:p@h//?login_method=EXTERNAL",), {}),
    (("pyamqp://u:p@h",), {}),
    (("amqps://u:p@h",), {}),
    (("memory://x",), {}),
    (("memory://",), {}),
    (("h",), {"transport": "memory"}),
    (("amqp://h",), {"transport": "memory"}),
    (("amqp://h",), {"heartbeat": 5, "failover_strategy": "shuffle", "insist": True, "connect_timeout": 9}),
    (("amqp://h",), {"login_method": "EXTERNAL", "transport_options": {"confirm_publish": True}}),
    ((None,), {}),
]


@pytest.mark.parametrize(("args", "kwargs"), FORMS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_form_of_url_is_understood_alike(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """URLs, lists, host names and keywords come to the same parameters."""
    theirs, ours = (Library(name).Connection(*args, **kwargs).info() for name in ("kombu", "kombu_actors"))
    assert {field: ours[field] for field in FIELDS} == {field: theirs[field] for field in FIELDS}
    assert list(ours) == [field for field in theirs if field != "credential_provider"]


def test_a_connect_timeout_in_the_url_is_a_number(lib: Library) -> None:
    """It is seconds."""
    connection = lib.Connection("amqp://h//?connect_timeout=3")
    assert connection.connect_timeout == lib.either("url-connect-timeout", kombu="3", actors=3.0)


def test_a_connect_timeout_of_nothing_is_none_of_ones_own(lib: Library, name: str) -> None:
    """``broker_connection_timeout = 0`` is in settings of Celery's; connecting in memory takes no time anyway."""
    with lib.Connection(f"memory://{name}", connect_timeout=0) as connection:
        connection.connect()
        assert connection.connected


def test_tls_settings_may_stand_in_the_url(lib: Library) -> None:
    """A URL that names an authority means TLS, on the TLS port."""
    connection = lib.Connection("amqp://h//?ssl_cert_reqs=CERT_REQUIRED&ssl_check_hostname=false")
    prefix = lib.either("url-tls-keys", kombu="ssl_", actors="")
    assert connection.ssl == {f"{prefix}cert_reqs": CERT_REQUIRED, f"{prefix}check_hostname": False}
    assert connection.info()["port"] == 5671


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (("amqp://h//?bogus=1",), {}),
        (("nosuch://h",), {}),
        (("h",), {"transport": "nosuch"}),
        (("a.b://h",), {}),
        (("pre+amqp://h",), {}),
        (("amqp://h:notaport",), {}),
    ],
)
def test_what_is_no_broker_url_is_refused(lib: Library, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """At once, or as soon as the parameters are looked at."""
    refusals = lib.either(
        "bad-url-errors", kombu=(TypeError, KeyError, ValueError), actors=lib.module("exceptions").KombuError
    )
    with pytest.raises(refusals):
        lib.Connection(*args, **kwargs).info()


def test_a_host_name_may_carry_its_port(lib: Library) -> None:
    """As everybody writes it."""
    connection = lib.Connection("h:99")
    expected = lib.either("host-with-port", kombu=("h:99", None), actors=("h", 99))
    assert (connection.hostname, connection.port) == expected


def test_an_ipv6_address_is_shown_as_one(lib: Library) -> None:
    """In brackets."""
    shown = lib.Connection("amqp://u:p@[::1]:99/v").as_uri()
    assert shown == lib.either("ipv6-uri", kombu="amqp://u:**@%3A%3A1:99/v", actors="amqp://u:**@[::1]:99/v")


def test_a_user_without_password_has_none(lib: Library) -> None:
    """The password of another account is no guess to make."""
    info = lib.Connection("amqp://u@h").info()
    assert info["password"] == lib.either("no-guessed-password", kombu="guest", actors=None)


def test_alternates_come_after_the_url(lib: Library) -> None:
    """And the first URL is one of them."""
    connection = lib.Connection("amqp://a", alternates=["amqp://b"])
    expected = lib.either("alternates-and-url", kombu=["amqp://b"], actors=["amqp://a", "amqp://b"])
    assert connection.alt == connection.info()["alternates"] == expected


def test_the_attributes_are_the_arguments(lib: Library) -> None:
    """Documented ones, before anything is connected."""
    connection = lib.Connection(
        "amqp://u:p@h:1234/v", connect_timeout=3, heartbeat=7, login_method="PLAIN", transport_options={"a": 1},
        uri_prefix="x", ssl=False,
    )  # fmt: skip
    assert (connection.hostname, connection.port, connection.host) == ("h", 1234, "h:1234")
    assert (connection.userid, connection.password, connection.virtual_host) == ("u", "p", "v")
    assert (connection.connect_timeout, connection.heartbeat, connection.login_method) == (3, 7, "PLAIN")
    assert (connection.transport_options, connection.uri_prefix, connection.ssl) == ({"a": 1}, "x", False)
    assert connection.declared_entities == set()
    assert connection.cycle is None
    assert connection.connected is False


def test_the_class_has_the_documented_defaults(lib: Library) -> None:
    """Which documentation and subclasses read."""
    connection = lib.Connection
    assert connection.heartbeat is connection.cycle is connection.declared_entities is None


def test_failover_strategy_is_kept(lib: Library) -> None:
    """By its name."""
    connection = lib.Connection("amqp://a;amqp://b", failover_strategy="shuffle")
    assert connection.info()["failover_strategy"] == "shuffle"
    functions = lib.Connection.failover_strategies
    assert set(functions) == {"round-robin", "shuffle"}
    expected = lib.either("failover-strategy-attribute", kombu=functions["shuffle"], actors="shuffle")
    assert connection.failover_strategy == expected


def test_an_unknown_failover_strategy_is_refused(lib: Library, dead_url: str) -> None:
    """When it is given, not when it is needed."""
    kwargs = {"failover_strategy": "bogus"}
    if lib.either("unknown-failover-strategy", kombu=True, actors=False):
        lib.Connection(dead_url, **kwargs)
    else:
        with pytest.raises(ValueError, match="round-robin"):
            lib.Connection(dead_url, **kwargs)


def test_unknown_arguments(lib: Library) -> None:
    """A typo is an error."""
    if lib.either("unknown-arguments", kombu=True, actors=False):
        lib.Connection("amqp://", hartbeat=3)
    else:
        with pytest.raises(TypeError, match="hartbeat"):
            lib.Connection("amqp://", hartbeat=3)


def test_as_uri_masks_the_password(lib: Library) -> None:
    """Unless told otherwise; so does the repr."""
    connection = lib.Connection("amqp://user:secret@h:1234/v")
    assert connection.as_uri() == "amqp://user:**@h:1234/v"
    assert connection.as_uri(mask="??") == "amqp://user:??@h:1234/v"
    assert connection.as_uri(include_password=True) == "amqp://user:secret@h:1234/v"
    chosen = itemgetter("port", "userid", "password", "virtual_host", "transport")
    assert connection.as_uri(getfields=chosen) == "amqp://user:**@h:1234/v"
    assert "secret" not in repr(connection)
    assert "amqp://user:**@h:1234/v" in repr(connection)


def test_as_uri_of_several_shows_the_one_in_use(lib: Library) -> None:
    """No password of any of them."""
    connection = lib.Connection("amqp://u:secret1@a//;amqp://u:secret2@b//")
    assert connection.as_uri() == "amqp://u:**@a:5672//"
    assert "secret" not in repr(connection)


def test_as_uri_without_user(lib: Library) -> None:
    """Shows none, and no mask where there is nothing to hide."""
    shown = lib.Connection("memory://x").as_uri()
    assert shown == lib.either("mask-without-password", kombu="memory://:**@x//", actors="memory://x//")


def test_uri_prefix_is_shown(lib: Library) -> None:
    """In front."""
    shown = lib.Connection("amqp://u:p@h", uri_prefix="pre").as_uri()
    assert shown == lib.either("uri-prefix", kombu="pre+h", actors="pre+amqp://u:**@h:5672//")


def test_clones_and_copies_are_new_connections_with_the_same_parameters(lib: Library) -> None:
    """Except for those given."""
    connection = lib.Connection("amqp://u:p@a//;amqp://u:p@b//", heartbeat=4, transport_options={"x": [1]})
    for other in (connection.clone(), copy.copy(connection), pickle.loads(pickle.dumps(connection))):
        assert other is not connection
        assert type(other) is type(connection)
        assert other.info() == connection.info()
        assert other.connected is False
    assert connection.clone(heartbeat=9).heartbeat == 9
    again = lib.Connection(**connection.info())
    assert again.info() == connection.info()


def test_a_pickled_connection_works(lib: Library, connection: Any, url: str, name: str) -> None:
    """Also one that was connected."""
    connection.connect()
    with pickle.loads(pickle.dumps(connection)) as other:
        assert other.connected is False
        other.connect()
        assert other.connected


def test_eqhash_tells_brokers_apart(lib: Library) -> None:
    """Pools are found by it."""
    one, same, other = (
        lib.Connection(url).__eqhash__() for url in ("amqp://u:p@h/v", "amqp://u:p@h/v", "amqp://u:q@h/v")
    )
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    options = [lib.Connection("amqp://", transport_options={"a": n}).__eqhash__() for n in (1, 2)]
    assert options[0] != options[1]


def test_eqhash_sees_tls(lib: Library) -> None:
    """A connection with TLS is no stand-in for one without."""
    plain, secure = (lib.Connection("amqp://h:1/v", ssl=ssl).__eqhash__() for ssl in (False, True))
    assert (plain == secure) is lib.either("eqhash-tls", kombu=True, actors=False)


def test_nothing_is_connected_until_it_is_needed(lib: Library, dead_url: str) -> None:
    """Making, describing, cloning and releasing a connection dials nobody."""
    connection = lib.Connection(dead_url)
    connection.info()
    connection.clone()
    connection.Producer()
    assert connection.supports_heartbeats
    assert connection.connected is False
    connection.release()


def test_a_refused_connect_is_a_recoverable_connection_error(lib: Library, dead_url: str) -> None:
    """An ``OSError``, as kombu's code catches it."""
    connection = lib.Connection(dead_url)
    with pytest.raises(connection.recoverable_connection_errors) as caught:
        connection.connect()
    assert isinstance(caught.value, (OSError, ConnectionError))
    with pytest.raises(lib.module("exceptions").OperationalError):
        connection.ensure_connection(max_retries=1, interval_start=0, interval_max=0)
    connection.release()


def test_a_wrong_password_is_said_at_once(lib: Library, broker_url: str) -> None:
    """403, and never retried."""
    heard: list[Any] = []
    connection = lib.Connection(broker_url.replace("guest:guest", "guest:wrong"))
    with pytest.raises(amqp.AccessRefused) as caught:
        connection.ensure_connection(errback=lambda *args: heard.append(args))
    assert caught.value.reply_code == 403
    assert not heard
    connection.release()


def test_connecting_releasing_and_connecting_again(lib: Library, connection: Any) -> None:
    """A released connection may be used again."""
    connection.connect()
    assert connection.connected
    assert connection.connection is not None
    connection.release()
    assert bool(connection.connected) is False
    connection.release()
    connection.connect()
    assert connection.connected
    connection.close()
    assert bool(connection.connected) is False


def test_leaving_the_block_releases(lib: Library, url: str) -> None:
    """Also when it is left by an error, which comes through."""
    connection = lib.Connection(url)
    with connection as entered:
        assert entered is connection
        connection.connect()
    assert connection.connected is False

    def fail() -> None:
        connection.connect()
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"), connection:
        fail()
    assert connection.connected is False


def test_the_default_channel_is_one_channel(lib: Library, connection: Any) -> None:
    """Made at the first access, made anew after a release; others are others."""
    channel = connection.default_channel
    assert connection.connected
    assert connection.default_channel is channel
    other = connection.channel()
    assert other is not channel
    other.close()
    connection.release()
    assert connection.default_channel is not channel


def test_a_channel_knows_its_connection(lib: Library, connection: Any) -> None:
    """By the path that kombu's code takes."""
    channel = connection.channel()
    assert channel.connection.client is connection
    assert isinstance(channel.channel_id, int)
    channel.close()
    channel.close()


def test_drain_events_ends_by_its_timeout(lib: Library, connection: Any, name: str) -> None:
    """With ``socket.timeout``."""
    with connection.Consumer(lib.Queue(name, auto_delete=True), callbacks=[print]):
        with pytest.raises(socket.timeout):
            connection.drain_events(timeout=0.1)
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.1)


def test_declared_entities_are_forgotten_with_the_connection(lib: Library, connection: Any, name: str) -> None:
    """The next broker may not have them."""
    queue = lib.Queue(name, lib.Exchange(name), name)
    producer = connection.Producer()
    assert producer.maybe_declare(queue)
    assert connection.declared_entities
    assert not producer.maybe_declare(queue)
    connection.release()
    assert not connection.declared_entities
    assert connection.Producer().maybe_declare(queue)


def test_error_tuples_sort_the_errors(lib: Library, broker_url: str) -> None:
    """Connection or channel, worth trying again or not."""
    connection = lib.Connection(broker_url)
    everything = (
        amqp.ConnectionForced, amqp.RecoverableConnectionError, amqp.AccessRefused, amqp.NotFound, amqp.ResourceLocked,
        amqp.PreconditionFailed, amqp.NotAllowed, amqp.InternalError, amqp.NoConsumers, amqp.ResourceError, OSError,
        ConnectionResetError, socket.timeout, amqp.RecoverableChannelError, amqp.ConsumerCancelled,
        amqp.exceptions.MessageNacked, amqp.FrameSyntaxError,
        amqp.InvalidCommand, amqp.ChannelNotOpen, amqp.UnexpectedFrame, ValueError,
    )  # fmt: skip
    oracle = Library("kombu").Connection(broker_url)
    for kind in ("connection_errors", "channel_errors"):
        for tuples in (kind, f"recoverable_{kind}"):
            found = {error for error in everything if issubclass(error, getattr(connection, tuples))}
            assert found == {error for error in everything if issubclass(error, getattr(oracle, tuples))}, tuples


@pytest.mark.parametrize("error", [amqp.RecoverableConnectionError("x"), ConnectionResetError("x")])
def test_errors_become_the_librarys_own(lib: Library, broker_url: str, error: Exception) -> None:
    """Celery publishes in such a block, and tells its callers of ``OperationalError`` only."""
    connection = lib.Connection(broker_url)
    with pytest.raises(lib.module("exceptions").OperationalError) as raised, connection._reraise_as_library_errors():
        raise error
    assert raised.value.__cause__ is error
    for other in (ValueError("mine"), amqp.NotFound("no such queue")):
        with pytest.raises(type(other)), connection._reraise_as_library_errors():
            raise other


def test_what_the_transport_can_do(lib: Library, connection: Any, url: str) -> None:
    """Heartbeats on AMQP, exchange types everywhere."""
    scheme = url.partition(":")[0]
    assert connection.supports_heartbeats is (scheme == "amqp")
    assert bool(connection.get_heartbeat_interval()) is lib.either(
        "heartbeat-default", kombu=False, actors=scheme == "amqp"
    )
    assert connection.is_evented is (scheme != "memory")
    assert all(connection.supports_exchange_type(kind) for kind in ("direct", "topic", "fanout"))
    assert connection.supports_exchange_type("headers") is (
        scheme != "redis" or lib.either("redis-exchange-types", kombu=False, actors=True)
    )
    assert not connection.supports_exchange_type("nosuch")
    assert connection.qos_semantics_matches_spec is (scheme != "amqp")  # RabbitMQ's differ since 3.3
    transport, oracle = connection.transport, Library("kombu").Connection(url).transport
    assert transport.driver_type == oracle.driver_type == scheme
    assert transport.default_port == oracle.default_port
    assert transport.default_connection_params == oracle.default_connection_params
    assert transport.implements.heartbeats is oracle.implements.heartbeats
    assert transport.implements.asynchronous is oracle.implements.asynchronous
    assert transport.implements.exchange_type >= oracle.implements.exchange_type


def test_heartbeat_check_needs_no_answer(lib: Library, connection: Any) -> None:
    """Old loops call it each second."""
    connection.connect()
    assert connection.heartbeat_check() is None
    assert connection.heartbeat_check(rate=4) is None


def test_without_heartbeat_asked_for(lib: Library, broker_url: str, connect: Callable[..., Any]) -> None:
    """kombu turns them off; here they cost the caller nothing, so they are on."""
    connection = connect(broker_url)
    connection.connect()
    assert connection.get_heartbeat_interval() == lib.either("heartbeat-default", kombu=0, actors=15)


def test_with_heartbeat_asked_for(lib: Library, broker_url: str, connect: Callable[..., Any]) -> None:
    """It is agreed on."""
    connection = connect(broker_url, heartbeat=11)
    connection.connect()
    assert connection.get_heartbeat_interval() == 11


def test_switch_uses_another_broker_from_now_on(lib: Library, connection: Any, url: str, dead_url: str) -> None:
    """It closes and doesn't reconnect."""
    connection.connect()
    connection.switch("amqp://u:p@elsewhere:77/v")
    assert not connection.connected
    assert (connection.hostname, connection.port, connection.virtual_host) == ("elsewhere", 77, "v")
    assert connection.as_uri() == "amqp://u:**@elsewhere:77/v"
    connection.switch(url)
    connection.connect()
    assert connection.connected


def test_switch_takes_a_host_name(lib: Library) -> None:
    """The other parameters stay what they were given as."""
    connection = lib.Connection("one", userid="u", password="p")
    connection.switch("two")
    assert (connection.hostname, connection.userid, connection.password) == ("two", "u", "p")


def test_maybe_close_channel_ignores_what_is_gone(lib: Library, connection: Any) -> None:
    """Closed twice, or closed with its connection."""
    channel, other = connection.channel(), connection.channel()
    assert connection.maybe_close_channel(channel) is None
    connection.maybe_close_channel(channel)
    connection.release()
    connection.maybe_close_channel(other)


def test_collect_drops_the_connection_without_ceremony(lib: Library, connection: Any) -> None:
    """And the next use makes a new one."""
    connection.connect()
    connection.collect()
    assert not connection.connected
    assert connection.declared_entities == set()
    assert connection.default_channel is not None


def test_revive_changes_the_default_channel(lib: Library, connection: Any) -> None:
    """The former is no longer the default."""
    former, new = connection.default_channel, connection.channel()
    connection.revive(new)
    assert connection.default_channel is not former
    connection.revive(connection.default_channel)


def test_failover_reaches_the_living_broker(
    lib: Library, broker_url: str, dead_url: str, connect: Callable[..., Any]
) -> None:
    """From a dead one, in whatever form they are given, by each strategy."""
    forms = [f"{dead_url};{broker_url}", [dead_url, broker_url]]
    for urls in forms:
        with lib.Connection(urls) as connection:
            connection.ensure_connection(max_retries=2, interval_start=0, interval_step=0, interval_max=0)
            assert connection.connected
            assert connection.port == int(broker_url.split(":")[3].split("/")[0])
    for strategy in ("round-robin", "shuffle", cycle):
        with lib.Connection([dead_url, broker_url], failover_strategy=strategy) as connection:
            connection.ensure_connection(max_retries=20, interval_start=0, interval_step=0, interval_max=0)
            assert connection.connected


def test_round_robin_goes_round(lib: Library) -> None:
    """``cycle`` yields the URLs after the first, for ever."""
    connection = lib.Connection("amqp://a;amqp://b;amqp://c")
    assert list(islice(connection.cycle, 4)) == ["amqp://b", "amqp://c", "amqp://a", "amqp://b"]


def test_an_own_strategy_is_asked(lib: Library) -> None:
    """A callable makes an iterator of the URLs."""
    asked: list[list[str]] = []

    def last_first(urls: list[str]) -> Any:
        asked.append(list(urls))
        return cycle(reversed(urls))

    connection = lib.Connection(["amqp://a", "amqp://b", "amqp://c"], failover_strategy=last_first)
    assert asked
    assert asked[0] == ["amqp://a", "amqp://b", "amqp://c"]
    assert list(islice(connection.cycle, 3)) == ["amqp://b", "amqp://a", "amqp://c"]


def test_maybe_switch_next_moves_on(lib: Library) -> None:
    """Through the URLs in the strategy's order."""
    connection = lib.Connection("amqp://a;amqp://b;amqp://c")
    hosts = []
    for _ in range(4):
        connection.maybe_switch_next()
        hosts.append(connection.hostname)
    assert hosts == ["b", "c", "a", "b"]
    single = lib.Connection("amqp://a")
    single.maybe_switch_next()
    assert single.hostname == "a"


def test_completes_cycle_counts_the_hosts(lib: Library) -> None:
    """A sleep is due when all have failed once more."""
    connection = lib.Connection("amqp://a;amqp://b;amqp://c")
    assert [connection.completes_cycle(n) for n in range(6)] == [False, False, True] * 2
    assert lib.Connection("amqp://a").completes_cycle(0)


def test_a_lost_connection_is_noticed(
    lib: Library,
    rabbitmq: RabbitMQNode,
    shared_vhost: str,
    fault_proxy: Callable[[int], FaultProxy],
    connect: Callable[..., Any],
) -> None:
    """While draining: kombu raises, here supervision repairs."""
    proxy = fault_proxy(rabbitmq.port)
    connection = connect(rabbitmq.url(vhost=shared_vhost, port=proxy.port))
    connection.connect()
    proxy.reset()
    raises = lib.either("drain-events-recovers", kombu=connection.recoverable_connection_errors, actors=TimeoutError)
    with pytest.raises(raises):
        connection.drain_events(timeout=2)
    connection.ensure_connection(max_retries=5)
    assert connection.connected


def test_makers_make_what_they_say(lib: Library, connection: Any, name: str) -> None:
    """On this connection, or on the channel given."""
    producer, consumer = connection.Producer(), connection.Consumer([])
    assert isinstance(producer, lib.Producer)
    assert isinstance(consumer, lib.Consumer)
    assert producer.connection is connection
    assert consumer.connection is connection
    channel = connection.channel()
    assert connection.Producer(channel).channel is channel
    assert connection.Consumer([], channel).channel is channel
    channel.close()


def test_a_channel_too_many_is_refused_at_once(
    lib: Library, connect: Callable[..., Any], rabbitmq: RabbitMQNode, broker_url: str
) -> None:
    """The broker grants four channels; closing one makes room."""
    rabbitmq.eval("application:set_env(rabbit, channel_max, 4)")
    try:
        connection = connect(broker_url)
        connection.connect()
    finally:
        rabbitmq.eval("application:set_env(rabbit, channel_max, 2047)")
    refusal = lib.either(
        "channel-limit", kombu=amqp.exceptions.ResourceError, actors=lib.module("exceptions").ChannelLimitExceeded
    )
    channels = [connection.channel() for _ in range(lib.either("channel-limit", kombu=4, actors=3))]
    with pytest.raises(refusal):
        connection.channel()
    channels.pop().close()
    channels.append(connection.channel())
