"""What a short job costs, and whether many of them make the command's memory grow: on this machine, or on three nodes.

``python -m tests.estimates.short_jobs --jobs 10000 [--ray]``
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import time

from munas.jobs.base import Job, JobBackend, Workers
from munas.jobs.cluster import RayBackend
from munas.jobs.local import LOCAL
from munas.jobs.words import own_memory_bytes
from tests.job_kinds import PRELOAD, Play
from tests.ray_cluster import three_nodes

EVERY = 1000


def many(backend: JobBackend, count: int) -> None:
    """A line for each thousand jobs: memory of this process in MiB, Python's objects, ms of its processor a job."""
    work, begun, done = Play(), 0, 0
    with backend.open(Workers(3, preload=PRELOAD)) as jobs:
        used = time.process_time()
        while done < count:
            while begun < count and jobs.idle:
                jobs.submit(Job(f"job-{begun}", work, ("", begun)))
                begun += 1
            for finished in jobs.wait():
                assert finished.value == finished.job.argument[1], finished.message
                done += 1
                if done % EVERY == 0:
                    ms, memory = 1000 * (time.process_time() - used) / EVERY, memory_bytes() / 2**20
                    print(f"| {done} | {memory:.1f} | {len(gc.get_objects())} | {ms:.2f} |", flush=True)
                    used = time.process_time()


def memory_bytes() -> int:
    """Resident bytes of this process that are not pages of files, without garbage."""
    gc.collect()
    return own_memory_bytes(os.getpid())


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--ray", action="store_true")
    options = parser.parse_args()
    print("| jobs done | MiB | objects | ms a job |\n|---|---|---|---|")
    with contextlib.ExitStack() as opened:
        backend: JobBackend = RayBackend(opened.enter_context(three_nodes())[0]) if options.ray else LOCAL
        many(backend, options.jobs)


if __name__ == "__main__":
    main()
