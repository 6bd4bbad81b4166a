"""A Ray cluster of several nodes on this machine, for tests: a process of its own that adds and kills nodes.

Reads a command a line from standard input and answers each with one line of JSON: `add SLOTS` and `kill NODE_ID`
(SIGKILL of all its processes, as when a machine is lost). Ends every node when its input ends. Ray's files go below
RAY_TMPDIR.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster

OBJECT_STORE_BYTES = 80 * 1024 * 1024


def options(hosts: int) -> dict[str, Any]:
    """Of one node."""
    return {
        "num_cpus": 1,
        "resources": {"session_host": hosts},
        "object_store_memory": OBJECT_STORE_BYTES,
        "include_dashboard": False,
        "node_ip_address": "127.0.0.1",
    }


def main(hosts: int) -> None:
    """Serve until the end of input; the first line says the address."""
    Path(
        os.environ["RAY_TMPDIR"], "ray"
    ).mkdir()  # Ray writes its address there, and does not make it
    cluster: Any = Cluster(initialize_head=True, head_node_args=options(hosts))
    nodes = {cluster.head_node.node_id: cluster.head_node}
    say({"address": cluster.address, "head": cluster.head_node.node_id})
    try:
        for line in sys.stdin:
            command, _, argument = line.strip().partition(" ")
            if command == "add":
                node = cluster.add_node(**options(int(argument)))
                nodes[node.node_id] = node
                say({"node": node.node_id})
            else:
                cluster.remove_node(nodes.pop(argument), allow_graceful=False)
                say({"killed": argument})
    finally:
        cluster.shutdown()


def say(answer: dict[str, Any]) -> None:
    """One line."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
