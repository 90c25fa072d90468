"""A private RabbitMQ cluster on loopback: three nodes that share an epmd and a cookie, and nothing else."""

from __future__ import annotations

import secrets
from pathlib import Path

from .erlang import ErlangError
from .processes import free_port, wait_until
from .rabbitmq import RabbitMQNode, make_epmd

NAMES = ("one", "two", "three")
TICK = 4.0
"""Seconds of Erlang's net_ticktime, a minute by default: within them, and a quarter more, nodes notice that another
stands still."""


class RabbitMQCluster:
    """``nodes``; queues of type quorum have a replica on each."""

    def __init__(self, base: Path) -> None:
        base.mkdir(parents=True)
        cookie, epmd_port = secrets.token_hex(16), free_port()
        (base / "epmd").mkdir()
        self._epmd = make_epmd(base / "epmd", epmd_port)
        conf = [
            "cluster_formation.peer_discovery_backend = classic_config",
            "cluster_partition_handling = pause_minority",
        ]
        conf += [f"cluster_formation.classic_config.nodes.{n} = {name}@localhost" for n, name in enumerate(NAMES, 1)]
        self.nodes = [
            RabbitMQNode(
                base / name,
                name=name,
                cookie=cookie,
                epmd_port=epmd_port,
                conf=conf,
                advanced=f"[{{kernel, [{{net_ticktime, {TICK:.0f}}}]}}].",
            )
            for name in NAMES
        ]

    def start(self) -> None:
        """Start all, and wait until they are one cluster: 8-15 s."""
        self._epmd.start()
        for node in self.nodes:
            node.spawn()
        for node in self.nodes:
            node.wait_ready()
        for node in self.nodes:
            self.wait_joined(node)

    def wait_joined(self, node: RabbitMQNode, timeout: float = 60.0) -> None:
        """Wait until a node knows that all are there."""

        def joined() -> bool:
            try:
                return node.eval("length(rabbit_nodes:all_running())") == str(len(self.nodes))
            except ErlangError:
                return False  # it has paused itself, or is joining again

        wait_until(joined, timeout=timeout, waiting_for=f"{node.name} to see all nodes")

    def leader_of(self, queue: str, asked: RabbitMQNode, vhost: str = "/") -> str | None:
        """Which node leads a quorum queue, if that is known to ``asked`` and alive."""
        name = f"'{'%2F' if vhost == '/' else vhost}_{queue}'"
        told = asked.eval(
            f"case ra:members({{{name}, node()}}, 500) of {{ok, _, {{_, Leader}}}} -> Leader; _ -> none end"
        )
        return None if told == "none" else told.strip("'")

    def close(self) -> None:
        """End everything, by force."""
        for node in self.nodes:
            node.close()
        if self._epmd.running:
            self._epmd.kill9()
