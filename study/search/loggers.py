"""Trials as runs of TensorBoard, MLflow or Weights & Biases, written by the driver: `--log tensorboard,mlflow`.

A trial is a run: its config are the parameters, each stage has its curves with the stage's epoch as the step, and the
scores come at its end. Ray's own callbacks do not fit: they count a trial's reports as steps, so that the curves of
stages that train side by side would be one, and they write into Tune's folder, which is removed.
"""

import importlib
import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import URL

from moe.result import Epoch
from moe.schema import fields
from study.folder import Folder
from study.machine import ClusterError
from study.search.trial import EpochReport
from study.study import Record, Study

INTERRUPTED = "interrupted"


class Point(NamedTuple):
    """A number of a stage after an epoch, named as in `mixture/validation_accuracy`."""

    name: str
    value: float
    epoch: int


class Logger(ABC):
    """Writes each trial as a run of one service."""

    def __init__(self, study: Study, folder: Path) -> None:
        self.study, self.folder = study, folder
        #: by number each running trial, the service's run, and the epochs that it has, by stage and number
        self._running: dict[int, tuple[Record, Any, set[tuple[str, int]]]] = {}

    @abstractmethod
    def open(self, name: str, parameters: dict[str, Any]) -> Any:
        """Begin a run."""

    @abstractmethod
    def log(self, run: Any, points: Sequence[Point]) -> None:
        """Write what epochs came to."""

    @abstractmethod
    def end(self, run: Any, parameters: dict[str, Any], scores: dict[str, float], error: str | None) -> None:
        """End a run; it has no scores if there is an error."""

    def started(self, record: Record) -> None:
        """A trial was launched."""
        self._running[record.trial] = record, self.open(f"trial-{record.trial:04d}", _parameters(record)), set()

    def progressed(self, number: int, report: EpochReport) -> None:
        """A running trial has finished another epoch."""
        self._log(number, [(report.stage, report.epoch, report, report.reused)])

    def ended(self, record: Record) -> None:
        """A trial is complete or failed; the epochs that it did not report in time follow."""
        self._log(record.trial, _epochs(record))
        self._end(record, record.error)

    def close(self) -> None:
        """End the runs of trials that were interrupted, each of them even if another one cannot be ended."""
        with ExitStack() as stack:
            for record, *_ in self._running.values():
                stack.callback(self._end, record, INTERRUPTED)

    def _log(self, number: int, epochs: Iterable[tuple[str, int, Epoch, bool]]) -> None:
        points = []
        _, run, logged = self._running[number]
        for stage, epoch, metrics, reused in epochs:
            if (stage, epoch) not in logged:
                logged.add((stage, epoch))
                points += [Point(f"{stage}/{name}", float(getattr(metrics, name)), epoch) for name in fields(Epoch)]
                points.append(Point(f"{stage}/reused", float(reused), epoch))
        if points:
            self.log(run, points)

    def _end(self, record: Record, error: str | None) -> None:
        _, run, _ = self._running.pop(record.trial)
        self.end(run, _parameters(record), _scores(record), error)


def _epochs(record: Record) -> Iterator[tuple[str, int, Epoch, bool]]:
    for name, stage in record.result.stages.items() if record.result else ():
        for number, epoch in enumerate(stage.epochs, 1):
            yield name, number, epoch, number <= stage.epochs_reused


def _parameters(record: Record) -> dict[str, Any]:
    return {"trial": record.trial, "phase": record.phase, **dict(record.config)}


def _scores(record: Record) -> dict[str, float]:
    parts = (record.result.score, record.result.totals) if record.result else ()
    return {name: float(value) for part in parts for name, value in part}


class TensorBoard(Logger):
    """Event files: `tensorboard --logdir results/NAME/tensorboard`."""

    def open(self, name: str, parameters: dict[str, Any]) -> Any:
        """A writer of event files, in a new folder."""
        path = Folder(self.folder).subfolder("tensorboard") / name  # a link there would lead out of the study's folder
        shutil.rmtree(path, ignore_errors=True)
        return importlib.import_module("tensorboardX").SummaryWriter(str(path))

    def log(self, run: Any, points: Sequence[Point]) -> None:
        """A scalar for each."""
        for point in points:
            run.add_scalar(point.name, point.value, point.epoch)
        run.flush()

    def end(self, run: Any, parameters: dict[str, Any], scores: dict[str, float], error: str | None) -> None:
        """The parameters with the scores, which the tab HPARAMS shows as a table."""
        named = {f"score/{name}": value for name, value in scores.items()}
        # run.add_hparams opens another file, of the same name where a trial takes no second
        for summary in importlib.import_module("tensorboardX.summary").hparams(parameters, named):
            run.file_writer.add_summary(summary)
        for name, value in named.items():
            run.add_scalar(name, value)
        if error:
            run.add_text("error", error)
        run.close()


