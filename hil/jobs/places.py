"""Where jobs run: processes of this machine, or the Ray cluster of ``--cluster``."""

from __future__ import annotations

import os

from hil.errors import InfrastructureError
from munas.errors import JobsError
from munas.jobs.base import ONE_CORE, JobBackend, Needs
from munas.jobs.cluster import RayBackend
from munas.jobs.local import LOCAL


def backend_of(cluster: str | None) -> JobBackend:
    """The place: a cluster's address, None for this machine."""
    return LOCAL if cluster is None else RayBackend(cluster)


def usual_workers(cluster: str | None, needs: Needs = ONE_CORE) -> int:
    """As many jobs at a time as there is room for. Raises InfrastructureError when the cluster cannot be used."""
    if cluster is None:
        return os.cpu_count() or 1
    try:
        return max(1, RayBackend(cluster).capacity(needs))
    except JobsError as error:
        raise InfrastructureError(str(error)) from error
