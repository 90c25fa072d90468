"""One wire to Redis: every reply goes to who asked for it, whatever is cancelled, announced or cut off."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import hiredis
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from kombu_actors.errors import ConnectionClosed, ConnectionLost
from kombu_actors.transport._stream import dial
from kombu_actors.transport.redis.errors import ErrorReply
from kombu_actors.transport.redis.replies import BadReply, ReplyReader
from kombu_actors.transport.redis.wire import RedisWire, pack, parted
from tests.support.brokers import RedisNode
from tests.support.proxy import FaultProxy
from tests.support_redis_server import FakeClient, call, fake_redis, open_test_wire, request


async def eventually(happened: Callable[[], bool]) -> None:
    """Wait for something that other tasks of this run bring about."""
    with trio.fail_after(5):
        while not happened():
            await trio.lowlevel.checkpoint()


# -- pairing -----------------------------------------------------------------------------------


async def test_replies_come_in_the_order_of_the_commands(redis_server: RedisNode) -> None:
    """Callbacks, requests and calls on one wire, errors as values for callbacks and raised for calls."""
    heard: list[Any] = []
    async with open_test_wire(redis_server.port) as wire:
        wire.send(("ECHO", "1"), heard.append)
        wire.send(("NO-SUCH-COMMAND",), heard.append)
        wire.send_packed(pack(("ECHO", b"3")), heard.append)
        fourth = request(wire, "ECHO", 4, applied=heard.append)
        assert len(wire._waiting) == 4
        with pytest.raises(ErrorReply, match="unknown command") as refused:
            await call(wire, "NO-SUCH-COMMAND")
        assert await fourth.wait() == b"4"
        assert len(wire._waiting) == 0
    assert refused.value.code == "ERR"
    assert isinstance(heard[1], ErrorReply)
    assert [heard[0], *heard[2:]] == [b"1", b"3", b"4"]


async def test_what_is_gathered_leaves_in_one_piece() -> None:
    """Two hundred commands appended without waiting: one send, so one receive at the other end."""
    arrived: list[int] = []

    async def script(client: FakeClient) -> None:
        arrived.append(len(await client.stream.receive_some()))
        await client.send(b"+OK\r\n" * 200)
        await client.until_hangup()

    async with fake_redis(script) as port, open_test_wire(port, hello=False) as wire:
        heard: list[Any] = []
        for _ in range(200):
            wire.send(("PING",), heard.append)
        await eventually(lambda: len(heard) == 200)
    assert arrived == [200 * len(pack(("PING",)))]


async def test_a_flush_needs_no_turn_of_the_writer(redis_server: RedisNode) -> None:
    """After ``flush`` nothing is left to send, though no other task has run."""
    async with open_test_wire(redis_server.port) as wire:
        await trio.testing.wait_all_tasks_blocked()
        pending = request(wire, "ECHO", "x")
        wire.flush()
        assert not wire._gathered
        assert await pending.wait() == b"x"


async def test_an_argument_that_is_none_is_refused_before_anything_is_sent(redis_server: RedisNode) -> None:
    """And the wire goes on."""
    async with open_test_wire(redis_server.port) as wire:
        with pytest.raises(TypeError):
            wire.send(("ECHO", None), print)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="channels named"):
            wire.send(("SUBSCRIBE",), print)
        assert len(wire._waiting) == 0
        assert await call(wire, "ECHO", "x") == b"x"


class CancelsAtStep(trio.abc.Instrument):
    """Cancels ``scope`` when ``task`` has reached its checkpoint number ``at``."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.task: trio.lowlevel.Task | None = None
        self.scope = trio.CancelScope()
        self.steps = 0

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self.steps += 1
            if self.steps == self.at:
                self.scope.cancel()


