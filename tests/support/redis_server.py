"""A private Redis server or Sentinel: its own directory and ports; /etc/redis is never read."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import attrs
import hiredis

from .certs import Certificates
from .processes import ServerProcess, answers, free_port, wait_until

PROGRAM = os.environ.get("REDIS_SERVER", "redis-server")
"""What the run's servers are, Debian's unless the environment names another (``tests.support.redis_versions``)."""
CLUSTER_PORTS = range(22000, 22768)
"""A node of a cluster listens on the port 10,000 above its own as well: nobody else uses those."""


class RedisNode(ServerProcess):
    """One ``redis-server``; ``conf`` are extra lines of its configuration file.

    ``durable`` writes every command to disk before answering, so that ``kill9`` loses nothing;
    without it a kill loses everything.  ``tls`` adds a listener on ``tls_port``.  ``cluster``
    makes it a node of one.  ``program`` is the binary.
    """

    def __init__(
        self,
        base: Path,
        *,
        conf: Iterable[str] = (),
        durable: bool = False,
        tls: Certificates | None = None,
        require_client_certificate: bool = False,
        sentinel: bool = False,
        cluster: bool = False,
        program: str = PROGRAM,
    ) -> None:
        base.mkdir(parents=True, exist_ok=True)
        self.port = free_port(CLUSTER_PORTS) if cluster else free_port()
        self.tls_port = free_port() if tls else None
        self.socket_path = base / "socket"
        lines = [
            "bind 127.0.0.1",
            f"port {self.port}",
            f'dir "{base}"',
            "daemonize no",
            'logfile ""',
            f'unixsocket "{self.socket_path}"',
            "unixsocketperm 700",
        ]
        if cluster:
            lines += ["cluster-enabled yes"]
        if not sentinel:
            lines += ['save ""', f"appendonly {'yes' if durable else 'no'}", "appendfsync always"]
        if tls:
            lines += [
                f"tls-port {self.tls_port}",
                f'tls-cert-file "{tls.server.certificate}"',
                f'tls-key-file "{tls.server.key}"',
                f'tls-ca-cert-file "{tls.ca}"',
                f"tls-auth-clients {'yes' if require_client_certificate else 'no'}",
            ]
        configuration = base / "redis.conf"
        configuration.write_text("\n".join([*lines, *conf]) + "\n")
        super().__init__(
            [program, str(configuration), *(["--sentinel"] if sentinel else [])],
            directory=base,
            environment={"PATH": "/usr/bin:/bin", "HOME": str(base), "LANG": "C.UTF-8"},
            # -LOADING is an answer too, but not yet service.
            is_serving=lambda: answers(self.port, b"PING\r\n", (b"+PONG", b"-NOAUTH")),
            start_timeout=20,
        )

    def url(self, *, db: int = 0, port: int | None = None) -> str:
        """The server's ``redis://`` URL; ``port`` is for a proxy in front of it."""
        return f"redis://127.0.0.1:{port or self.port}/{db}"

    def tls_url(self, *, db: int = 0, host: str = "localhost", port: int | None = None) -> str:
        """The server's ``rediss://`` URL."""
        return f"rediss://{host}:{port or self.tls_port}/{db}"

    def command(self, *words: str) -> bytes:
        """Send one command, inline, and return the first bytes of the answer as they come."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            connection.sendall(" ".join(words).encode() + b"\r\n")
            return connection.recv(65536)

    def ask(self, *words: Any) -> Any:
        """Send one command and return its whole answer, texts as bytes; an error reply is raised."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            return self._answer(connection, words)

    def ask_at_once(self, *commands: tuple[Any, ...]) -> None:
        """Send commands that nobody's come between."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            for words in (("MULTI",), *commands, ("EXEC",)):
                self._answer(connection, words)

    def _answer(self, connection: socket.socket, words: tuple[Any, ...]) -> Any:
        parser = hiredis.Reader()
        connection.sendall(hiredis.pack_command(words))
        while (answer := parser.gets()) is False:
            received = connection.recv(65536)
            if not received:
                raise ConnectionResetError(f"the server on port {self.port} hung up on {words[0]!r}")
            parser.feed(received)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def flush(self) -> None:
        """Empty all databases, and end what clients former tests left: stock kombu keeps some of its sockets open."""
        self.kill_clients("normal", "pubsub")
        self.ask("FLUSHALL")

    def clients(self) -> list[dict[str, str]]:
        """Who is connected, by ``CLIENT LIST``'s fields; this very question, sentinels and replicas left out."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            lines = self._answer(connection, ("CLIENT", "LIST")).decode().splitlines()
            host, port = connection.getsockname()
        rows = [dict(word.partition("=")[::2] for word in line.split(" ")) for line in lines]
        return [
            row
            for row in rows
            if row["addr"] != f"{host}:{port}" and not row["name"].startswith("sentinel-") and "S" not in row["flags"]
        ]

    def wait_until_no_clients(self, timeout: float = 10.0) -> None:
        """Wait until the server has noticed that everybody left.

        Connections of stock kombu in this process that nobody refers to any more are closed first: it leaves some of
        its sockets to the garbage collector.
        """
        gc.collect()
        waiting_for = f"all clients to leave, of {[client['name'] or client['cmd'] for client in self.clients()]}"
        wait_until(lambda: not self.clients(), timeout=timeout, waiting_for=waiting_for)

    def kill_clients(self, *kinds: str) -> None:
        """``CLIENT KILL TYPE``: end all connections of these kinds (``normal``, ``pubsub``)."""
        for kind in kinds:
            self.ask("CLIENT", "KILL", "TYPE", kind)


