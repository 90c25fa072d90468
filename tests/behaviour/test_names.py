"""Every name that kombu 5.7 makes public is here, but for a short list with reasons."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import kombu_actors

OTHER_BROKERS = (
    *("SLMQ", "SQS", "azureservicebus", "azurestoragequeues", "confluentkafka", "consul", "etcd", "filesystem"),
    *("gcpubsub", "librabbitmq", "mongodb", "pgmq", "pyro", "qpid", "sqlalchemy", "zookeeper"),
)
MODULES_ELSEWHERE = {
    **{f"transport.{one}": "kombu_actors has AMQP 0-9-1, Redis and memory" for one in OTHER_BROKERS},
    "asynchronous.aws": "the client of kombu's SQS transport",
    "asynchronous.http": "the same",
    "transport.virtual.base": "what transports of a program's own are made of; there are none here",
    "transport.virtual.exchange": "the same",
    "utils.scheduling": "how kombu's transports take turns among queues; here brokers do",
}
"""Modules that are not here, each with all below it, and why."""
NAMES_ELSEWHERE = {
    "transport.redis": {
        *("GlobalKeyPrefixMixin", "MultiChannelPoller", "Mutex", "MutexHeld", "PrefixedRedisPipeline", "PublishBatch"),
        *("PrefixedRedisPubSub", "PrefixedStrictRedis", "QoS", "SentinelManagedSSLConnection"),
    },  # redis-py as kombu bends it: scripts in the server do that work
}
"""Names that are not here, by module."""
MEMBERS_ELSEWHERE = {
    "Channel": {
        *("auto_decode", "basic_recover_async", "collect", "dispatch_method", "is_closing", "message_to_python"),
        *("method_queue", "open", "send_method", "then", "wait"),  # py-amqp's way of working
        *("tx_commit", "tx_rollback", "tx_select"),  # publishes are confirmed instead
        *("Message", "basic_publish_confirm"),
    },
    "Transport": {"on_readable"},  # the runtime reads
    "LRUCache": {"fromkeys"},  # which would have no limit
}


def kombu_modules() -> Iterator[tuple[str, ModuleType]]:
    """kombu's modules that can be imported here, by their names without ``kombu.``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package = importlib.import_module("kombu")
        for info in pkgutil.walk_packages(package.__path__, "kombu."):
            name = info.name.removeprefix("kombu.")
            if any(name == one or name.startswith(f"{one}.") for one in MODULES_ELSEWHERE):
                continue
            yield name, importlib.import_module(info.name)


def public_names(module: ModuleType) -> set[str]:
    """What a module offers: its ``__all__``, or what it defines itself without underscore."""
    offered: list[str] | None = getattr(module, "__all__", None)
    if offered is not None:
        return set(offered)
    return {
        name
        for name, thing in vars(module).items()
        if not name.startswith("_") and getattr(thing, "__module__", None) == module.__name__
    }


KOMBU = dict(kombu_modules())


@pytest.mark.parametrize("name", KOMBU)
def test_each_public_name_of_kombus_is_here(name: str) -> None:
    """In the module of the same name."""
    ours = importlib.import_module(f"kombu_actors.{name}")
    missing = {one for one in public_names(KOMBU[name]) if not hasattr(ours, one)}
    assert missing == NAMES_ELSEWHERE.get(name, set())


def test_the_packages_own_names_are_here() -> None:
    """And its version, which programs compare."""
    names = {*importlib.import_module("kombu").__all__, "VERSION", "version_info", "version_info_t", "__version__"}
    assert {one for one in names if not hasattr(kombu_actors, one)} == set()


def test_no_exception_is_idle() -> None:
    """What has come here meanwhile leaves the lists."""
    assert {name for name in MODULES_ELSEWHERE if _is_module(f"kombu_actors.{name}")} == set()
    assert set(NAMES_ELSEWHERE) <= set(KOMBU)