async def test_a_call_cancelled_at_any_checkpoint_gives_its_reply_to_nobody_else(redis_server: RedisNode) -> None:
    """Six tasks call; one is cancelled at its 1st, 2nd, 3rd ... checkpoint, until it has no more to be cancelled at.

    Every reply is compared with its question, before and after, in the cancelled task too.
    """
    reached: list[int] = []
    async with open_test_wire(redis_server.port) as wire:

        async def asks(word: str, count: int) -> None:
            for number in range(count):
                assert await call(wire, "ECHO", f"{word} {number}") == f"{word} {number}".encode()

        async def victim(instrument: CancelsAtStep) -> None:
            instrument.task = trio.lowlevel.current_task()
            with instrument.scope:
                await asks("victim", 3)
                assert await call(wire, "SUBSCRIBE", "a", "b") is None
                ahead = [request(wire, "ECHO", f"ahead {number}") for number in range(3)]
                for number, pending in enumerate(ahead):
                    assert await pending.wait() == f"ahead {number}".encode()
                with pytest.raises(ErrorReply, match="no-such"):
                    await call(wire, "no-such", "victim")
                assert await call(wire, "UNSUBSCRIBE", "a", "b") is None
                await asks("end", 2)
            instrument.task = None

        at = 0
        while True:
            at += 1
            instrument = CancelsAtStep(at)
            trio.lowlevel.add_instrument(instrument)
            async with trio.open_nursery() as nursery:
                for number in range(5):
                    nursery.start_soon(asks, f"bystander {at} {number}", 4)
                nursery.start_soon(victim, instrument)
            trio.lowlevel.remove_instrument(instrument)
            await asks(f"after {at}", 2)
            assert len(wire._waiting) == 0
            if not instrument.scope.cancelled_caught:
                break
            reached.append(at)
    assert len(reached) >= 11  # at least one for each wait of the victim
    assert reached == list(range(1, len(reached) + 1))


async def test_a_reader_cancelled_at_any_checkpoint_loses_nothing(redis_server: RedisNode) -> None:
    """Cancelled and run again, at its every checkpoint, while replies come in: each still reaches its question."""
    wire = RedisWire(await dial("127.0.0.1", redis_server.port, None), name="here", body_max=1024)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wire.run_writer)
        for at in range(1, 12):
            instrument = CancelsAtStep(at)
            asked = [request(wire, "ECHO", f"{at} {number}") for number in range(20)]

            async def read(instrument: CancelsAtStep = instrument) -> None:
                instrument.task = trio.lowlevel.current_task()
                with instrument.scope:
                    await wire.run_reader()
                await wire.run_reader()

            trio.lowlevel.add_instrument(instrument)
            async with trio.open_nursery() as readers:
                readers.start_soon(read)
                for number, pending in enumerate(asked):
                    assert await pending.wait() == f"{at} {number}".encode()
                readers.cancel_scope.cancel()
            trio.lowlevel.remove_instrument(instrument)
        wire.kill(parted("here"))


async def test_a_cancelled_request_undoes_what_its_late_reply_grants() -> None:
    """``undo`` gets the reply in the reader, in its place; ``applied`` isn't called."""
    heard: list[Any] = []
    answer = trio.Event()

    async def script(client: FakeClient) -> None:
        await client.command()
        await answer.wait()
        await client.send(b"+late\r\n")
        await client.answer(b"+next\r\n")
        await client.until_hangup()

    async with fake_redis(script) as port, open_test_wire(port, hello=False) as wire:
        pending = request(wire, "GIVE", applied=lambda _: heard.append("applied"), undo=heard.append)
        with trio.move_on_after(0):
            await pending.wait()
        answer.set()
        assert await call(wire, "NEXT") == b"next"
    assert heard == [b"late"]


# -- pushes ------------------------------------------------------------------------------------


async def test_pushes_go_to_their_own_ear_and_confirmations_to_who_subscribed(redis_server: RedisNode) -> None:
    """RESP3 answers SUBSCRIBE with pushes, one a channel, among commands in any order."""
    pushes: list[Any] = []
    async with open_test_wire(redis_server.port) as wire:
        wire.on_push = pushes.append
        order: list[Any] = []
        wire.send(("ECHO", "before"), order.append)
        wire.send(("SUBSCRIBE", "a", "b"), order.append)
        wire.send(("PSUBSCRIBE", "a*"), order.append)
        wire.send(("ECHO", "between"), order.append)
        wire.send((b"unsubscribe", "b"), order.append)
        assert await call(wire, "PUBLISH", "a", "hi") == 2
        await call(wire, "CLIENT", "TRACKING", "ON")
        await call(wire, "GET", "tracked")
        redis_server.command("SET", "tracked", "1")
        await eventually(lambda: len(pushes) == 3)
    assert order == [b"before", None, None, b"between", None]
    assert pushes == [[b"message", b"a", b"hi"], [b"pmessage", b"a*", b"a", b"hi"], [b"invalidate", [b"tracked"]]]


async def test_a_refused_subscription_is_an_error_and_shifts_nothing(own_redis: Callable[..., RedisNode]) -> None:
    """NOPERM takes the place of all confirmations of its command."""
    node = own_redis(conf=["user half on nopass +@all ~* resetchannels &allowed"])
    async with open_test_wire(node.port, hello=False) as wire:
        await call(wire, "HELLO", 3, "AUTH", "half", "")
        with pytest.raises(ErrorReply) as refused:
            await call(wire, "SUBSCRIBE", "allowed", "forbidden")
        assert refused.value.code == "NOPERM"
        assert await call(wire, "SUBSCRIBE", "allowed") is None
        assert await call(wire, "ECHO", "x") == b"x"


