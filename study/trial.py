"""One trial as a plain function: a config in, its result or one sentence out. Knows nothing of Ray."""

import json
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from moe.config import Config
from study.machine import ClusterError

Report = Callable[[dict[str, Any]], None]

REPORT_EVERY_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """What all trials of a study have in common. Small, and sent to every worker."""

    dataset: str
    folder: Path | None
    data: str  # the fingerprint that the data must have
    score_examples: int
    cpus: int
    gpus: float


def evaluate(job: Job, config: dict[str, Any], report: Report) -> None:
    """Train a config and report on it: its progress, then one row with `result` (JSON) or `error` (a sentence).

    What the config or its data bring about is reported as an error. Anything else is reported and raised as well,
    because after it this process may not be fit for another trial.
    """
    from torch import OutOfMemoryError

    from moe.data import DataError
    from moe.training import TrainingError

    try:
        result = _train(job, Config(**config), report)
    except (TrainingError, DataError) as error:
        report(_failure(str(error)))
    except OutOfMemoryError:
        report(_failure(f"out of GPU memory with batch_size {config['batch_size']}, {job.gpus:g} GPU a trial"))
    except Exception as error:
        report(_failure(f"{type(error).__name__} on {socket.gethostname()}: {error}"))
        raise
    else:
        report({"result": json.dumps(result, allow_nan=False)})


def _failure(sentence: str) -> dict[str, Any]:
    return {"error": " ".join(sentence.split()), "traceback": traceback.format_exc()}


def _train(job: Job, config: Config, report: Report) -> dict[str, Any]:
    import torch

    from moe.pipeline import run
    from moe.training import Epoch

    torch.set_num_threads(job.cpus)
    last = -REPORT_EVERY_S

    def watch(stage: str, epoch: int, epochs: int, came_to: Epoch) -> None:
        nonlocal last
        if time.monotonic() - last >= REPORT_EVERY_S:  # a report waits for the driver: not after every epoch
            last = time.monotonic()
            report({"stage": stage, "epoch": epoch, "epochs": epochs})

    data = _data(job)
    result = run(config, data, devices=devices(job.gpus), score_examples=job.score_examples, watch=watch)
    return result.as_dict()


@lru_cache(maxsize=1)
def _data(job: Job) -> Any:
    """The job's data, loaded once per process."""
    from moe.data import DataError, load

    data = load(job.dataset, job.folder, download=False)
    if data.fingerprint != job.data:
        raise DataError(
            f"the data on {socket.gethostname()} are {data.fingerprint[:12]}; expected {job.data[:12]}, "
            "those that the study began with"
        )
    return data


def devices(gpus: float) -> tuple[Any, ...]:
    """The devices of an allotment: the GPUs that this process sees, or the CPU where none was allotted.

    Raises:
        ClusterError: a GPU was allotted and there is none.
    """
    import torch

    if gpus == 0:
        return (torch.device("cpu"),)
    present = torch.cuda.device_count()
    if not present:
        raise ClusterError(f"{gpus:g} GPUs a trial, but torch {torch.__version__} sees none on {socket.gethostname()}")
    return tuple(torch.device("cuda", index) for index in range(min(present, max(1, int(gpus)))))
