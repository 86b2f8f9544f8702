"""The driver of a study, once its options are checked: data --> trials under Ray --> tables --> exit code."""

import gc
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from moe.cli import AUTO
from moe.config import Config
from moe.console import Exit, duration, emit, fail
from moe.data import DataError, DataSet, load
from moe.data.subset import subset
from moe.training.numerics import best_precision
from study import machine
from study.cluster.preflight import check_nodes
from study.conclusion import check_unchanged, conclude, missing, resume_command
from study.definition import Request, refuse_change
from study.folder import Folder, FolderError, free_name
from study.options import PROGRAM, Options
from study.search import samplers
from study.search.cost import calibrate, forecast
from study.search.ledger import Ledger
from study.search.progress import Progress, showing
from study.search.resources import Resources
from study.search.searcher import StudySearch
from study.search.stopping import Stop
from study.search.trial import Job
from study.search.tune import search
from study.search.worker import devices
from study.study import COMPLETE, Record, Run, Study, now


@dataclass
class Driver:
    """A study that is ready to run, and how it runs here."""

    request: Request
    study: Study
    resources: Resources
    stop: Stop

    @property
    def folder(self) -> Folder:
        """The study's folder."""
        return Folder(self.request.options.results / self.study.name)

    def headline(self) -> str:
        """What the study searches, and how."""
        study, space, resources = self.study, self.study.space, self.resources
        searched = "; ".join(f"{name} {', '.join(map(str, grid))}" for name, grid in space.grids.items())
        share = f"{resources.cpus_per_trial} CPUs"
        if resources.gpus_per_trial:
            share += f" and {resources.gpus_per_trial:g} GPUs"
        return (
            f"Study {study.name}: {study.trials} trials over {space.size} points of space {space.name} "
            f"({searched or 'nothing is searched, so each trial is another seed'})\n"
            f"  maximise {study.objective}, sampler {study.sampler}, protocol {study.protocol}, {study.precision}, "
            f"seed {study.seed}; {resources.concurrency} at a time with {share} each"
        )

    def costs(self) -> str:
        """What the missing trials cost, with and without the stage store."""
        study, resources = self.study, self.resources
        records = self.folder.read_records(study)
        recorded = [record.config for record in records if record.state == COMPLETE]
        left = missing(study, records)
        speed = calibrate(resources, study.space.least("batch_size"), study.precision)
        cost = forecast(study, left, recorded, speed)
        apart, shared = (duration(tally.cost / resources.concurrency) for tally in (cost.apart, cost.shared))
        return (
            f"  {left} trials to run, {duration(cost.cheapest)} to {duration(cost.dearest)} each without reuse. "
            f"They need {cost.apart.stages} stages, {cost.apart.epochs} epochs in all; {cost.shared.stages} stages, "
            f"{cost.shared.epochs} epochs, are distinct.\n"
            f"  By a short calibration on this machine: about {apart} if each trial trains everything, about {shared} "
            "with the stage store. Both are for points drawn evenly and no stage stopping early; a sampler that "
            "returns to good points reuses more, and so does a store with stages of other studies.\n"
            "  Nothing was written."
        )

    def run_trials(self, records: Sequence[Record]) -> bool:
        """Run the missing trials; whether too many failed.

        Raises:
            FolderError: a record could not be written; the trials before it are safe.
        """
        options, study, folder, stop = self.request.options, self.study, self.folder, self.stop
        ledger = Ledger(study, records, self._save)
        folder.write_study(study, self._this_run())
        emit(f"  records in {folder.path}; {ledger.max_failures} failed trials would end it")
        stop.deadline = time.monotonic() + 3600 * options.hours if options.hours else None
        stop.started = True
        stop.conclude = lambda: conclude(options, study, folder, folder.read_records(study))
        progress = Progress(ledger, terminal=sys.stdout.isatty())
        searcher = StudySearch(ledger, progress, stop, self.resources.concurrency)
        with showing(progress):
            search(searcher, self._job(), self.resources, options.address, (folder.path / ".tune").resolve())
        stop.trials_ended()
        if stop.broken:
            raise FolderError(
                f"{folder.path} cannot be written: {stop.broken.strerror}; the trials recorded before are safe, and "
                f"once there is room they continue with: {resume_command(options, study)}"
            )
        return ledger.too_many_failed

    def _save(self, record: Record) -> None:
        try:
            self.folder.write_record(record)
        except OSError as error:  # Tune would take it for the trial's failure
            self.stop.broken = self.stop.broken or error

    def _job(self) -> Job:
        study = self.study
        return Job(
            dataset=study.dataset,
            folder=_data_folder(study),
            data=study.data,
            score_examples=study.space.score_examples(),
            cpus=self.resources.cpus_per_trial,
            gpus=self.resources.gpus_per_trial,
            store=self.request.options.location,
        )

    def _this_run(self) -> Run:
        """What study.json holds of this start of the driver."""
        options = self.request.options
        return Run(
            started=now(),
            command=self.request.command,
            commit=machine.commit(),
            versions=machine.versions(),
            store="none" if options.no_store else options.store or "default",
        )