async def test_a_plain_reply_to_a_subscription_is_no_answer() -> None:
    """Whoever sends it isn't speaking RESP3: nothing after it could be paired."""

    async def script(client: FakeClient) -> None:
        await client.answer(b"+OK\r\n")
        await client.until_hangup()

    async with fake_redis(script) as port, open_test_wire(port, hello=False) as wire:
        with trio.fail_after(5), pytest.raises(ConnectionLost, match="answered with pushes"):
            await call(wire, "SUBSCRIBE", "a")


# -- what a peer may announce ------------------------------------------------------------------

TOO_MUCH = {
    "a bulk of negative length": (b"$-2\r\n", "out of range"),
    "a bulk of 100 GB": (b"$99999999999\r\n", "99999999999 bytes"),
    "a bulk above the limit": (b"$8388609\r\n", "8388609 bytes"),
    "a bulk whose length doesn't end": (b"$" + b"9" * 100, "million elements|bytes"),
    "a thousand million elements": (b"*1000000000\r\n", "million elements"),
    "more elements than there are numbers": (b"*99999999999999999999999\r\n", "million elements"),
    "a signed number of elements": (b"*+1000000000\r\n", "million elements"),
    "a push of a thousand million": (b">1000000000\r\n", "million elements"),
    "a map of a thousand million": (b"%1000000000\r\n", "million elements"),
    "a set of a thousand million": (b"~1000000000\r\n", "million elements"),
    "such inside of an array": (b"*2\r\n:1\r\n*1000000000\r\n", "million elements"),
    "verbatim text of 100 GB": (b"=99999999999\r\ntxt:", "99999999999 bytes"),
    "nesting without end": (b"*1\r\n" * 10_000, "nesting"),
    "a line without end": (b"+" + b"a" * 16_000_000, "in one piece"),
    "an attribute": (b"|1\r\n+a\r\n+b\r\n:1\r\n", "attribute"),
    "an integer out of range": (b":99999999999999999999\r\n", "integer"),
    "an HTTP server": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP server"),
    "RabbitMQ": (b"AMQP\x00\x00\x09\x01", "RabbitMQ"),
    "a TLS port": (b"\x15\x03\x01\x00\x02\x02\x46", "rediss://"),
    "noise": (bytes(range(256)), "type byte"),
}


@pytest.mark.parametrize("piecemeal", [False, True], ids=["at once", "byte by byte"])
@pytest.mark.parametrize("case", TOO_MUCH)
async def test_bad_input_ends_the_wire_naming_the_peer_and_costs_no_memory(case: str, piecemeal: bool) -> None:
    """What can't be taken is refused when announced; whoever waits gets the reason; nothing is allocated for it."""
    data, expected = TOO_MUCH[case]
    hung_up = trio.Event()

    async def script(client: FakeClient) -> None:
        await client.command()
        try:
            if piecemeal and len(data) < 1000:
                for byte in data:
                    await client.send(bytes([byte]))
                    await trio.testing.wait_all_tasks_blocked()
            else:
                await client.send(data)
            await client.until_hangup()
        finally:
            hung_up.set()

    async with fake_redis(script) as port, open_test_wire(port, body_max=4 * 1024 * 1024, hello=False) as wire:
        tracemalloc.start()
        try:
            # Of a single byte nobody can tell whose it is.
            told = f"{expected}|type byte" if piecemeal else expected
            with trio.fail_after(5), pytest.raises(ConnectionLost, match=told) as lost:
                await call(wire, "PING")
            assert tracemalloc.get_traced_memory()[1] < 64 * 1024 * 1024
        finally:
            tracemalloc.stop()
        assert f"127.0.0.1:{port}" in str(lost.value)
        with trio.fail_after(5):
            await hung_up.wait()


async def test_a_reply_in_endless_pieces_is_given_up() -> None:
    """Each piece is small, but the reply never ends: bounded all the same."""

    async def script(client: FakeClient) -> None:
        await client.command()
        await client.send(b"*900000\r\n")
        piece = b"$65536\r\n" + bytes(65536) + b"\r\n"
        for _ in range(900_000):
            await client.send(piece)

    async with fake_redis(script) as port, open_test_wire(port, body_max=1024, hello=False) as wire:
        with trio.fail_after(5), pytest.raises(ConnectionLost, match="a reply of more than"):
            await call(wire, "PING")


