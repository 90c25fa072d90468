"""Exchanges, queues and bindings: declared, deleted, and refused in RabbitMQ's words.

What a declaration may say is checked here, before it is sent; what it must agree with is on the server, which
answers with the first declaration's text.  ``virtual_host`` is what refusals call the database.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NoReturn, ParamSpec, TypeVar

from amqp.exceptions import AMQPError

from ..._values.model import BindingKind, BindingSpec, ExchangeSpec, QueueInfo, QueueSpec
from ..virtual._errors import (
    Named,
    access_refused,
    named_method,
    not_found,
    precondition_failed,
    resource_locked,
)
from ..virtual._routing import check_headers_binding
from ..virtual._topology import PREDECLARED
from .bindings import arguments_text, key_to_pattern
from .calls import PRESENT, Call
from .policies import check_same_exchange, check_same_queue, exchange_record, queue_record
from .scripts import ALL_SCRIPTS

__all__ = [
    "bind",
    "exchange_declare",
    "exchange_delete",
    "queue_declare",
    "queue_delete",
    "queue_purge",
    "unbind",
]

P = ParamSpec("P")
T = TypeVar("T")

Method = tuple[int, int]
"""Class and method of AMQP, which a refusal names."""
HOST: Final = "0"

_EXCHANGE_DECLARE: Final = (40, 10)
_EXCHANGE_DELETE: Final = (40, 20)
_BIND: Final = {BindingKind.QUEUE: (50, 20), BindingKind.EXCHANGE: (40, 30)}
_UNBIND: Final = {BindingKind.QUEUE: (50, 50), BindingKind.EXCHANGE: (40, 40)}
_QUEUE_DECLARE: Final = (50, 10)
_QUEUE_PURGE: Final = (50, 30)
_QUEUE_DELETE: Final = (50, 40)


# exchanges


def exchange_declare(spec: ExchangeSpec, *, passive: bool = False, virtual_host: str = HOST) -> Call[None]:
    """Declare an exchange; passively, only look whether it is there.

    Raises as the reply would: 403 for the default exchange, 503 for an unknown type, 406 for a bad argument.
    """
    what = Named("exchange", spec.name, virtual_host)
    _refuse_default(_EXCHANGE_DECLARE, spec.name)
    written = b"" if passive else _asked(_EXCHANGE_DECLARE, exchange_record, spec, what)

    def parse(word: bytes, text: bytes = b"") -> None:
        match word:
            case b"missing":
                _refuse(_EXCHANGE_DECLARE, not_found(what))
            case b"reserved":
                _refuse(_EXCHANGE_DECLARE, _reserved(what))
            case b"exists" if not passive:
                _asked(_EXCHANGE_DECLARE, check_same_exchange, text, spec, what)

    return Call(ALL_SCRIPTS["exchange_declare"], (spec.name.encode(), written, PRESENT[passive]), parse)


def exchange_delete(name: str, *, if_unused: bool = False, virtual_host: str = HOST) -> Call[None]:
    """Delete an exchange with its bindings; a missing one is as good as deleted."""
    what = Named("exchange", name, virtual_host)
    _refuse_default(_EXCHANGE_DELETE, name)
    if name in PREDECLARED:
        _refuse(_EXCHANGE_DELETE, access_refused(f"deletion of system {what} not allowed"))

    def parse(word: bytes) -> None:
        if word == b"in-use":
            _refuse(_EXCHANGE_DELETE, precondition_failed(f"{what} in use"))

    return Call(ALL_SCRIPTS["exchange_delete"], (name.encode(), PRESENT[if_unused]), parse)


# bindings


def bind(binding: BindingSpec, *, durable: bool = False, virtual_host: str = HOST) -> Call[None]:
    """Bind a queue or an exchange to an exchange.

    ``durable`` says how a fanout exchange's queue gets messages: True puts them into its list whether anybody
    consumes or not; False is kombu's way, for those who listen while it is published.
    """
    method = _BIND[binding.kind]
    _refuse_default(method, binding.source)
    if binding.kind is BindingKind.EXCHANGE:
        _refuse_default(method, binding.destination)
    destination = Named(binding.kind.value, binding.destination, virtual_host)

    def parse(word: bytes) -> None:
        match word:
            case b"no-exchange":
                _refuse(method, not_found(Named("exchange", binding.source, virtual_host)))
            case b"no-queue" | b"no-destination":
                _refuse(method, not_found(destination))
            case b"locked":
                _refuse(method, resource_locked(destination))
            case b"inseparable":
                _refuse(method, _inseparable(f"a name in the binding of {destination} to exchange '{binding.source}'"))
            case b"bad-match":
                try:
                    check_headers_binding(binding.arguments)
                except AMQPError as error:
                    _refuse(method, error)

    return Call(ALL_SCRIPTS["bind"], (*_binding(binding), PRESENT[durable]), parse)


def unbind(binding: BindingSpec, *, virtual_host: str = HOST) -> Call[None]:
    """Remove a binding, however it was made; one that isn't there is as good as removed."""
    method = _UNBIND[binding.kind]
    _refuse_default(method, binding.source)
    if binding.kind is BindingKind.EXCHANGE:
        _refuse_default(method, binding.destination)

    def parse(word: bytes) -> None:
        if word == b"locked":
            _refuse(method, resource_locked(Named("queue", binding.destination, virtual_host)))

    return Call(ALL_SCRIPTS["unbind"], _binding(binding), parse)


