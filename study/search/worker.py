"""One trial in its worker process, which holds the data and the store for all of its trials. No Ray here."""

import socket
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import OutOfMemoryError

from moe import pipeline
from moe.config import BFLOAT16, Config
from moe.data import DataError, DataSet, load
from moe.store.store import Store
from moe.training.loop import TrainingError
from moe.training.numerics import available_gpus, best_precision
from study.machine import ClusterError
from study.search.resources import Resources
from study.search.trial import Job, Reporter, Row

warnings: deque[str] = deque()  # of this process, until a trial reports them


def evaluate(job: Job, config: Config, send: Callable[[Row], None]) -> None:
    """Train a config, and send a row after epochs and a last one with the result or an error.

    An error caused by the config or its data is reported. Any other is reported and raised, because the process may
    not be able to run another trial after it.
    """
    reporter = Reporter(send, warnings)
    own = job.resources.of(config)
    if own.gpus_per_trial == 0 and config.precision == BFLOAT16 != best_precision("cpu"):
        warnings.append(
            f"bfloat16 may be slow on {socket.gethostname()}, whose CPU lacks or may not use instructions for it; "
            "--precision float32 may be faster"
        )
    with _failures_reported(reporter, config, own):
        result = pipeline.run(
            config,
            data(job),
            store(job),
            devices=devices(own),
            on_epoch=reporter.on_epoch,
        )
        reporter.send({"result": result.model_dump_json()})


def refer(job: Job, config: Config, send: Callable[[Row], None]) -> None:
    """Train a config's baseline, and send its accuracy or an error; otherwise as `evaluate`."""
    reporter, own = Reporter(send, warnings), job.resources.of(config)
    with _failures_reported(reporter, config, own):
        reporter.send({"accuracy": pipeline.baseline_accuracy(config, data(job), store(job), devices(own))})


@contextmanager
def _failures_reported(reporter: Reporter, config: Config, own: Resources) -> Iterator[None]:
    try:
        yield
    except (TrainingError, DataError) as error:
        reporter.fail(str(error))
    except OutOfMemoryError:
        reporter.fail(f"out of GPU memory with batch_size {config.batch_size}, {own.gpus_per_trial:g} GPU a trial")
    except Exception as error:
        reporter.fail(f"{type(error).__name__} on {socket.gethostname()}: {error}")
        raise


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


def devices(resources: Resources) -> tuple[torch.device, ...]:
    """The devices of an allotment: GPUs of one model that this process sees, or its CPUs if no GPU is allotted.

    Raises:
        ClusterError: a GPU is allotted and there is none.
    """
    if (gpus := resources.gpus_per_trial) == 0:
        return (torch.device("cpu"),) * resources.cpus_per_trial
    present = available_gpus()
    if not present:
        seen = f"torch {torch.__version__} sees none on {socket.gethostname()}"
        raise ClusterError(f"{gpus:g} GPU{'s' * (gpus > 1)} a trial, but {seen}; --gpus-per-trial 0 trains on CPUs")
    return present[: max(1, int(gpus))]
