"""Workers where they are wanted: on this machine, or on a Ray cluster."""

from __future__ import annotations

from hounsfield.distributed.pool import LocalPool, Pool
from hounsfield.distributed.ray_pool import RayPool
from hounsfield.distributed.work import Work
from hounsfield.distributed.worker import Limits
from hounsfield.hardware import num_cores


def open_pool(work: Work, *, workers: int | None, ray: str | None, limits: Limits) -> Pool:
    """Workers on this machine, or on a Ray cluster.

    Args:
        work: that they open.
        workers: how many; by default one for each core.
        ray: the address of a cluster; ``None`` for this machine.
        limits: of one item.

    Raises:
        MissingDependency: Ray is not installed.
        ResourceError: there is no cluster at the address.
    """
    if ray is None:
        return LocalPool(work, workers or num_cores(), limits)
    return RayPool(work, ray, workers, limits)