def _is_module(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        return False
    return True


def members(cls: Any) -> set[str]:
    """The public methods and properties of a class."""
    return {name for name, thing in inspect.getmembers(cls) if not name.startswith("_") and _is_work(thing)}


def _is_work(thing: object) -> bool:
    return inspect.isroutine(thing) or inspect.isdatadescriptor(thing) or inspect.isclass(thing)


OBJECTS = [
    *("Connection", "Consumer", "Exchange", "Message", "Producer", "Queue", "binding"),
    *("asynchronous.hub:Hub", "asynchronous.semaphore:LaxBoundedSemaphore", "asynchronous.timer:Entry"),
    *("asynchronous.timer:Timer", "clocks:LamportClock", "common:Broadcast", "common:QoS", "compat:Consumer"),
    *("compat:ConsumerSet", "compat:Publisher", "connection:ChannelPool", "connection:ConnectionPool"),
    *("log:LogMixin", "matcher:MatcherRegistry", "mixins:ConsumerMixin", "mixins:ConsumerProducerMixin"),
    *("pidbox:Mailbox", "pidbox:Node", "pools:ProducerPool", "resource:Resource", "serialization:SerializerRegistry"),
    *("simple:SimpleBuffer", "simple:SimpleQueue", "transport.base:Transport", "utils.functional:LRUCache"),
    *("utils.limits:TokenBucket", "utils.objects:cached_property"),
]


@pytest.mark.parametrize("path", OBJECTS)
def test_objects_have_what_kombus_have(path: str) -> None:
    """Their public methods and properties."""
    module, _, name = path.rpartition(":")
    theirs, ours = (
        getattr(importlib.import_module(f"{package}.{module}".rstrip(".")), name)
        for package in ("kombu", "kombu_actors")
    )
    missing = {one for one in members(theirs) if not hasattr(ours, one)}
    assert missing == MEMBERS_ELSEWHERE.get(name, set())


@pytest.mark.parametrize("name", ["exchange", "routing_key", "serializer", "compression", "auto_declare", "on_return"])
def test_a_producers_class_has_the_documented_defaults(name: str) -> None:
    """kombu documents them as attributes of the class, for subclasses to look at."""
    assert getattr(kombu_actors.Producer, name) == getattr(importlib.import_module("kombu").Producer, name)


def test_channels_have_what_kombus_have() -> None:
    """But for py-amqp's way of working, and transactions."""
    theirs = importlib.import_module("kombu.transport.pyamqp").Channel
    ours = importlib.import_module("kombu_actors._facade.channel").Channel
    missing = {one for one in members(theirs) if not hasattr(ours, one)} - {"connection"}  # each channel has it
    assert missing == MEMBERS_ELSEWHERE["Channel"]


# What Celery imports


def names_that_celery_uses() -> set[tuple[str, str]]:
    """``(module, name)`` of all that Celery's sources import from kombu, or look up on what they import."""
    root = Path(str(importlib.import_module("celery").__file__)).parent
    used = set()
    for path in root.rglob("*.py"):
        tree = ast.parse(path.read_text())
        local: dict[str, tuple[str, str]] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "kombu" and not node.level:
                for alias in node.names:
                    local[alias.asname or alias.name] = (str(node.module), alias.name)
        used |= set(local.values())
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in local:
                module, name = local[node.value.id]
                used.add((module, f"{name}.{node.attr}"))
    return used


def is_there(module: str, path: str) -> bool:
    """Whether a module has a name, or a submodule of that name."""
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            if not hasattr(found, part):
                found = importlib.import_module(f"{found.__name__}.{part}")
            else:
                found = getattr(found, part)
    except (ImportError, AttributeError):
        return False
    return True


def test_all_that_celery_uses_is_here() -> None:
    """Whatever of it is in kombu as installed; Azure's transport is none of ours."""
    used = {(module, name) for module, name in names_that_celery_uses() if "azure" not in module}
    assert len(used) > 100
    missing = {(module, name) for module, name in used if not is_there(module.replace("kombu", "kombu_actors"), name)}
    assert {(module, name) for module, name in missing if is_there(module, name)} == set()


@pytest.mark.parametrize(
    "path",
    [
        *("compat:Consumer", "transport.base:StdChannel", "transport.pyamqp:Transport", "transport.virtual:Channel"),
        *("utils.debug:setup_logging", "log:get_logger", "connection:ConnectionPool", "connection:BrokerConnection"),
        *("serialization:pickle_loads", "utils:nested", "utils.compat:nested", "utils.objects:cached_property"),
        *("utils.imports:symbol_by_name", "abstract:MaybeChannelBound"),
    ],
)
def test_what_other_programs_use_is_here(path: str) -> None:
    """Found in 31 programs that are written for kombu."""
    module, _, name = path.partition(":")
    assert is_there(f"kombu_actors.{module}", name)