def drive(request: Request, resources: Resources | None, stop: Stop) -> Exit:
    """Run a study; the exit code.

    Args:
        request: the study, and how to run it.
        resources: of each trial; None on a cluster, whose nodes are not checked yet.
        stop: whether to end early.

    Raises:
        ClusterError: a machine, or Ray, cannot run the study.
        FolderError: the study's folder cannot be used.
    """
    gc.freeze()  # what the imports made lives until the end: no collection has to visit it, which saves a second at exit
    options, study = request.options, request.study
    try:
        data = load(study.dataset, Path(study.data_folder) if study.data_folder else None)
        _check_smallest_subset(study, data)
    except DataError as error:
        return fail(PROGRAM, str(error))
    emit(f"Data: {data.source}")
    resources = _checked_resources(options, study, data, resources)
    study = _with_data(options, study, data, resources)
    driver = Driver(request, study, resources, stop)
    emit(driver.headline())
    if options.dry_run:
        emit(driver.costs() if options.address == "local" else "Nothing was written.")
        return Exit.DONE
    with driver.folder.locked():
        check_unchanged(driver.folder, request.before)
        records = driver.folder.read_records(study)
        too_many_failed = False
        if missing(study, records):
            too_many_failed = driver.run_trials(records)
            records = driver.folder.read_records(study)
        return conclude(options, study, driver.folder, records, too_many_failed)


def _check_smallest_subset(study: Study, data: DataSet) -> None:
    """Raise a DataError if the smallest subset of the data that the space can ask for lacks a class."""
    train, test = (study.space.least(name) for name in ("train_examples", "test_examples"))
    subset(Config(protocol=study.protocol, train_examples=train, test_examples=test, batch_size=1), data)


def _checked_resources(options: Options, study: Study, data: DataSet, resources: Resources | None) -> Resources:
    """What a trial gets, once the GPUs of this machine, or all nodes of the cluster, are checked."""
    if resources is None:
        return check_nodes(options, dataset=data.name, data_folder=_data_folder(study), fingerprint=data.fingerprint)
    devices(resources.gpus_per_trial)
    return resources


def _data_folder(study: Study) -> Path | None:
    return Path(study.data_folder).resolve() if study.data_folder else None


def _with_data(options: Options, study: Study, data: DataSet, resources: Resources) -> Study:
    """A study with everything that depends on its data; other data than a resumed study's exit with code 2."""
    if study.data == data.fingerprint:
        return study
    if study.data:
        had = f"{study.dataset} {study.data[:12]}"
        refuse_change(study, "--data", f"{data.name} {data.fingerprint[:12]}", had)
    automatic = options.precision in (None, AUTO)  # judged by this machine's CPU
    return study.replace(
        name=study.name or free_name(options.results, f"{data.name}-{study.space.name}"),
        sampler=samplers.resolve(study.sampler, study.space, study.trials),
        precision=best_precision("cuda" if resources.gpus_per_trial else "cpu") if automatic else study.precision,
        dataset=data.name,
        data=data.fingerprint,
        source=data.source,
    )
