"""A Ray cluster on this machine: its nodes are processes that can be killed. Nothing of it listens but on loopback."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from typing import Any

STORE_BYTES = 80 << 20
HOST = "127.0.0.1"
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # or Ray takes another address for a loopback one


@contextlib.contextmanager
def three_nodes(cpus: int = 1, host: str = HOST, **resources: float) -> Iterator[tuple[str, Any]]:
    """Address and `ray.cluster_utils.Cluster`. The first node has no processors, so that the two others can be killed
    without the cluster's own processes; hence a third one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ray
        from ray.cluster_utils import Cluster

        cluster = Cluster()
        try:
            cluster.add_node(**node_options(0, host))
            for _ in range(3):
                cluster.add_node(**node_options(cpus, host, **resources))
            yield cluster.address, cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


def node_options(cpus: int, host: str = HOST, **resources: float) -> dict[str, Any]:
    """Of one node."""
    return {
        "num_cpus": cpus, "num_gpus": 0, "object_store_memory": STORE_BYTES, "memory": 8 << 30, "resources": resources,
        "node_ip_address": host, "include_dashboard": False,
    }  # fmt: skip
