"""A private RabbitMQ node: its own directories, ports, cookie and epmd; nothing in /var."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .certs import Certificates
from .erlang import ErlangDoor, binary
from .processes import ServerProcess, answers, free_port, wait_until

# Not the wrappers in /usr/sbin: they change to /var/lib/rabbitmq and to the user rabbitmq.
_PROGRAMS = Path("/usr/lib/rabbitmq/bin")
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_LOOPBACK = "-kernel inet_dist_use_interface {127,0,0,1}"
_GREETING = b"AMQP\x00\x00\x09\x01"


def make_epmd(directory: Path, port: int) -> ServerProcess:
    """An epmd of our own, where nodes find each other's ports."""
    return ServerProcess(
        ["epmd", "-port", str(port), "-address", "127.0.0.1"],
        directory=directory,
        environment={"PATH": _PATH},
        is_serving=lambda: answers(port, b"", ()),
        start_timeout=10,
    )


class RabbitMQNode:
    """One node, startable, killable and restartable on the same data and ports.

    ``conf`` are extra lines of rabbitmq.conf, ``advanced`` is the whole advanced.config,
    ``tls`` adds a listener on ``tls_port`` that shows ``tls.server`` (or ``credential``).
    Nodes of a cluster have ``name``, and share ``cookie`` and an epmd that is there already.
    """

    def __init__(
        self,
        base: Path,
        *,
        conf: Iterable[str] = (),
        advanced: str = "[].",
        plugins: Iterable[str] = (),
        tls: Certificates | None = None,
        credential: str = "server",
        require_client_certificate: bool = False,
        name: str = "tests",
        cookie: str | None = None,
        epmd_port: int | None = None,
    ) -> None:
        self.directory = base
        self.name = f"{name}@localhost"
        self.port = free_port()
        self.tls_port = free_port() if tls else None
        for part in ("home", "mnesia", "log", "config", "epmd"):
            (base / part).mkdir(parents=True, exist_ok=True)
        self.door = ErlangDoor(base)
        self.stopped = False
        """Whether it stands still."""
        lines = [f"listeners.tcp.1 = 127.0.0.1:{self.port}", "loopback_users = none", "log.console = false"]
        lines += ["log.file.level = info", *conf]
        if tls:
            shown = getattr(tls, credential)
            lines += [
                f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}",
                f"ssl_options.cacertfile = {tls.ca}",
                f"ssl_options.certfile = {shown.certificate}",
                f"ssl_options.keyfile = {shown.key}",
                f"ssl_options.verify = {'verify_peer' if require_client_certificate else 'verify_none'}",
                f"ssl_options.fail_if_no_peer_cert = {str(require_client_certificate).lower()}",
            ]
        (base / "rabbitmq.conf").write_text("\n".join(lines) + "\n")
        (base / "advanced.config").write_text(advanced + "\n")
        (base / "enabled_plugins").write_text(f"[{','.join(plugins)}].\n")
        cookie_file = base / "home" / ".erlang.cookie"
        cookie_file.write_text(cookie or secrets.token_hex(16))
        cookie_file.chmod(0o400)  # Erlang refuses a cookie that others can read

        owns_epmd = epmd_port is None
        epmd_port = epmd_port or free_port()
        self._environment = self._make_environment(epmd_port)
        # The node's own `epmd -daemon` finds this one and exits: nothing is left behind.
        self._epmd = make_epmd(base / "epmd", epmd_port) if owns_epmd else None
        self._server = ServerProcess(
            [str(_PROGRAMS / "rabbitmq-server")],
            directory=base,
            environment=self._environment,
            is_serving=self._is_serving,
            start_timeout=90,
        )

    # --- life -----------------------------------------------------------------

    def spawn(self) -> None:
        """Start, from the main thread, without waiting; ``wait_ready`` may run in any thread."""
        if self._epmd is not None and not self._epmd.running:
            self._epmd.start()
        self.door.path.unlink(missing_ok=True)  # a killed node leaves its own behind
        self._server.spawn()

    def wait_ready(self) -> None:
        self._server.wait_ready()

    def start(self) -> None:
        """Start (or start again, on the same data and ports) and wait for the AMQP handshake: 3-7 s."""
        self.spawn()
        self.wait_ready()

    async def start_async(self) -> None:
        """Like ``start``, with the caller's trio loop running meanwhile."""
        self.spawn()
        await self._server.wait_ready_async()

    def kill9(self) -> None:
        """Kill the node as a power cut would."""
        self.stopped = False
        self._server.kill9()

    def sigstop(self) -> None:
        self.stopped = True
        self._server.sigstop()

    def sigcont(self) -> None:
        self.stopped = False
        self._server.sigcont()

    def stop(self) -> None:
        """Shut down politely: clients get 320 CONNECTION_FORCED; about 1 s."""
        self._server.stop()

    def restart(self) -> None:
        """Shut down politely and start again."""
        self.stop()
        self.start()

    def close(self) -> None:
        """End everything, by force: for when the data is thrown away anyway."""
        for process in (self._server, self._epmd):
            if process is not None and process.running:
                process.kill9()

    @property
    def pid(self) -> int:
        return self._server.pid

    @property
    def running(self) -> bool:
        return self._server.running

    # --- addresses --------------------------------------------------------------

    def url(self, *, userid: str = "guest", password: str = "guest", vhost: str = "/", port: int | None = None) -> str:
        """The node's ``amqp://`` URL; ``port`` is for a proxy in front of it."""
        return f"amqp://{quote(userid)}:{quote(password)}@127.0.0.1:{port or self.port}/{quote(vhost, safe='')}"

    def tls_url(self, *, host: str = "localhost", vhost: str = "/", port: int | None = None) -> str:
        """The node's ``amqps://`` URL."""
        return f"amqps://guest:guest@{host}:{port or self.tls_port}/{quote(vhost, safe='')}"

    # --- questions and orders, by the door: about a millisecond each ---------------

    def eval(self, expression: str) -> str:
        """Evaluate Erlang in the node; return the value as Erlang prints it."""
        return self.door.eval(expression)

    def add_vhost(self, vhost: str) -> None:
        """Make a virtual host on which guest may do everything."""
        everything = '<<".*">>'
        self.eval(
            f'ok = rabbit_vhost:add({binary(vhost)}, <<"tests">>),'
            f'ok = rabbit_auth_backend_internal:set_permissions(<<"guest">>, {binary(vhost)},'
            f' {everything}, {everything}, {everything}, <<"tests">>)'
        )

    def permit(self, vhost: str, *, configure: str = ".*", write: str = ".*", read: str = ".*") -> None:
        """Say which names guest may declare, publish to and consume from; open channels may remember otherwise."""
        patterns = ", ".join(map(binary, (configure, write, read)))
        self.eval(
            f'ok = rabbit_auth_backend_internal:set_permissions(<<"guest">>, {binary(vhost)}, {patterns}, <<"test">>)'
        )

    def delete_vhost(self, vhost: str) -> None:
        self.eval(f'rabbit_vhost:delete({binary(vhost)}, <<"tests">>)')

    def list_queues(self, vhost: str = "/") -> dict[str, dict[str, Any]]:
        """Per queue: messages, messages_ready, messages_unacknowledged, consumers, durable."""
        items = ("messages", "messages_ready", "messages_unacknowledged", "consumers", "durable")
        rows: list[dict[str, Any]] = self.door.query(
            "[maps:from_list([{name, element(4, proplists:get_value(name, Row))} | proplists:delete(name, Row)])"
            f" || Row <- rabbit_amqqueue:info_all({binary(vhost)}, [name, {','.join(items)}])]"
        )
        return {row.pop("name"): row for row in rows}

    def list_exchanges(self, vhost: str = "/") -> set[str]:
        """The names of the exchanges, the broker's own included."""
        rows: list[str] = self.door.query(
            f"[element(4, proplists:get_value(name, Row)) || Row <- rabbit_exchange:info_all({binary(vhost)}, [name])]"
        )
        return set(rows)

    def list_consumers(self, vhost: str = "/") -> list[dict[str, Any]]:
        """Per consumer: queue, tag, ack_required, prefetch, active."""
        rows: list[dict[str, Any]] = self.door.query(
            "[#{queue => element(4, proplists:get_value(queue_name, Row)),"
            " tag => proplists:get_value(consumer_tag, Row),"
            " ack_required => proplists:get_value(ack_required, Row), active => proplists:get_value(active, Row),"
            " prefetch => proplists:get_value(prefetch_count, Row)}"
            f" || Row <- rabbit_amqqueue:consumers_all({binary(vhost)})]"
        )
        return rows

    def list_connections(self, vhost: str | None = None) -> list[dict[str, Any]]:
        """Per connection: name, vhost, user, state, channels, client_properties' connection_name."""
        rows: list[dict[str, Any]] = self.door.query(
            "[#{name => proplists:get_value(name, Row), vhost => proplists:get_value(vhost, Row),"
            " user => proplists:get_value(user, Row), state => proplists:get_value(state, Row),"
            " channels => proplists:get_value(channels, Row), timeout => proplists:get_value(timeout, Row),"
            " peer_port => proplists:get_value(peer_port, Row)}"
            " || Row <- rabbit_networking:connection_info_all("
            "[name, vhost, user, state, channels, timeout, peer_port])]"
        )
        return [row for row in rows if vhost is None or row["vhost"] == vhost]

    def list_channels(self, vhost: str | None = None) -> list[dict[str, Any]]:
        """Per channel: number, vhost, consumer_count, messages_unacknowledged, prefetch_count, confirm, ..."""
        items = "number,vhost,consumer_count,messages_unacknowledged,messages_unconfirmed,prefetch_count,confirm"
        rows: list[dict[str, Any]] = self.door.query(
            f"[maps:from_list(Row) || Row <- rabbit_channel:info_all([{items}])]"
        )
        return [row for row in rows if vhost is None or row["vhost"] == vhost]

    def close_all_connections(self, reason: str = "closed by the test", vhost: str | None = None) -> None:
        """Close connections as an operator would: clients get 320 CONNECTION_FORCED.

        One that ends by itself meanwhile is as good as closed: asking it would exit with noproc.
        """
        is_in = f"(catch rabbit_reader:info(Pid, [vhost])) =:= [{{vhost, {binary(vhost or '')}}}]"
        self.eval(
            f"[catch rabbit_networking:close_connection(Pid, {binary(reason)})"
            f" || Pid <- rabbit_networking:connections(), {'true' if vhost is None else is_in}]"
        )

    def set_memory_alarm(self) -> None:
        """Block publishers, as if memory ran short: clients that publish get connection.blocked.

        The broker tells its connections one by one, and reads a publish from one that doesn't know yet: when this
        returns they all know.
        """
        self.eval("rabbit_alarm:set_alarm({{resource_limit, memory, node()}, []})")
        wait_until(
            lambda: all(connection["state"] != "running" for connection in self.list_connections()),
            timeout=10,
            waiting_for="the alarm to reach all connections",
        )

    def clear_memory_alarm(self) -> None:
        self.eval("rabbit_alarm:clear_alarm({resource_limit, memory, node()})")

    def sync_quorum_names(self) -> None:
        """Write the quorum queues' registry to disk.

        RabbitMQ 3.10 does so every 0.5 s only (rabbitmq/ra#443): killed earlier, it comes back
        with an empty quorum queue.  Call this after declaring one and before ``kill9``.
        """
        self.eval("[dets:sync(Table) || Table <- dets:all()]")

    def wait_until_no_connections(self, vhost: str | None = None, timeout: float = 10.0) -> None:
        """Wait until the broker has forgotten all clients; fails naming those that stay."""
        try:
            wait_until(lambda: not self.list_connections(vhost), timeout=timeout, waiting_for="connections to end")
        except TimeoutError as error:
            raise AssertionError(f"connections outlived their owner: {self.list_connections(vhost)}") from error

    # --- the slow, official way -------------------------------------------------------

    def ctl(self, *arguments: str, timeout: float = 60.0) -> str:
        """Run rabbitmqctl (0.3-0.5 s); return its output."""
        completed = subprocess.run(
            [_PROGRAMS / "rabbitmqctl", "-q", "-n", self.name, *arguments],
            cwd=self.directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if completed.returncode:
            raise RuntimeError(f"rabbitmqctl {' '.join(arguments)}: {completed.stdout}{completed.stderr}")
        return completed.stdout

    @property
    def log(self) -> str:
        """The node's log so far, over all its starts."""
        return (self.directory / "log" / f"{self.name}.log").read_text(errors="replace")

    # --- own matters -------------------------------------------------------------------

    def _is_serving(self) -> bool:
        return answers(self.port, _GREETING, (b"\x01",)) and self.eval("ready") == "ready"

    def _make_environment(self, epmd_port: int) -> Mapping[str, str]:
        tools = free_port()
        return {
            "PATH": _PATH,
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            "HOME": str(self.directory / "home"),
            "RUNNING_UNDER_SYSTEMD": "true",  # makes the script exec erl: the pid is the node's
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_MNESIA_BASE": str(self.directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.directory / "log"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self.directory / "config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.directory / "advanced.config"),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "ERL_EPMD_PORT": str(epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP": os.devnull,
            "RABBITMQ_CTL_DIST_PORT_MIN": str(tools),
            "RABBITMQ_CTL_DIST_PORT_MAX": str(tools + 3),
            "RABBITMQ_CTL_ERL_ARGS": _LOOPBACK,
            # One scheduler: several nodes and the tests share few cores.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"+S 1:1 +SDcpu 1:1 +SDio 1 {_LOOPBACK} {self.door.boot_arguments}",
        }
