"""A Ray cluster on this machine: its nodes are processes that can be killed. Nothing of it listens but on loopback."""

from __future__ import annotations

import contextlib
import os
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STORE_BYTES = 80 << 20
HOST = "127.0.0.1"
ATTEMPTS = 4
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_worker_niceness", "0")  # the usual 15 lets the jobs of tests wait for all other work
os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "3")  # as munas.jobs does, so that it is there before any test
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # or Ray takes another address for a loopback one


@contextlib.contextmanager
def three_nodes(cpus: int = 1, host: str = HOST, **resources: float) -> Iterator[tuple[str, Any]]:
    """Address and `ray.cluster_utils.Cluster`. The first node has no processors, so that the two others can be killed
    without the cluster's own processes; hence a third one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ray

        cluster = _started([node_options(0, host), *[node_options(cpus, host, **resources)] * 3])
        try:
            yield cluster.address, cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


def _started(nodes: list[dict[str, Any]]) -> Any:
    """A cluster of nodes. Ray gives each one 30 s, which a busy machine does not always keep."""
    from ray.cluster_utils import Cluster

    for attempt in range(ATTEMPTS):
        before = _children()
        cluster = Cluster()
        try:
            for options in nodes:
                cluster.add_node(**options)
            return cluster
        except Exception:
            cluster.shutdown()
            for process in _children() - before:  # of the node that did not start: Ray leaves them to us
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def _children() -> set[int]:
    """Processes that this one started, in whichever thread."""
    found = set[int]()
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that has ended meanwhile
            found.update(map(int, path.read_text().split()))
    return found


def node_options(cpus: int, host: str = HOST, **resources: float) -> dict[str, Any]:
    """Of one node."""
    return {
        "num_cpus": cpus, "num_gpus": 0, "object_store_memory": STORE_BYTES, "memory": 8 << 30, "resources": resources,
        "node_ip_address": host, "include_dashboard": False,
    }  # fmt: skip
