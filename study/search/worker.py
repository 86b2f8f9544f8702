"""What a worker process holds for all of its trials: the data and the store, opened once, and its devices."""

import socket
from collections import deque
from functools import lru_cache

import torch
from torch import OutOfMemoryError

from moe import pipeline
from moe.config import BFLOAT16, Config
from moe.data import DataError, DataSet, load
from moe.result import Result
from moe.scheduler import OnEpoch
from moe.store import Store
from moe.training.loop import TrainingError
from moe.training.numerics import available_gpus, best_precision
from study.machine import ClusterError
from study.search.trial import Job

#: errors that the config or its data cause; the process can run another trial after them
CAUSED_BY_CONFIG = (TrainingError, DataError)

warnings: deque[str] = deque()  # of this process, until a trial reports them


def train(job: Job, config: Config, on_epoch: OnEpoch) -> Result:
    """Train a config on the devices of a job.

    Raises:
        Exception: one of CAUSED_BY_CONFIG, or whatever else torch raises.
    """
    torch.set_num_threads(job.cpus)
    if job.gpus == 0 and config.precision == BFLOAT16 != best_precision("cpu"):
        warnings.append(
            f"bfloat16 may be slow on {socket.gethostname()}, whose CPU has no AMX or may not use it; "
            "--precision float32 may be faster"
        )
    where = devices(job.gpus)
    try:
        return pipeline.run(
            config, data(job), store(job), devices=where, score_examples=job.score_examples, on_epoch=on_epoch
        )
    except OutOfMemoryError as error:
        sentence = f"out of GPU memory with batch_size {config.batch_size}, {job.gpus:g} GPU a trial"
        raise TrainingError(sentence) from error


@lru_cache(maxsize=1)
def store(job: Job) -> Store | None:
    """The store of a job, opened once per process."""
    return Store(job.store, warn=warnings.append) if job.store else None


@lru_cache(maxsize=1)
def data(job: Job) -> DataSet:
    """The data of a job, loaded once per process.

    Raises:
        DataError: this machine does not have them, or has others.
    """
    found = load(job.dataset, job.folder, download=False)
    if found.fingerprint != job.data:
        raise DataError(
            f"the data on {socket.gethostname()} are {found.fingerprint[:12]}; expected {job.data[:12]}, "
            "those that the study began with"
        )
    return found


def devices(gpus: float) -> tuple[torch.device, ...]:
    """The devices of an allotment: GPUs of one model that this process sees, or the CPU if none is allotted.

    Raises:
        ClusterError: a GPU is allotted and there is none.
    """
    if gpus == 0:
        return (torch.device("cpu"),)
    present = available_gpus()
    if not present:
        raise ClusterError(f"{gpus:g} GPUs a trial, but torch {torch.__version__} sees none on {socket.gethostname()}")
    return present[: max(1, int(gpus))]