@attrs.frozen
class SentinelGroup:
    """A primary, its replicas, and the sentinels that watch them."""

    service: str
    primary: RedisNode
    replicas: list[RedisNode]
    sentinels: list[RedisNode]

    def url(self, *, db: int = 0) -> str:
        """The group's URL as kombu writes it; the service's name goes into ``master_name``."""
        return ";".join(f"sentinel://127.0.0.1:{sentinel.port}/{db}" for sentinel in self.sentinels)

    def wait_failed_over(self, timeout: float = 30.0) -> None:
        """Wait until every sentinel names the same new primary."""

        def named() -> bool:
            ports = {self.primary_port(sentinel) for sentinel in self.sentinels}
            return len(ports) == 1 and self.primary.port not in ports

        wait_until(named, timeout=timeout, waiting_for="the sentinels to name a new primary")

    def wait_ready(self, timeout: float = 30.0) -> None:
        """Wait until every sentinel knows the others and the replicas, so that a failover can succeed."""
        for sentinel in self.sentinels:
            wait_until(
                lambda sentinel=sentinel: self._knows_all(sentinel),  # type: ignore[misc]
                timeout=timeout,
                waiting_for=f"the sentinel on port {sentinel.port} to know the group",
            )

    def wait_primary(self, port: int, timeout: float = 30.0) -> None:
        """Wait until every sentinel names the server on this port as the primary."""
        wait_until(
            lambda: {self.primary_port(sentinel) for sentinel in self.sentinels} == {port},
            timeout=timeout,
            waiting_for=f"the sentinels to name port {port} as the primary",
        )

    def primary_port(self, sentinel: RedisNode) -> int:
        """The port of the primary by this sentinel's lights."""
        answer = sentinel.command("SENTINEL", "get-master-addr-by-name", self.service)
        return int(answer.split(b"\r\n")[4])

    def _knows_all(self, sentinel: RedisNode) -> bool:
        words = sentinel.command("SENTINEL", "master", self.service).split(b"\r\n")
        known = dict(zip(words[2::4], words[4::4], strict=False))
        return known[b"num-slaves"] == b"%d" % len(self.replicas) and known[b"num-other-sentinels"] == b"%d" % (
            len(self.sentinels) - 1
        )

    def close(self) -> None:
        """End all of it by force."""
        for node in (*self.sentinels, *self.replicas, self.primary):
            if node.running:
                node.kill9()


def start_sentinel_group(
    base: Path,
    *,
    service: str = "tests",
    replicas: int = 1,
    sentinels: int = 3,
    down_after: float = 0.5,
    in_front: Callable[[int], int] = lambda port: port,
) -> SentinelGroup:
    """Start a group that fails over ``down_after`` seconds after its primary went silent.

    The sentinels need some 10 s more until they report the new roles everywhere.  ``in_front(port)`` may put a
    proxy before the primary, and returns the port that sentinels name and replicas follow.
    """
    primary = RedisNode(base / "primary", conf=["repl-diskless-sync-delay 0"])
    named = in_front(primary.port)
    followers = [
        RedisNode(base / f"replica{n}", conf=[f"replicaof 127.0.0.1 {named}", "repl-diskless-sync-delay 0"])
        for n in range(replicas)
    ]
    quorum = sentinels // 2 + 1
    watchers = [
        RedisNode(
            base / f"sentinel{n}",
            sentinel=True,
            conf=[
                f"sentinel monitor {service} 127.0.0.1 {named} {quorum}",
                f"sentinel down-after-milliseconds {service} {int(1000 * down_after)}",
                f"sentinel failover-timeout {service} 3000",
            ],
        )
        for n in range(sentinels)
    ]
    group = SentinelGroup(service, primary, followers, watchers)
    try:
        for node in (primary, *followers):
            node.spawn()
        for node in (primary, *followers):
            node.wait_ready()
        # A sentinel asks the primary for its replicas at once, and then every 10 s.
        wait_until(
            lambda: primary.ask("INFO", "replication").count(b"state=online") == replicas,
            timeout=20,
            waiting_for="the replicas to follow",
        )
        for node in watchers:
            node.spawn()
        for node in watchers:
            node.wait_ready()
    except BaseException:
        group.close()
        raise
    return group
