"""One trial as a plain function: a config in, its result or one sentence out. Knows nothing of Ray."""

import socket
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from moe.config import BFLOAT16, Config
from moe.result import Epoch, Result
from study.machine import ClusterError

Report = Callable[[dict[str, Any]], None]

REPORT_EVERY_S = 1.0

_warnings: deque[str] = deque()  # of the store's threads, until a report takes them along


@dataclass(frozen=True, kw_only=True)
class Job:
    """What all trials of a study have in common. Small, and sent to every worker."""

    dataset: str
    folder: Path | None
    data: str  # the fingerprint that the data must have
    score_examples: int
    cpus: int
    gpus: float
    store: str | None  # where trained stages are; None: train every one


def evaluate(job: Job, config: dict[str, Any], report: Report) -> None:
    """Train a config and report on it: its progress, then one row with `result` (JSON) or `error` (a sentence).

    What the store warned of since the last row goes with the next one, as `warnings`.

    What the config or its data bring about is reported as an error. Anything else is reported and raised as well,
    because after it this process may not be fit for another trial.
    """
    from torch import OutOfMemoryError

    from moe.data import DataError
    from moe.training.loop import TrainingError

    def tell(row: dict[str, Any]) -> None:
        report(row | {"warnings": [_warnings.popleft() for _ in range(len(_warnings))]} if _warnings else row)

    try:
        result = _train(job, Config(**config), tell)
    except (TrainingError, DataError) as error:
        tell(_failure(str(error)))
    except OutOfMemoryError:
        tell(_failure(f"out of GPU memory with batch_size {config['batch_size']}, {job.gpus:g} GPU a trial"))
    except Exception as error:
        tell(_failure(f"{type(error).__name__} on {socket.gethostname()}: {error}"))
        raise
    else:
        tell({"result": result.model_dump_json()})


def _failure(sentence: str) -> dict[str, Any]:
    return {"error": " ".join(sentence.split()), "traceback": traceback.format_exc()}


def _train(job: Job, config: Config, report: Report) -> Result:
    import torch

    from moe.pipeline import run
    from moe.training.numerics import best_precision

    torch.set_num_threads(job.cpus)
    if job.gpus == 0 and config.precision == BFLOAT16 != best_precision("cpu"):
        _warnings.append(
            f"bfloat16 may be slow on {socket.gethostname()}, whose CPU has no AMX or may not use it; "
            "--precision float32 may be faster"
        )
    last = -REPORT_EVERY_S

    def watch(stage: str, epoch: int, epochs: int, came_to: Epoch) -> None:
        nonlocal last
        if time.monotonic() - last >= REPORT_EVERY_S:  # a report waits for the driver: not after every epoch
            last = time.monotonic()
            report({"stage": stage, "epoch": epoch, "epochs": epochs})

    return run(
        config,
        _data(job),
        _store(job),
        devices=devices(job.gpus),
        score_examples=job.score_examples,
        on_epoch=watch,
    )


@lru_cache(maxsize=1)
def _store(job: Job) -> Any:
    """The job's store, opened once per process."""
    from moe.store import Store

    return Store(job.store, warn=_warnings.append) if job.store else None


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
    """The devices of an allotment: GPUs of one model that this process sees, or the CPU where none was allotted.

    Raises:
        ClusterError: a GPU was allotted and there is none.
    """
    import torch

    from moe.training.numerics import available_gpus

    if gpus == 0:
        return (torch.device("cpu"),)
    present = available_gpus()
    if not present:
        raise ClusterError(f"{gpus:g} GPUs a trial, but torch {torch.__version__} sees none on {socket.gethostname()}")
    return present[: max(1, int(gpus))]