def _binding(binding: BindingSpec) -> tuple[bytes, ...]:
    return (
        binding.kind.value.encode(),
        binding.source.encode(),
        binding.destination.encode(),
        binding.routing_key.encode(),
        key_to_pattern(binding.routing_key).encode(),
        arguments_text(binding.arguments).encode(),
    )


# queues


def queue_declare(
    spec: QueueSpec, *, passive: bool = False, fresh: bool = False, virtual_host: str = HOST
) -> Call[QueueInfo]:
    """Declare a queue; passively, only look at it.  ``fresh`` when its name was made up for it.

    Raises as the reply would: 406 for a bad argument.
    """
    what = Named("queue", spec.name, virtual_host)
    written = b"" if passive else _asked(_QUEUE_DECLARE, queue_record, spec, what)

    def parse(word: bytes, text: bytes = b"", messages: int = 0, consumers: int = 0) -> QueueInfo:
        match word:
            case b"created" | b"exists":
                if word == b"exists" and not passive:
                    _asked(_QUEUE_DECLARE, check_same_queue, text, spec, what)
                return QueueInfo(spec.name, messages, consumers)
            case b"locked":
                _refuse(_QUEUE_DECLARE, resource_locked(what))
            case b"reserved":
                _refuse(_QUEUE_DECLARE, _reserved(what))
            case b"inseparable":
                _refuse(_QUEUE_DECLARE, _inseparable(f"the name of {what}"))
        _refuse(_QUEUE_DECLARE, not_found(what))

    arguments = (spec.name.encode(), written, PRESENT[passive], PRESENT[spec.exclusive], PRESENT[fresh])
    return Call(ALL_SCRIPTS["queue_declare"], arguments, parse)


def queue_delete(name: str, *, if_unused: bool = False, if_empty: bool = False, virtual_host: str = HOST) -> Call[int]:
    """Delete a queue; returns how many messages waited in it, 0 if there is none."""
    what = Named("queue", name, virtual_host)

    def parse(word: bytes, count: int = 0) -> int:
        match word:
            case b"locked":
                _refuse(_QUEUE_DELETE, resource_locked(what))
            case b"in-use":
                _refuse(_QUEUE_DELETE, precondition_failed(f"{what} in use"))
            case b"not-empty":
                _refuse(_QUEUE_DELETE, precondition_failed(f"{what} not empty"))
        return count

    return Call(ALL_SCRIPTS["queue_delete"], (name.encode(), PRESENT[if_unused], PRESENT[if_empty]), parse)


def queue_purge(name: str, *, virtual_host: str = HOST) -> Call[int]:
    """Drop what waits in a queue; returns how many that were.  What is unacknowledged stays so."""
    what = Named("queue", name, virtual_host)

    def parse(word: bytes, count: int = 0) -> int:
        match word:
            case b"locked":
                _refuse(_QUEUE_PURGE, resource_locked(what))
            case b"missing":
                _refuse(_QUEUE_PURGE, not_found(what))
        return count

    return Call(ALL_SCRIPTS["queue_purge"], (name.encode(),), parse)


# refusals


def _refuse(method: Method, error: AMQPError) -> NoReturn:
    raise named_method(error, *method)


def _refuse_default(method: Method, exchange: str) -> None:
    if not exchange:
        _refuse(method, access_refused("operation not permitted on the default exchange"))


def _reserved(what: Named) -> AMQPError:
    return access_refused(f"{what.kind} name '{what.name}' contains reserved prefix 'amq.*'")


def _inseparable(what: str) -> AMQPError:
    return precondition_failed(f"{what} holds the separator of kombu's keys (transport option 'sep')")


def _asked(method: Method, check: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Check something for a method, which its refusal then names."""
    try:
        return check(*arguments, **named)
    except AMQPError as error:
        _refuse(method, error)