class MLflow(Logger):
    """Runs of an experiment with the study's name, at MLFLOW_TRACKING_URI or in results/NAME/mlflow.db."""

    def __init__(self, study: Study, folder: Path) -> None:
        super().__init__(study, folder)
        self._mlflow = importlib.import_module("mlflow")
        address = os.environ.get("MLFLOW_TRACKING_URI") or address_of((folder / "mlflow.db").resolve())
        self._client = self._mlflow.MlflowClient(tracking_uri=address)
        found = self._client.get_experiment_by_name(study.name)
        self._experiment = found.experiment_id if found else self._client.create_experiment(study.name)

    def open(self, name: str, parameters: dict[str, Any]) -> Any:
        """The run's id."""
        number: str = self._client.create_run(self._experiment, run_name=name).info.run_id
        param = self._mlflow.entities.Param
        try:
            self._client.log_batch(number, params=[param(key, str(value)) for key, value in parameters.items()])
        except Exception:
            self._client.set_terminated(number, "KILLED")  # nobody else knows of it
            raise
        return number

    def log(self, run: Any, points: Sequence[Point]) -> None:
        """A metric for each."""
        metric, now = self._mlflow.entities.Metric, int(1000 * time.time())
        self._client.log_batch(run, metrics=[metric(name, value, now, epoch) for name, value, epoch in points])

    def end(self, run: Any, parameters: dict[str, Any], scores: dict[str, float], error: str | None) -> None:
        """The scores as metrics without a stage, and the error as a tag."""
        self.log(run, [Point(name, value, 0) for name, value in scores.items()])
        if error:
            self._client.set_tag(run, "error", error)
        self._client.set_terminated(run, "KILLED" if error == INTERRUPTED else "FAILED" if error else "FINISHED")


def address_of(database: Path) -> str:
    """A file of SQLite as a URL, whatever characters its path has."""
    # with the name of the driver, else MLflow would take the escapes for a path, and make its folders
    return URL.create("sqlite+pysqlite", database=str(database)).render_as_string()


class WandB(Logger):
    """Runs of project moe-study, in a group with the study's name; W&B's own variables, as WANDB_MODE, hold."""

    def open(self, name: str, parameters: dict[str, Any]) -> Any:
        """A run beside those of other trials."""
        group, wandb = self.study.name, importlib.import_module("wandb")
        return wandb.init(
            project="moe-study",
            group=group,
            name=f"{group}-{name}",
            config=parameters,
            dir=str(self.folder),
            reinit="create_new",
            settings=wandb.Settings(silent=True),  # it would print a page per trial
        )

    def log(self, run: Any, points: Sequence[Point]) -> None:
        """The numbers of a stage over its epochs, an epoch at a time."""
        rows: dict[tuple[str, int], dict[str, float]] = {}
        for name, value, epoch in points:
            rows.setdefault((name.split("/")[0], epoch), {})[name] = value
        for (stage, epoch), row in rows.items():
            run.define_metric(f"{stage}/*", step_metric=f"{stage}/epoch")
            run.log({**row, f"{stage}/epoch": epoch})

    def end(self, run: Any, parameters: dict[str, Any], scores: dict[str, float], error: str | None) -> None:
        """The scores as the run's summary."""
        run.summary.update({**scores, **({"error": error} if error else {})})
        run.finish(exit_code=1 if error else 0)


LOGGERS: dict[str, type[Logger]] = {"tensorboard": TensorBoard, "mlflow": MLflow, "wandb": WandB}


@dataclass
class Loggers:
    """The loggers of a study, by name. What one raises is a warning, and ends its logging but not the study."""

    loggers: dict[str, Logger]
    warn: Callable[[str], None]

    def started(self, record: Record) -> None:
        """A trial was launched."""
        self._each(lambda logger: logger.started(record))

    def progressed(self, number: int, report: EpochReport) -> None:
        """A running trial has finished another epoch."""
        self._each(lambda logger: logger.progressed(number, report))

    def ended(self, record: Record) -> None:
        """A trial is complete or failed."""
        self._each(lambda logger: logger.ended(record))

    def close(self) -> None:
        """No trial runs any more."""
        self._each(lambda logger: logger.close())

    def _each(self, call: Callable[[Logger], None]) -> None:
        for name, logger in list(self.loggers.items()):
            try:
                call(logger)
            except Exception as error:  # whatever a service raises
                del self.loggers[name]
                self.warn(f"--log {name} ends: {_words(error)}")
                with suppress(Exception):
                    logger.close()


def opened(names: Sequence[str], study: Study, folder: Path, warn: Callable[[str], None]) -> Loggers:
    """The loggers of these names, each ready.

    Raises:
        ClusterError: one of them cannot be used on this machine.
    """
    found = {}
    for name in names:
        try:
            found[name] = LOGGERS[name](study, folder)
        except Exception as error:  # whatever a service raises
            raise ClusterError(f"--log {name} cannot be used: {_words(error)}") from error
    return Loggers(found, warn)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
