"""Tasks that need no search: each runs once under Ray, on what a trial is allotted."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError

from study.machine import ClusterError
from study.search.ray_cluster import connected
from study.search.resources import Resources
from study.search.stopping import Stop
from study.search.watch import watched

Task = TypeVar("Task")
Found = TypeVar("Found")

POLL_S = 0.5  # between two looks at whether to stop


def run_tasks(
    work: Callable[[Task], Found],
    tasks: Sequence[Task],
    resources: Resources,
    address: str,
    stop: Stop,
    done: Callable[[Found], None],
) -> None:
    """Run tasks until all have ended, or a stop. A task whose worker is lost starts again, as Ray has it.

    Args:
        work: of one task, in a worker process.
        address: of Ray.
        done: called here with what `work` returns, as each task ends.

    Raises:
        ClusterError: the cluster cannot be reached, or lost a worker again and again.
        Exception: any that `work` raises, also as ray.exceptions.RayTaskError.
    """
    waiting, running = deque(tasks), list[Any]()
    gpus = resources.gpus_per_trial
    with connected(address, resources), watched(stop, address == "local"):
        # max_calls: a worker goes on to the next task, also with a GPU, and keeps its data and store
        place = {"num_cpus": resources.cpus_per_trial, "num_gpus": gpus, "label_selector": resources.labels}
        remote = ray.remote(**place, max_calls=0)(work)
        while (waiting or running) and not stop.now():
            while waiting and len(running) < resources.concurrency:
                running.append(remote.remote(waiting.popleft()))
            ready, running = ray.wait(running, timeout=POLL_S)
            for each in ready:
                done(_received(each))


def _received(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError:
        raise
    except RayError as error:
        raise ClusterError(f"a worker was lost: {' '.join(str(error).split())[:300]}") from error
