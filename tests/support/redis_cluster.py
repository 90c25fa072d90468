"""A Redis Cluster on loopback: three primaries, and a replica of the one that has the slot that matters."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import attrs

from .processes import wait_until
from .redis_server import RedisNode

SLOTS = 16384


@attrs.frozen
class RedisCluster:
    """Its nodes; ``owner`` is the primary that has ``slot``, and the replica is its own."""

    primaries: list[RedisNode]
    owner: RedisNode
    replica: RedisNode

    @classmethod
    def start(cls, base: Path, slot: int) -> Self:
        """Start the nodes and wait until they agree."""
        conf = ["cluster-node-timeout 1000", "repl-diskless-sync-delay 0"]
        nodes = [RedisNode(base / f"node{number}", conf=conf, cluster=True) for number in range(4)]
        primaries, replica = nodes[:3], nodes[3]
        cluster = cls(primaries, primaries[slot * 3 // SLOTS], replica)
        try:
            for node in nodes:
                node.spawn()
            for node in nodes:
                node.wait_ready()
            cluster._form()
        except BaseException:
            cluster.close()
            raise
        return cluster

    def _form(self) -> None:
        nodes = [*self.primaries, self.replica]
        for number, node in enumerate(self.primaries):
            mine = [slot for slot in range(SLOTS) if slot * 3 // SLOTS == number]
            node.ask("CLUSTER", "ADDSLOTS", *mine)
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in nodes[1:]:
            nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port)
        for node in nodes:
            self._wait(node, b"cluster_known_nodes:4")
        self.replica.ask("CLUSTER", "REPLICATE", self.owner.ask("CLUSTER", "MYID"))
        for node in nodes:
            self._wait(node, b"cluster_state:ok")
        wait_until(
            lambda: b"master_link_status:up" in self.replica.ask("INFO", "replication"),
            timeout=20,
            waiting_for="the replica to follow",
        )

    def _wait(self, node: RedisNode, word: bytes) -> None:
        wait_until(lambda: word in node.ask("CLUSTER", "INFO"), timeout=20, waiting_for=word.decode())

    def close(self) -> None:
        """End all of it by force."""
        for node in (*self.primaries, self.replica):
            if node.running:
                node.kill9()
