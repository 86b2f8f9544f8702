"""One seed of one config in its worker process: trained with its controls, predicted, not scored. No Ray here."""

import socket
import time
from dataclasses import dataclass
from typing import Any

from torch import OutOfMemoryError

from moe.config import Config
from moe.controls import run_controls
from moe.data import DataError
from moe.scheduler import OnEpoch
from moe.training.loop import TrainingError
from study.confirm.plan import Role, SeedRecord, packed_classes
from study.machine import ClusterError
from study.search import worker
from study.search.trial import Job
from study.study import COMPLETE, FAILED, now


@dataclass(frozen=True)
class Ended:
    """How a training ended."""

    record: SeedRecord | None  # None where the machine, not the training, is to blame
    problem: str  # then, in a sentence
    warnings: tuple[str, ...]  # of the worker's process, since the last training


def train_and_predict(job: Job, role: Role, config: Config, on_epoch: OnEpoch) -> Ended:
    """Train a config on its seed and predict.

    A training that diverges is a result too; any other error is not. `on_epoch` is called as training goes on.
    """
    started, began, problem = now(), time.perf_counter(), ""
    outcome: dict[str, Any] = {"state": FAILED}
    try:
        found = run_controls(
            config, worker.data(job), worker.store(job), worker.devices(job.resources.of(config)), on_epoch
        )
    except TrainingError as error:
        outcome["error"] = str(error)
    except (DataError, ClusterError, OutOfMemoryError) as error:
        problem = f"{socket.gethostname()}: {' '.join(str(error).split())}"
    else:
        outcome = {
            "state": COMPLETE,
            "device": found.result.device,
            "networks": found.networks,
            "validation_gain": found.result.gain,
            "images": len(found.predicted["baseline"]),
            "predicted": {name: packed_classes(classes) for name, classes in found.predicted.items()},
        }
    record = None
    if not problem:
        seconds = time.perf_counter() - began
        record = SeedRecord(role=role, config=config, started=started, ended=now(), seconds=seconds, **outcome)
    warnings = tuple(worker.warnings)
    worker.warnings.clear()
    return Ended(record, problem, warnings)
