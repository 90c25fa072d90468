"""Functions are called with what their annotations ask for; what can't be given is a mistake from the start."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from operator import attrgetter
from typing import Annotated, Any, Never, cast

import pytest

from kombu_actors.fleet import Batch, Depends, FleetMistake, Message, PayloadError
from kombu_actors.fleet._handlers import plan_handler, plan_job, plan_key, plan_resource
from kombu_actors.fleet._plans import ResourceFunction
from tests.fleet.payload_classes import Order


class Pool:
    """What a resource yields."""


async def pool() -> AsyncIterator[Pool]:
    yield Pool()


async def clock() -> AsyncIterator[int]:
    yield 3


async def stranger() -> AsyncIterator[int]:
    yield 3


NO_POOL = Pool()
RESOURCES: Collection[ResourceFunction] = (pool, clock)
Db = Annotated[Pool, Depends(pool)]


class Letter:
    """Stands for a message: all that a plan looks at is its payload."""

    def __init__(self, payload: object) -> None:
        self.payload = payload


def letter(payload: object) -> Message:
    return cast(Message, Letter(payload))


def called(function: Callable[..., object], payload: object, *values: object) -> tuple[Message, object]:
    """The message, and what the handler was called with."""
    message = letter(payload)
    return message, plan_handler(function, batch=None, resources=RESOURCES).call(message, values)


def payload_only(order: Order) -> list[object]:
    return [order]


def payload_and_message(order: Order, message: Message) -> list[object]:
    return [order, message]


def turned_round(db: Db, message: Message, order: Order, now: Annotated[int, Depends(clock)]) -> list[object]:
    return [db, message, order, now]


def with_defaults(order: Order, factor: int = 2, *, message: Message, db: Db) -> list[object]:
    return [order, factor, message, db]


def with_gap(order: Order, factor: int = 2, message: Message | None = None, db: Db = NO_POOL) -> list[object]:
    return [order, factor, message, db]


def nothing_annotated(order) -> list[object]:  # type: ignore[no-untyped-def]  # as some write
    return [order]


def nothing_asked() -> list[object]:
    return []


def twice(db: Db, again: Db, message: Message) -> list[object]:
    return [db, again, message]


def test_each_parameter_gets_what_its_annotation_asks_for() -> None:
    """In any order, by place or by name."""
    order, db = Order("1", "c", 3), Pool()
    assert called(payload_only, order)[1] == [order]
    message, got = called(payload_and_message, order)
    assert got == [order, message]
    message, got = called(turned_round, order, db, 3)
    assert got == [db, message, order, 3]
    message, got = called(with_defaults, order, db)
    assert got == [order, 2, message, db]
    message, got = called(with_gap, order, db)
    assert got == [order, 2, message, db]
    assert called(nothing_annotated, "x")[1] == ["x"]
    assert called(nothing_asked, "x")[1] == []
    message, got = called(twice, "x", db)
    assert got == [db, db, message]
    assert plan_handler(turned_round, batch=None, resources=RESOURCES).resources == (pool, clock)
    assert plan_handler(twice, batch=None, resources=RESOURCES).resources == (pool,)


def test_the_payload_is_made_into_what_is_annotated() -> None:
    """By the decoder of the plan; there is none where nothing is to be made."""
    plan = plan_handler(payload_only, batch=None, resources=())
    assert plan.decode is not None
    assert plan.decode({"id": "1", "customer": "c", "cents": 3}) == Order("1", "c", 3)
    with pytest.raises(PayloadError, match=r"\$\.customer: expected str, got 3"):
        plan.decode({"id": "1", "customer": 3, "cents": 3})
    for function in (nothing_annotated, nothing_asked, twice):
        assert plan_handler(function, batch=None, resources=RESOURCES).decode is None


async def messages_only(events: list[Message]) -> None:
    """Gets the messages."""


def payloads_and_messages(db: Db, orders: Sequence[Order], events: list[Message]) -> None:
    heard.append([db, orders, events])


heard: list[list[object]] = []


def test_a_batch_comes_as_messages_or_as_payloads_or_both() -> None:
    """The decoder is for one of them, so that one that is no order is dead-lettered alone."""
    plan = plan_handler(payloads_and_messages, batch=Batch(), resources=RESOURCES)
    assert plan.decode is not None
    assert plan.decode({"id": "1", "customer": "c", "cents": 3}) == Order("1", "c", 3)
    messages, db = [letter("a"), letter("b")], Pool()
    assert plan.call_batch is not None
    plan.call_batch(messages, [db])
    assert heard.pop() == [db, ["a", "b"], messages]
    assert plan_handler(messages_only, batch=Batch(), resources=()).decode is None


async def answers(sku: str) -> int | None:
    return 42


async def says_nothing(sku: str):  # type: ignore[no-untyped-def]  # as some write
    return 42


async def never(sku: str) -> Never:
    raise NotImplementedError


class Callee:
    async def __call__(self, order: Order) -> None: ...

    async def method(self, order: Order) -> None: ...

    def plain(self, order: Order) -> None: ...


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: object) -> object:
        return function(*args)

    return wrapper


def test_a_plan_knows_what_kind_of_function_it_is_for() -> None:
    """Async or for a thread, also through objects, partials and decorators; and whether it answers."""
    for function in (answers, never, Callee(), Callee().method, functools.partial(answers), logged(answers)):
        assert plan_handler(function, batch=None, resources=()).is_async
    assert not plan_handler(Callee().plain, batch=None, resources=()).is_async
    assert not plan_handler(payload_only, batch=None, resources=()).is_async
    assert plan_handler(answers, batch=None, resources=()).replies
    for function in (says_nothing, never, sweep):
        assert not plan_handler(function, batch=None, resources=RESOURCES).replies
    assert plan_handler(answers, batch=None, resources=()).name == "tests.fleet.test_handlers.answers"
    assert plan_handler(functools.partial(answers), batch=None, resources=()).name.endswith(".answers")
    assert plan_handler(Callee().method, batch=None, resources=()).name.endswith(".Callee.method")
    assert plan_handler(Callee(), batch=None, resources=()).name == "tests.fleet.test_handlers.Callee"


async def generator(order: Order) -> AsyncIterator[int]:
    yield 3


def two_payloads(order: Order, retries: int) -> None: ...


def unannotated_second(order, message) -> None: ...  # type: ignore[no-untyped-def]  # as some write


def needs_pool(pool: Pool) -> None: ...


def unknown_resource(now: Annotated[int, Depends(stranger)]) -> None: ...


def forgot_depends(db: Annotated[Pool, pool]) -> None: ...


def as_default(order: Order, db: object = Depends(pool)) -> None: ...  # as FastAPI has it, too


def two_resources(db: Annotated[Pool, Depends(pool), Depends(clock)]) -> None: ...


def catches_all(*args: object) -> None: ...


def typo(order: Ordre) -> None: ...  # type: ignore[name-defined]  # noqa: F821  # that is the point


def no_list(order: Order) -> None: ...


def batch_and_message(events: list[Message], message: Message) -> None: ...


def batch_unannotated(events) -> None: ...  # type: ignore[no-untyped-def]  # as some write


def batch_answers(events: list[Message]) -> int:
    return 3


def sync_generator(events: list[Message]) -> Any:
    yield 3


@pytest.mark.parametrize(
    ("function", "batch", "text"),
    [
        (generator, None, "generator is a generator: a handler returns, or raises; what it has to say it publishes"),
        (sync_generator, Batch(), "sync_generator is a generator"),
        (
            two_payloads,
            None,
            r"two_payloads\(retries\), annotated int: a second parameter for the payload; a parameter is",
        ),
        (
            unannotated_second,
            None,
            r"unannotated_second\(message\), annotated nothing: a second parameter for the payload",
        ),
        (needs_pool, None, r"needs_pool\(pool\): a payload can't be made into Pool; .* Depends\(resource\)\]`"),
        (
            unknown_resource,
            None,
            r"\(now\) depends on tests.fleet.test_handlers.stranger, which is no resource of this",
        ),
        (forgot_depends, None, r"forgot_depends\(db\): a dependency is written `Annotated\[T, Depends\(resource\)\]`"),
        (as_default, None, r"as_default\(db\): a dependency is written"),
        (two_resources, None, r"two_resources\(db\) depends on 2 resources: a parameter gets one"),
        (catches_all, None, r"catches_all\(args\): there is nothing to give to \*args"),
        (typo, None, "typo: an annotation names 'Ordre', which tests.fleet.test_handlers does not have"),
        (messages_only, None, r"messages_only\(events\): many messages come to a consumer with `batch=Batch"),
        (Callee.plain, None, r"Callee.plain\(self\) is a method of no object yet"),
        (Callee, None, "Callee is no function: a handler is an `async def`, or a plain `def`"),
        (3, None, "int is no function"),
        (no_list, Batch(), r"no_list\(order\), annotated Order: a handler of batches gets a list"),
        (batch_and_message, Batch(), r"batch_and_message\(message\), annotated Message: a handler of batches"),
        (batch_unannotated, Batch(), r"batch_unannotated\(events\), annotated nothing: a handler of batches"),
        (batch_answers, Batch(), "batch_answers handles batches, which answer nobody"),
    ],
)
def test_what_can_not_be_called_is_a_mistake(function: Any, batch: Batch | None, text: str) -> None:
    """Said in a sentence that names the function and the parameter, when it is registered."""
    with pytest.raises(FleetMistake, match=text):
        plan_handler(function, batch=batch, resources=RESOURCES)


def test_classes_made_in_a_function_are_found_among_its_names() -> None:
    """Annotations are text here; what they name is local."""

    class Local:
        pass

    async def handler(message: Message, it: Annotated[Local, Depends(pool)]) -> None: ...

    with pytest.raises(FleetMistake, match="an annotation names 'Local'"):
        plan_handler(handler, batch=None, resources=RESOURCES)
    assert plan_handler(handler, batch=None, resources=RESOURCES, names=locals()).resources == (pool,)


async def sweep(db: Db, limit: int = 10) -> None: ...


async def sweeps_a_message(message: Message) -> None: ...


async def test_a_job_gets_resources_only() -> None:
    """There is no message that it could get."""
    plan = plan_job(sweep, resources=RESOURCES)
    assert (plan.resources, plan.is_async, plan.replies) == ((pool,), True, False)
    await plan.call(letter(None), [Pool()])
    with pytest.raises(
        FleetMistake, match=r"sweeps_a_message\(message\), annotated Message: a periodic job gets no message"
    ):
        plan_job(sweeps_a_message, resources=())
    with pytest.raises(FleetMistake, match=r"generator is a generator: a job returns, or raises"):
        plan_job(generator, resources=())


events: list[str] = []


async def session(db: Db) -> AsyncIterator[list[Pool]]:
    events.append("opened")
    try:
        yield [db]
    finally:
        events.append("closed")


async def wants_payload(order: Order) -> AsyncIterator[int]:
    yield 3


async def test_a_resource_is_opened_and_closed_around_its_one_yield() -> None:
    """With the values of the resources that it depends on."""
    plan = plan_resource(session, resources=RESOURCES)
    assert (plan.name, plan.resources) == ("session", (pool,))
    db = Pool()
    async with plan.open([db]) as value:
        assert (value, events) == ([db], ["opened"])
    assert events == ["opened", "closed"]


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (sweep, "sweep: a resource is an `async def` that yields once"),
        (asynccontextmanager(session), "session: a resource is .* it needs no @asynccontextmanager"),
        (wants_payload, r"wants_payload\(order\), annotated Order: a resource is opened before there is a message"),
    ],
)
def test_what_is_no_resource_is_a_mistake(function: Any, text: str) -> None:
    """Said when it is registered."""
    with pytest.raises(FleetMistake, match=text):
        plan_resource(function, resources=RESOURCES)


def by_customer(it: Order, /) -> str:
    return it.customer


@pytest.mark.parametrize(
    "key",
    [
        lambda order: order.customer,
        lambda message: message.payload.customer,
        lambda message, order: order.customer if message.payload is order else None,
        lambda order, length=None: order.customer[:length],
        attrgetter("customer"),
        by_customer,
    ],
)
def test_a_key_gets_what_its_parameters_are_named_after(key: Any) -> None:
    """They have the names of the handler's; one without a name is the payload."""
    of = plan_key(key, turned_round, resources=RESOURCES)
    assert of(letter(Order("1", "c", 3))) == "c"


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (lambda ordre: ordre, r"turned_round: key= asks for 'ordre'; its parameters are named .*: message, order$"),
        (lambda db: db, "key= asks for 'db'"),
        (lambda: 3, "key= asks for nothing"),
        (lambda length=3: length, "key= asks for nothing"),
        ("customer", r"key= takes a function, as in `key=lambda order: order.customer`, not 'customer'"),
    ],
)
def test_a_key_that_asks_for_something_else_is_a_mistake(key: Any, text: str) -> None:
    """An unknown name is found when the handler is registered."""
    with pytest.raises(FleetMistake, match=text):
        plan_key(key, turned_round, resources=RESOURCES)
