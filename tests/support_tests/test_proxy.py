"""The breakable proxy breaks exactly what it is told to."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.leaks import no_leaks
from tests.support.proxy import Direction, FaultProxy


class Echo:
    """A server that sends back what it gets; one thread per connection."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
            except OSError:
                return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    with no_leaks():
        echo = Echo()
        with FaultProxy(echo.port) as proxy:
            yield proxy
        echo.close()


def dial(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), 10)


def exactly(connection: socket.socket, count: int) -> bytes:
    with connection.makefile("rb", buffering=0) as stream:
        data = b""
        while len(data) < count and (piece := stream.read(count - len(data))):
            data += piece
        return data


def silent(connection: socket.socket) -> bool:
    """Nothing comes for a tenth of a second, and the connection is not told of an end."""
    connection.settimeout(0.1)
    try:
        connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(10)
    return False


def test_passes_bytes_both_ways_and_counts_them(proxy: FaultProxy) -> None:
    """Left alone it is invisible, a megabyte included."""
    blob = bytes(range(256)) * 4096
    with dial(proxy) as connection:
        sender = threading.Thread(target=connection.sendall, args=(blob,))
        sender.start()
        assert exactly(connection, len(blob)) == blob
        sender.join()
        assert proxy.accepted == 1
        assert proxy.open == 1
    proxy.wait_closed()
    assert proxy.passed(Direction.UP) == proxy.passed(Direction.DOWN) == len(blob)


def test_passes_a_half_close(proxy: FaultProxy) -> None:
    """A FIN travels as a FIN, after the bytes before it."""
    with dial(proxy) as connection:
        connection.sendall(b"last words")
        connection.shutdown(socket.SHUT_WR)
        assert exactly(connection, 99) == b"last words"


def test_reset_breaks_open_connections_only(proxy: FaultProxy) -> None:
    """After a reset the next connection works."""
    with dial(proxy) as connection:
        connection.sendall(b"x")
        assert exactly(connection, 1) == b"x"
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with dial(proxy) as connection:
        connection.sendall(b"y")
        assert exactly(connection, 1) == b"y"
    proxy.wait_accepted(2)


def test_finish_ends_with_eof(proxy: FaultProxy) -> None:
    """A polite end is an end of file."""
    with dial(proxy) as connection:
        connection.sendall(b"x")
        assert exactly(connection, 1) == b"x"
        proxy.finish()
        assert connection.recv(1) == b""


def test_refuse_and_heal_keep_the_port(proxy: FaultProxy) -> None:
    """Connecting is refused until healed; what is open goes on."""
    with dial(proxy) as connection:
        connection.sendall(b"x")
        assert exactly(connection, 1) == b"x"
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            dial(proxy)
        connection.sendall(b"y")
        assert exactly(connection, 1) == b"y"
        proxy.heal()
        with dial(proxy) as another:
            another.sendall(b"z")
            assert exactly(another, 1) == b"z"


def test_hang_accepts_and_answers_after_healing(proxy: FaultProxy) -> None:
    """A hung server takes the connection and says nothing; healed, it answers."""
    proxy.hang()
    with dial(proxy) as connection:
        connection.sendall(b"x")
        assert silent(connection)
        proxy.heal()
        assert exactly(connection, 1) == b"x"


def test_blackhole_moves_nothing_and_loses_nothing(proxy: FaultProxy) -> None:
    """Bytes sent into the hole arrive once it is healed."""
    with dial(proxy) as connection:
        connection.sendall(b"a")
        assert exactly(connection, 1) == b"a"
        proxy.blackhole()
        connection.sendall(b"b")
        assert silent(connection)
        assert proxy.open == 1
        proxy.heal()
        assert exactly(connection, 1) == b"b"


def test_latency_delays_each_way(proxy: FaultProxy) -> None:
    """A round trip takes twice the latency."""
    with dial(proxy) as connection:
        proxy.latency(0.1)
        started = time.monotonic()
        connection.sendall(b"x")
        assert exactly(connection, 1) == b"x"
        assert time.monotonic() - started >= 0.2


@pytest.mark.parametrize("count", [0, 1, 5])
def test_cut_after_delivers_exactly_that_much(proxy: FaultProxy, count: int) -> None:
    """The bytes before the cut arrive, none after it does, and the end is a reset."""
    with dial(proxy) as connection:
        proxy.cut_after(count, Direction.DOWN)
        connection.sendall(b"0123456789")
        proxy.wait_cut()
        assert exactly_until_reset(connection) == b"0123456789"[:count]
    with dial(proxy) as connection:
        connection.sendall(b"one cut is one cut")
        assert exactly(connection, 18) == b"one cut is one cut"


def exactly_until_reset(connection: socket.socket) -> bytes:
    data = b""
    while True:
        try:
            piece = connection.recv(1)
        except ConnectionResetError:
            return data
        assert piece, "ended politely"
        data += piece


def test_cut_by_fin_or_into_silence(proxy: FaultProxy) -> None:
    """The end may also be polite, or never be told."""
    with dial(proxy) as connection:
        proxy.cut_after(2, Direction.UP, "fin")
        connection.sendall(b"abcd")
        proxy.wait_cut()
        assert exactly(connection, 9) in (b"ab", b"")  # the echo of the two bytes races with the end
    with dial(proxy) as connection:
        proxy.cut_after(2, Direction.DOWN, "hang")
        connection.sendall(b"abcd")
        proxy.wait_cut(2)
        assert exactly(connection, 2) == b"ab"
        assert silent(connection)
        proxy.heal()
        assert exactly(connection, 2) == b"cd"


def test_split_delivers_single_bytes(proxy: FaultProxy) -> None:
    """Everything arrives, in pieces."""
    with dial(proxy) as connection:
        proxy.split()
        connection.sendall(b"frame" * 100)
        assert exactly(connection, 500) == b"frame" * 100


def test_discard_swallows_one_direction(proxy: FaultProxy) -> None:
    """The sender believes it was delivered; later bytes pass after healing."""
    with dial(proxy) as connection:
        connection.sendall(b"0")
        assert exactly(connection, 1) == b"0"
        proxy.discard(Direction.UP)
        connection.sendall(b"lost")
        assert silent(connection)
        proxy.heal()
        connection.sendall(b"kept")
        assert exactly(connection, 4) == b"kept"


def test_vanish_leaves_the_client_in_the_dark(proxy: FaultProxy) -> None:
    """The server's side is gone, the client is not told until healing."""
    with dial(proxy) as connection:
        connection.sendall(b"0")
        assert exactly(connection, 1) == b"0"
        proxy.vanish()
        connection.sendall(b"hello?")
        assert silent(connection)
        proxy.heal()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_a_dead_server_is_a_reset(proxy: FaultProxy) -> None:
    """Nothing listens behind the proxy: the client's connection breaks, the proxy lives."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with FaultProxy(nobody.getsockname()[1]) as front:
            # It may be as quick as the dialling itself.
            with pytest.raises(ConnectionResetError), dial(front) as connection:
                connection.recv(1)
            front.wait_closed()


def test_an_idle_proxy_uses_no_processor_time(proxy: FaultProxy) -> None:
    """It sleeps in its selector, with a blackholed and hung-up connection too."""
    with dial(proxy) as connection:
        connection.sendall(b"0")
        assert exactly(connection, 1) == b"0"
        proxy.blackhole()
    started = time.process_time()
    threading.Event().wait(0.3)
    assert time.process_time() - started < 0.1