@pytest.mark.parametrize(
    ("data", "shown", "hidden"),
    [
        (b"-ERR Protocol error: too big mbulk count string\r\n", "ERR Protocol error", "\0"),
        (b"-ERR no idea what canary-secret means\r\n", "nobody waits for: ERR", "canary-secret"),
        (b"+OK\r\n", "nobody waits for", "\0"),
    ],
)
async def test_a_reply_without_a_question_ends_the_wire(data: bytes, shown: str, hidden: str) -> None:
    """What follows it couldn't be paired; of other servers' words only the first is repeated."""

    async def script(client: FakeClient) -> None:
        await client.send(data)
        await client.until_hangup()

    async with fake_redis(script) as port, open_test_wire(port, hello=False) as wire:
        reason = await wire.wait_closed()
    assert type(reason) is ConnectionLost
    assert shown in str(reason)
    assert hidden not in str(reason) + str(reason.__cause__)


NASTY = st.text(alphabet="\r\n*$>%~|=+-:1234567890ab", max_size=40).map(str.encode)


def resp(value: Any) -> bytes:
    if isinstance(value, list):
        return b"*%d\r\n" % len(value) + b"".join(map(resp, value))
    if isinstance(value, int):
        return b":%d\r\n" % value
    return b"$-1\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value)


VALUES = st.recursive(
    NASTY | st.integers(-(2**63), 2**63 - 1) | st.none(), lambda inner: st.lists(inner, max_size=5), max_leaves=8
)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    return [data[start:end] for start, end in pairwise(edges)]


def depth(value: Any) -> int:
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@settings(max_examples=300)
@given(st.lists(VALUES.filter(lambda value: depth(value) < 8), max_size=6), st.lists(st.integers(0, 400), max_size=12))
def test_what_is_inside_of_messages_is_never_taken_for_an_announcement(values: list[Any], cuts: list[int]) -> None:
    """Any values, their text full of RESP, cut anywhere: what comes out is what went in."""
    reader = ReplyReader(1024)
    taken = [reply for piece in pieces(b"".join(map(resp, values)), cuts) for reply in reader.replies(piece)]
    assert taken == values


@settings(max_examples=200)
@given(NASTY, st.lists(st.integers(0, 80), max_size=8), st.sampled_from([b"*99999999", b"$99999999", b">1000000"]))
def test_an_announcement_is_refused_wherever_it_is_cut(text: bytes, cuts: list[int], bad: bytes) -> None:
    """After any message, in any pieces: what came before it is delivered, and then it is refused."""
    taken: list[Any] = []

    def take_all() -> None:
        reader = ReplyReader(1024)
        for piece in pieces(resp(text) + bad + b"\r\n", cuts):
            for reply in reader.replies(piece):
                taken.append(reply)

    with pytest.raises(BadReply):
        take_all()
    assert taken == [text]


def test_a_false_is_a_reply() -> None:
    """hiredis's own sign for "nothing yet" is False, which RESP3 has as a value."""
    assert list(ReplyReader(1024).replies(b"#f\r\n_\r\n#t\r\n,1.5\r\n")) == [False, None, True, 1.5]


# -- death -------------------------------------------------------------------------------------


async def test_all_who_wait_get_the_reason_in_order_and_nothing_is_taken_any_more(redis_server: RedisNode) -> None:
    """Callbacks, calls, and those who wait for the end; the first reason stays."""
    heard: list[Any] = []
    async with open_test_wire(redis_server.port) as wire, trio.open_nursery() as nursery:

        async def blocked() -> None:
            with pytest.raises(ConnectionClosed):
                await call(wire, "BLPOP", "nothing", 0)
            heard.append("call")

        nursery.start_soon(blocked)
        await trio.testing.wait_all_tasks_blocked()
        wire.send(("ECHO", 1), lambda reply: heard.append((1, reply)))
        wire.send(("ECHO", 2), lambda reply: heard.append((2, reply)))
        reason = parted("here")
        wire.kill(reason)
        wire.kill(ConnectionLost("too late"))
        assert heard == [(1, reason), (2, reason)]
        assert await wire.wait_closed() is wire.closed is reason
        with pytest.raises(ConnectionClosed):
            wire.send(("ECHO", 3), heard.append)
        with pytest.raises(ConnectionClosed):
            await call(wire, "ECHO", 4)
    assert heard == [(1, reason), (2, reason), "call"]


