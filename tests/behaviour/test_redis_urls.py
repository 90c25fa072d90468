"""``Connection`` with Redis's URLs: the same parameters as kombu's."""

from __future__ import annotations

import logging
import pickle
from ssl import CERT_NONE, CERT_REQUIRED
from typing import Any

import pytest

import kombu_actors

from .libraries import Library
from .test_connection import FIELDS

FORMS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    (("redis://",), {}),
    (("redis://h",), {}),
    (("redis://h/",), {}),
    (("redis://h//",), {}),
    (("redis://h/1",), {}),
    (("redis://h//1",), {}),
    (("redis://h:1234/2",), {}),
    (("redis://u:p@h:1234/2",), {}),
    (("redis://:p%40%2F@h/2",), {}),
    (("redis://u@h",), {}),
    (("redis://[::1]:1/0",), {}),
    (("redis://h/1?ssl_cert_reqs=required",), {}),
    (("rediss://h",), {}),
    (("rediss://:p@h:1/1",), {}),
    (("redis+socket:///tmp/r.sock",), {}),
    (("redis://a/1;redis://b/2",), {}),
    ((["redis://a", "redis://b"],), {}),
    (("sentinel://a",), {}),
    (("sentinel://a:1/2",), {}),
    (("sentinel://:p@a/1;sentinel://:p@b/1",), {"transport_options": {"master_name": "m"}}),
    (("h",), {"transport": "redis"}),
    (("h",), {"transport": "redis", "virtual_host": "2", "password": "p", "port": 5}),
    (("h",), {"transport": "rediss", "ssl": {"ssl_cert_reqs": CERT_REQUIRED}}),
    (("h",), {"transport": "sentinel"}),
    (("redis://u:p@h:1/2",), {"userid": "x", "password": "y", "port": 3, "virtual_host": "4"}),
    (("redis://h",), {"transport_options": {"visibility_timeout": 30, "priority_steps": [0, 5]}}),
]


@pytest.mark.parametrize(("args", "kwargs"), FORMS)
def test_every_form_of_url_is_understood_alike(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """URLs, lists, host names and keywords come to the same parameters."""
    theirs, ours = (Library(name).Connection(*args, **kwargs).info() for name in ("kombu", "kombu_actors"))
    assert {field: ours[field] for field in FIELDS} == {field: theirs[field] for field in FIELDS}


@pytest.mark.parametrize(
    "url",
    ["redis://u:secret@h:1/2", "rediss://:secret@h:1/2", "redis+socket://:secret@/tmp/x.sock", "sentinel://:secret@h"],
)
def test_as_uri_masks_the_password(lib: Library, url: str) -> None:
    """Unless it is asked for."""
    assert "secret" not in repr(lib.Connection(url)) + lib.Connection(url).as_uri()
    assert lib.Connection(url).as_uri() == Library("kombu").Connection(url).as_uri()
    assert "secret" in lib.Connection(url).as_uri(include_password=True)


def test_a_unix_socket_keeps_its_database(lib: Library) -> None:
    """kombu's form: it stands in the query, and is shown with the password only."""
    connection = lib.Connection("redis+socket://:secret@/tmp/x.sock?virtual_host=3")
    assert connection.as_uri() == "redis+socket://:**@/tmp/x.sock"
    assert connection.as_uri(include_password=True) == "redis+socket://:secret@/tmp/x.sock?virtual_host=3"
    assert connection.info()["virtual_host"] == lib.either("socket-database", kombu="/", actors="3")


def test_encryption_is_verified(lib: Library, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever wants it otherwise says so."""
    caplog.set_level(logging.ERROR)
    assert lib.Connection("rediss://h").ssl == lib.either(
        "rediss-verified", kombu={"ssl_cert_reqs": CERT_NONE}, actors=False
    )
    named = lib.Connection("rediss://h?ssl_cert_reqs=none").ssl
    assert list(named.values()) == [CERT_NONE]


def test_the_urls_of_a_sentinel_group_belong_together(lib: Library) -> None:
    """Two sentinels, the scheme written once, the database at the end."""
    info = lib.Connection("sentinel://a:1;b:2/3").info()
    found = (info["virtual_host"], info["alternates"])
    assert found == lib.either(
        "sentinel-urls-together",
        kombu=("/", ["sentinel://a:1", "b:2/3"]),
        actors=("3", ["sentinel://a:1", "sentinel://b:2/3"]),
    )


def test_a_database_is_a_number(lib: Library) -> None:
    """Told when the connection is made, or when it is opened."""
    refusals = lib.either("bad-url-errors", kombu=ValueError, actors=lib.module("exceptions").KombuError)
    with pytest.raises(refusals):
        lib.Connection("redis://h/abc").connect()


# -- ours alone ---------------------------------------------------------------------------------------


def endpoints(connection: Any) -> list[tuple[Any, ...]]:
    return [(*each.address, each.tls) for each in connection._endpoints]


@pytest.mark.parametrize(
    "url",
    [
        "redis://u:p@h:1/2",
        "rediss://h?ssl_cert_reqs=none",
        "redis+socket://:p@/tmp/x.sock?virtual_host=3",
        "redis+socket:///tmp/x.sock?db=3&heartbeat=7",
        "sentinel://u:p@a/3;b:2;sentinel://c",
        "redis://a/1;b/2",
    ],
)
def test_a_connection_can_be_made_again_from_what_it_tells(url: str) -> None:
    """From ``info()``, by ``clone()``, and by pickling."""
    connection = kombu_actors.Connection(url, transport_options={"master_name": "m"})
    for again in (
        kombu_actors.Connection(**connection.info()),
        connection.clone(),
        pickle.loads(pickle.dumps(connection)),
    ):
        assert endpoints(again) == endpoints(connection)
        assert again.as_uri(include_password=True) == connection.as_uri(include_password=True)
        assert again.heartbeat == connection.heartbeat


@pytest.mark.parametrize("query", ["?virtual_host=3", "?db=3", "?db=3&heartbeat=7", "?heartbeat=7&virtual_host=3"])
def test_the_database_of_a_unix_socket_is_no_setting_of_the_connection(query: str) -> None:
    """It stays with its URL when the rest of the query is applied to all."""
    connection = kombu_actors.Connection(f"redis+socket:///tmp/x.sock{query}")
    assert [each.database for each in connection._endpoints] == [3]
    assert connection.heartbeat == (7 if "heartbeat" in query else 0)


def test_what_one_sentinel_url_says_holds_for_all_and_only_for_sentinels() -> None:
    """User, password and database; alternates of other schemes are servers of their own."""
    group = kombu_actors.Connection("sentinel://a;sentinel://u:p@b/3;c:7")
    assert {(each.userid, each.password, each.database) for each in group._endpoints} == {("u", "p", 3)}
    assert [(each.host, each.port) for each in group._endpoints] == [("a", 26379), ("b", 26379), ("c", 7)]
    servers = kombu_actors.Connection("redis://:p@a/1;redis://b")
    assert [(each.password, each.database) for each in servers._endpoints] == [("p", 1), (None, 0)]


def test_the_transport_is_told_all_its_options() -> None:
    """As they were given, and unchangeable; shown by nobody."""
    connection = kombu_actors.Connection("redis://h", transport_options={"client_name": "billing"})
    given = connection._parameters.link_options().transport_options
    assert given == {"client_name": "billing"}
    with pytest.raises(TypeError):
        given["client_name"] = "other"  # type: ignore[index]
