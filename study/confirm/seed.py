"""One seed of one config in its worker process: trained with its controls, predicted, not scored. No Ray here."""

from moe.config import Config
from moe.controls import run_controls
from moe.training.loop import TrainingError
from study.confirm.plan import Role, SeedRecord, packed_classes
from study.search import worker
from study.search.trial import Job
from study.study import COMPLETE, FAILED, now


def train_and_predict(job: Job, role: Role, config: Config) -> tuple[SeedRecord, list[str]]:
    """The record of a config on its seed, and this process's warnings since the last one.

    A training that diverges is a result of its own and is recorded. Any other error ends the confirmation.
    """
    started = now()
    try:
        found = run_controls(config, worker.data(job), worker.store(job), worker.devices(job.resources))
    except TrainingError as error:
        ended = now()
        seconds = (ended - started).total_seconds()
        record = SeedRecord(
            role=role, config=config, state=FAILED, error=str(error), started=started, ended=ended, seconds=seconds
        )
    else:
        ended = now()
        record = SeedRecord(
            role=role,
            config=config,
            state=COMPLETE,
            started=started,
            ended=ended,
            seconds=(ended - started).total_seconds(),
            device=found.result.device,
            networks=found.networks,
            validation_gain=found.result.gain,
            images=len(found.predicted["baseline"]),
            predicted={name: packed_classes(classes) for name, classes in found.predicted.items()},
        )
    warnings = list(worker.warnings)
    worker.warnings.clear()
    return record, warnings