async def test_a_server_that_goes_away_is_a_lost_connection(own_redis: Callable[..., RedisNode]) -> None:
    """Killed, with a call under way."""
    node = own_redis()
    async with open_test_wire(node.port) as wire:
        pending = request(wire, "BLPOP", "nothing", 0)
        await trio.testing.wait_all_tasks_blocked()
        node.kill9()
        with pytest.raises(ConnectionLost, match=f"127.0.0.1:{node.port} was lost"):
            await pending.wait()


async def test_a_callback_that_raises_ends_the_wire_and_says_so(redis_server: RedisNode) -> None:
    """A mistake is not swallowed; others who wait aren't left waiting."""

    class MistakeError(Exception):
        pass

    def mistaken(_: Any) -> None:
        raise MistakeError

    wire = RedisWire(await dial("127.0.0.1", redis_server.port, None), name="here", body_max=1024)
    wire.send(("PING",), mistaken)
    other = request(wire, "BLPOP", "nothing", 0)
    with pytest.RaisesGroup(MistakeError):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wire.run_writer)
            nursery.start_soon(wire.run_reader)
    with pytest.raises(MistakeError):
        await other.wait()


async def test_a_wire_killed_by_a_callback_takes_nothing_more(redis_server: RedisNode) -> None:
    """Replies that had come already go to nobody; their waiters have got the reason."""
    heard: list[Any] = []
    async with open_test_wire(redis_server.port) as wire:
        reason = parted("here")
        wire.send(("ECHO", 1), lambda _: wire.kill(reason))
        wire.send(("ECHO", 2), heard.append)
        assert await wire.wait_closed() is reason
    assert heard == [reason]


async def test_a_writer_cancelled_in_the_middle_of_sending_ends_the_wire() -> None:
    """Half a command may have left: the next would be taken for its rest."""

    async def script(client: FakeClient) -> None:
        await trio.sleep_forever()

    async with fake_redis(script) as port:
        wire = RedisWire(await dial("127.0.0.1", port, None), name="here", body_max=1024)
        wire.send(("ECHO", bytes(64 * 1024 * 1024)), lambda _: None)
        with trio.move_on_after(0.05):
            await wire.run_writer()
        assert isinstance(wire.closed, ConnectionLost)
        assert "half-way" in str(wire.closed)


async def test_a_wire_killed_by_a_push_hears_no_more() -> None:
    """Pushes that had come in the same bytes belong to nobody."""
    heard: list[Any] = []

    async def script(client: FakeClient) -> None:
        await client.send(b">1\r\n+one\r\n>1\r\n+two\r\n")
        await client.until_hangup()

    async with fake_redis(script) as port:
        wire = RedisWire(await dial("127.0.0.1", port, None), name="here", body_max=1024)

        def hear(push: list[Any]) -> None:
            heard.append(push)
            wire.kill(parted("here"))

        wire.on_push = hear
        await wire.run_reader()
    assert heard == [[b"one"]]


# -- liveness ----------------------------------------------------------------------------------


async def test_a_silent_peer_is_given_up_after_two_intervals(
    redis_server: RedisNode, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    """Blackholed: no byte moves, no socket closes."""
    proxy = fault_proxy(redis_server.port)
    async with open_test_wire(proxy.port) as wire, trio.open_nursery() as nursery:
        nursery.start_soon(wire.run_pulse, 0.2)
        await trio.sleep(0.6)
        assert wire.closed is None  # idle, but alive: its PINGs are answered
        assert trio.current_time() - wire.last_heard < 0.4
        proxy.blackhole()
        began = trio.current_time()
        with trio.fail_after(5):
            reason = await wire.wait_closed()
        assert 0.2 <= trio.current_time() - began < 2
    assert isinstance(reason, ConnectionLost)
    assert "no byte came" in str(reason)


async def test_no_pulse_is_no_reason_to_give_up(redis_server: RedisNode) -> None:
    """Interval 0: it waits for the end, and sends nothing."""
    async with open_test_wire(redis_server.port) as wire:
        with trio.move_on_after(0.1) as scope:
            await wire.run_pulse(0)
        assert scope.cancelled_caught
        assert len(wire._waiting) == 0


# -- threads -----------------------------------------------------------------------------------


def test_the_parser_is_what_we_think_it_is() -> None:
    """The guard rests on this: after whole items nothing is unread; inside of a bulk something is."""
    more = object()
    parser = hiredis.Reader(notEnoughData=more)
    inside = [b"$14\r\n", b"abc\r\n", b"*10000\r\n"]
    for data, unread in ((b"*2\r\n", False), *((piece, True) for piece in inside), (b"a\r\n", False)):
        parser.feed(data)
        assert parser.gets() is more
        assert parser.has_data() is unread
