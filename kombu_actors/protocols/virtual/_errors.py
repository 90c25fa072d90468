"""RabbitMQ's refusals, word for word, as py-amqp's exception classes.

The wording was taken down from RabbitMQ 3.10.8: code that reads reply texts (it should not,
but it does) must find the same ones here.
"""

from __future__ import annotations

import attrs
from amqp import exceptions as amqp_errors


@attrs.frozen
class Named:
    """A queue or exchange as error texts name it."""

    kind: str
    name: str
    virtual_host: str

    def __str__(self) -> str:
        return f"{self.kind} '{self.name}' in vhost '{self.virtual_host}'"


def not_found(what: Named | str) -> amqp_errors.NotFound:
    """404: no such queue, exchange or last declared queue."""
    return amqp_errors.NotFound(f"NOT_FOUND - no {what}", reply_code=404)


def access_refused(why: str) -> amqp_errors.AccessRefused:
    """403: reserved names, exclusive consumers, the default exchange."""
    return amqp_errors.AccessRefused(f"ACCESS_REFUSED - {why}", reply_code=403)


def resource_locked(what: Named) -> amqp_errors.ResourceLocked:
    """405: an exclusive queue, asked for by somebody else."""
    return amqp_errors.ResourceLocked(
        f"RESOURCE_LOCKED - cannot obtain exclusive access to locked {what}. It could be originally declared on "
        "another connection or the exclusive property value does not match that of the original declaration.",
        reply_code=405,
    )


def precondition_failed(why: str) -> amqp_errors.PreconditionFailed:
    """406: arguments that are wrong, or differ from those of the first declaration."""
    return amqp_errors.PreconditionFailed(f"PRECONDITION_FAILED - {why}", reply_code=406)


def command_invalid(why: str) -> amqp_errors.InvalidCommand:
    """503, which closes the connection: a command that makes no sense."""
    return amqp_errors.InvalidCommand(f"COMMAND_INVALID - {why}", reply_code=503)


def not_allowed(why: str) -> amqp_errors.NotAllowed:
    """530, which closes the connection."""
    return amqp_errors.NotAllowed(f"NOT_ALLOWED - {why}", reply_code=530)


def not_implemented(why: str) -> amqp_errors.AMQPNotImplementedError:
    """540, which closes the connection: parts of AMQP that RabbitMQ leaves out."""
    return amqp_errors.AMQPNotImplementedError(f"NOT_IMPLEMENTED - {why}", reply_code=540)


def invalid_argument(argument: str, what: Named, why: str) -> amqp_errors.PreconditionFailed:
    """406 for one declaration argument."""
    return precondition_failed(f"invalid arg '{argument}' for {what}: {why}")


def inequivalent(argument: str, what: Named, received: object, current: object) -> amqp_errors.PreconditionFailed:
    """406 for a redeclaration that differs; ``None`` stands for an argument not given."""
    if received is None or current is None:
        said, has = _described(received), _described(current)
    else:
        said, has = f"'{_plain(received)}'", f"'{_plain(current)}'"
    return precondition_failed(f"inequivalent arg '{argument}' for {what}: received {said} but current is {has}")


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _described(value: object) -> str:
    return "none" if value is None else f"the value '{_plain(value)}' of type '{wire_type(value)}'"


def wire_type(value: object) -> str:
    """The name RabbitMQ gives to the field type this value travels as."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "signedint" if -(2**31) < value < 2**31 else "long"
    names = {float: "double", str: "longstr", bytes: "longstr", dict: "table", list: "array", type(None): "void"}
    return next((name for kind, name in names.items() if isinstance(value, kind)), type(value).__name__.lower())


def named_method(error: amqp_errors.AMQPError, class_id: int, method_id: int) -> amqp_errors.AMQPError:
    """Note on a refusal which method it answers, as ``channel.close`` and ``connection.close`` do."""
    signature = (class_id, method_id)
    error.method_sig = signature
    error.method_name = amqp_errors.METHOD_NAME_MAP.get(signature, "")
    error.args = (error.reply_code, error.reply_text, signature, error.method_name)
    return error
