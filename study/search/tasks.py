"""Tasks that need no search: each runs once under Ray, on what a trial is allotted."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import ray
from ray.exceptions import RayError

from moe.config import Config
from study.machine import ClusterError
from study.search.ray_cluster import connected
from study.search.resources import Resources
from study.search.stopping import Stop
from study.search.watch import Clock, watched

Task = TypeVar("Task")
Found = TypeVar("Found")

POLL_S = 0.5  # between two looks at whether to stop, and at how far the workers are
ATTEMPTS = 4  # at a task, whose worker may be lost


class Worker(Generic[Task, Found]):
    """A process that runs one task at a time, and answers meanwhile how far it is."""

    def __init__(self, work: Callable[[Task, Callable[..., None]], Found]) -> None:
        self._work, self._steps = work, 0

    def run(self, task: Task) -> Found:
        """What `work` makes of a task."""
        return self._work(task, self._step)

    def steps(self) -> int:
        """A number that grows while the task does."""
        return self._steps

    def _step(self, *ignored: object) -> None:
        self._steps += 1


class Running:
    """A task in a worker, as the driver sees it."""

    def __init__(self, own: Resources, worker: Any, task: object, since: float | None) -> None:
        self.own, self.worker, self.found = own, worker, worker.run.remote(task)
        self._answer, self._steps = worker.steps.remote(), None
        self._since = since  # its last step; None while its worker may wait for room

    def silent_s(self, now: float) -> float:
        """Seconds since its last step."""
        if ray.wait([self._answer], timeout=0)[0]:
            if (steps := _received(self._answer)) != self._steps:
                self._steps, self._since = steps, now
            self._answer = self.worker.steps.remote()
        return 0.0 if self._since is None else now - self._since


def run_tasks(
    work: Callable[[Task, Callable[..., None]], Found],
    tasks: Sequence[Task],
    config: Callable[[Task], Config],
    resources: Resources,
    address: str,
    stop: Stop,
    done: Callable[[Found], None],
    stall_s: float,
) -> None:
    """Run tasks until all have ended, or a stop. A task whose worker is lost starts again, as Ray has it.

    Args:
        work: of one task, in a worker process; it calls its second argument, with anything, as it goes on.
        config: of a task; it decides what its worker is allotted.
        address: of Ray.
        done: called here with what `work` returns, as each task ends.
        stall_s: seconds without a step after which a worker is killed.

    Raises:
        ClusterError: the cluster cannot be reached, lost a worker again and again, or one stood still.
        Exception: any that `work` raises, also as ray.exceptions.RayTaskError.
    """
    waiting, running, idle, clock = deque(tasks), list[Running](), list[tuple[Resources, Any]](), Clock()
    private = address == "local"
    with connected(address, resources), watched(stop, private):
        while (waiting or running) and not stop.now():
            while waiting and len(running) < resources.concurrency:
                own = resources.of(config(waiting[0]))
                # Ray ends workers that nothing refers to any more, and frees their CPUs
                idle = [each for each in idle if each[0] == own]
                worker = idle.pop()[1] if idle else _hired(work, own)
                since = clock.now if private and not resources.rules else None
                running.append(Running(own, worker, waiting.popleft(), since))
            ready, _ = ray.wait([each.found for each in running], timeout=POLL_S)
            now = clock.read()
            for each in [*running]:
                if each.found in ready:
                    running.remove(each)
                    if waiting:  # otherwise Ray may need its CPUs for a larger task
                        idle.append((each.own, each.worker))
                    done(_received(each.found))
                elif each.silent_s(now) > stall_s:
                    ray.kill(each.worker)
                    raise ClusterError(f"a worker reported nothing for {stall_s / 60:g} minutes")


def _hired(work: Callable[..., Any], own: Resources) -> Any:
    hire = ray.remote(Worker).options(
        num_cpus=own.cpus_per_trial,
        num_gpus=own.gpus_per_trial,
        label_selector=own.labels,
        max_restarts=-1,
        max_task_retries=ATTEMPTS - 1,
        max_concurrency=2,  # its task and the question how far it is
    )
    return hire.remote(work)


def _received(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError:
        raise
    except RayError as error:
        raise ClusterError(f"a worker was lost: {' '.join(str(error).split())[:300]}") from error
