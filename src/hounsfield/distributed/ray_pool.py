"""Workers as actors of a Ray cluster: one that is lost is replaced, and its task is given to another."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hounsfield.distributed.pool import Pool, Task
from hounsfield.distributed.ray_cluster import connect, num_cluster_cores
from hounsfield.distributed.work import Work
from hounsfield.distributed.worker import Limits, Worker
from hounsfield.errors import ResourceError
from hounsfield.images.settings import current_settings

# How often a task may lose its worker before something in it must be at fault.
MOST_LOSSES = 5
# How long no worker may be there at all: a cluster that scales needs minutes to start a machine.
PATIENCE_SECONDS = 900.0
# How long at most to wait before the cluster is looked at again.
LOOK_SECONDS = 2.0


class RemoteWorker:
    """A worker on a machine of the cluster; the actor watches the process that does the work.

    Args:
        work: packed.
        limits: of one item.
        settings: of the reading of images, as on the machine of the command.
        folder: from which relative paths count, where this machine has it.
    """

    def __init__(self, work: Work, limits: Limits, settings: dict[str, str], folder: str) -> None:
        if Path(folder).is_dir():
            os.chdir(folder)
        os.environ.update({name: value for name, value in settings.items() if value})
        self._worker = Worker(work, limits)

    def ready(self) -> bool:
        """Answers once the actor runs."""
        return True

    def run(self, task: Task) -> Any:
        """Do a task."""
        return task.run(self._worker)


@dataclass(eq=False)
class _Actor:
    """One actor, and the tasks that it was given."""

    handle: Any
    ready: Any
    is_ready: bool = False
    tasks: dict[Any, int] = field(default_factory=dict)


class RayPool(Pool):
    """Actors of a Ray cluster, of one core each.

    Args:
        work: of all of them.
        address: of the cluster: ``auto``, ``HOST:PORT``, ``ray://HOST:PORT``, or ``local``, which starts one here.
        size: how many actors; by default one for each core of the cluster.
        limits: of one item.

    Raises:
        MissingDependency: Ray is not installed.
        ResourceError: there is no cluster at the address.
    """

    def __init__(self, work: Work, address: str, size: int | None, limits: Limits) -> None:
        self._ray = connect(address)
        cores = num_cluster_cores(self._ray)
        self.size = size or max(cores, 1)
        self.description = f"{self.size} actors of the Ray cluster at {address}, which has {cores} cores"
        self.host = str(self._ray.util.get_node_ip_address())
        self._limits = limits
        self._work = self._ray.put(work.packed())
        self._class = self._ray.remote(num_cpus=limits.cores, max_restarts=0, max_task_retries=0)(RemoteWorker)
        self._actors = [self._new() for _ in range(self.size)]
        self._waiting: deque[tuple[int, Task]] = deque()
        self._tasks: dict[int, Task] = {}
        self._losses: dict[int, int] = {}
        self._failed_starts = 0
        self._seen = time.monotonic()
        # A thread that is in Ray while another one leaves the cluster could crash the process, or join it anew.
        self._in_ray = threading.Lock()
        self._closed = False

    def _new(self) -> _Actor:
        handle = self._class.remote(self._work, self._limits, current_settings(), str(Path.cwd()))
        return _Actor(handle, handle.ready.remote())

    def _submit(self, number: int, task: Task) -> None:
        self._tasks[number] = task
        self._waiting.append((number, task))

    def _collect(self) -> list[tuple[int, Any]]:
        while True:
            with self._in_ray:
                if self._closed:
                    raise ResourceError(
                        "The workers were ended while they had something to do. Start the command again."
                    )
                self._assign()
                found = self._look()
            if found:
                return found

    def _assign(self) -> None:
        """Give the tasks that wait to those actors that have the fewest: one at work, and one that is ready for it."""
        for most in range(1, self._ahead + 1):
            for actor in self._actors:
                while self._waiting and actor.is_ready and len(actor.tasks) < most:
                    number, task = self._waiting.popleft()
                    actor.tasks[actor.handle.run.remote(task)] = number

    def _look(self) -> list[tuple[int, Any]]:
        of_actor = {actor.ready: actor for actor in self._actors if not actor.is_ready}
        of_actor |= {reference: actor for actor in self._actors for reference in actor.tasks}
        done, _ = self._ray.wait(list(of_actor), num_returns=1, timeout=LOOK_SECONDS)
        found = []
        for reference in done:
            actor = of_actor[reference]
            try:
                result = self._ray.get(reference)
            except self._ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except self._ray.exceptions.RayError as error:
                self._replace(actor, error)
                continue
            if reference is actor.ready:
                actor.is_ready = True
                self._failed_starts = 0
            else:
                number = actor.tasks.pop(reference)
                self._tasks.pop(number)
                found.append((number, result))
        self._check_patience()
        return found

    def _replace(self, actor: _Actor, error: Exception) -> None:
        """Let others do what an actor that is gone had to do."""
        if self._closed or actor not in self._actors:
            return
        self._failed_starts += not actor.is_ready
        if self._failed_starts > MOST_LOSSES * self.size:
            raise ResourceError(
                f"No worker can be started on the Ray cluster ({' '.join(str(error).split()):.600}). Every machine "
                "needs the same versions of Hounsfield, Python and Ray."
            ) from error
        for number in sorted(actor.tasks.values(), reverse=True):
            self._losses[number] = self._losses.get(number, 0) + 1
            if self._losses[number] > MOST_LOSSES:
                raise ResourceError(
                    f"The Ray cluster has lost {self._losses[number]} workers in turn at the same task "
                    f"({' '.join(str(error).split()):.400}). Look at its machines with `ray status`; what was done is "
                    "kept, and the same command goes on from there."
                ) from error
            self._waiting.appendleft((number, self._tasks[number]))
        self._actors[self._actors.index(actor)] = self._new()

    def _check_patience(self) -> None:
        if any(actor.is_ready for actor in self._actors):
            self._seen = time.monotonic()
        elif time.monotonic() - self._seen > PATIENCE_SECONDS:
            raise ResourceError(
                f"The Ray cluster has had no worker for {PATIENCE_SECONDS / 60:.0f} minutes: "
                f"it needs {self._limits.cores} "
                "free core for each. Look at `ray status`, and give the command again when there are free ones."
            )

    def close(self) -> None:
        """End the actors, also while another thread waits for them. Safe twice.

        A cluster that was started for this command ends with it.
        """
        if self._closed:
            return
        self._closed = True
        if self._ray.is_initialized():
            for actor in self._actors:
                self._ray.kill(actor.handle)
            with self._in_ray:
                self._ray.shutdown()
        self._actors = []
