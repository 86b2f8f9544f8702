"""The driver of a study, once its options are checked: data --> trials under Ray --> tables --> exit code."""

import gc
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

from moe.cli import AUTO
from moe.config import Config, Precision
from moe.console import Exit, emit, fail, interactive, wrapped
from moe.data import DataError, DataSet, load
from moe.data.subset import subset
from moe.training.numerics import best_precision
from study import machine
from study.analyze.live import LiveTables
from study.cluster.preflight import check_nodes
from study.conclusion import RESUME, check_unchanged, conclude, conclude_asked, finished, missing
from study.data import folder_of, load_data
from study.definition import Request, refuse_change
from study.files import write_text
from study.folder import Folder, FolderError, free_name
from study.headless import Headless
from study.options import Options, resume_command
from study.rules import Rule
from study.search import samplers
from study.search.cost import Costs, calibrate, forecast
from study.search.ledger import Asked, Ledger
from study.search.loggers import opened
from study.search.progress import Progress, showing
from study.search.reference import wanted_references
from study.search.resources import Resources
from study.search.searcher import StudySearch
from study.search.stopping import Stop
from study.search.trial import Job
from study.search.tune import search
from study.search.worker import devices
from study.select.refine import most
from study.study import COMPLETE, Record, Run, Study, now

Value = TypeVar("Value")


@dataclass
class Driver:
    """A study that is ready to run, and how it runs here."""

    request: Request
    study: Study
    resources: Resources
    stop: Stop
    _ledger: Ledger | None = field(default=None, init=False)  # once trials run

    @property
    def asked_trial(self) -> int | None:
        """The number of the one trial that a person asked for; None if it has not begun."""
        return self._ledger.asked.trial if isinstance(self._ledger, Asked) and self._ledger.asked else None

    @cached_property
    def folder(self) -> Folder:
        """The study's folder, which keeps what it read and wrote of it."""
        return Folder(self.request.options.studies / self.study.name)

    def headline(self) -> str:
        """What the study searches, and how."""
        study, space, resources = self.study, self.study.space, self.resources
        searched = "; ".join(f"{name} {', '.join(map(str, grid))}" for name, grid in space.grids.items())
        seeds = f", each on {study.seeds} seeds" if study.seeds > 1 else ""
        refine = f"; then {study.refine} leaders on fresh seeds" if study.refine else ""
        return (
            f"Study {study.name}: {study.trials} trials over {space.size} points of space {space.name} "
            f"({searched or 'nothing is searched, so each trial is another seed'}){seeds}{refine}\n"
            f"  maximise {study.objective}, sampler {study.sampler}, protocol {study.protocol}, {study.precision}, "
            f"seed {study.seed}; {resources.concurrency} at a time with "
            f"{' or '.join(kind.share for kind in resources.kinds)} each"
        )

    def plan(self) -> str:
        """What a dry run prints: what the missing trials cost, with and without the stage store; or all as JSON."""
        options, study = self.request.options, self.study
        costs = self._costs() if options.address == "local" else None
        if not options.print_json:
            return "\n".join(filter(None, [costs and str(costs), "  Nothing was written."]))
        plan = {"study": study.as_json(), "resources": asdict(self.resources), "costs": costs and costs.as_json()}
        return json.dumps(plan, indent=2, default=Rule.as_json)

    def _costs(self) -> Costs:
        study, resources = self.study, self.resources
        records = self.folder.read_records(study)
        recorded = [record.config for record in records if record.state == COMPLETE]
        speed = calibrate(resources, study.space.least("batch_size"), study.precision)
        trials, points = missing(study, records), study.space.size
        return Costs(
            trials=trials,
            missing=forecast(study, trials, recorded, speed),
            whole=forecast(study, points * study.seeds, recorded, speed),
            points=points,
            refining=most(study),
            at_once=resources.concurrency,
        )

    def conclude(self, too_many_failed: bool = False) -> Exit:
        """Write everything that is derived, and print how it ended; the exit code."""
        if self.request.asked is None:
            return conclude(self.request.options, self.study, too_many_failed)
        return conclude_asked(self.request.options, self.study, self.request.command, self.asked_trial)

    def run_trials(self, records: Sequence[Record]) -> bool:
        """Run the missing trials; whether too many failed. Raises a FolderError if a record could not be written."""
        options, study, folder, stop = self.request.options, self.study, self.folder, self.stop

        def save(record: Record) -> None:
            folder.write_record(record)
            tables.add(ledger.study, record)

        asked = self.request.asked
        kind = Ledger if asked is None else partial(Asked, asked)
        ledger = kind(study, records, self._safely(save), self._safely(folder.write_study), options.max_failures)
        self._ledger = ledger
        progress = Progress(ledger, terminal=interactive(), stopping=lambda: stop.signalled)
        loggers = opened(options.loggers, study, folder.path, progress.warned)  # before there is a study: it may fail
        stop.resume = self.request.command
        folder.write_study(study, self.this_run())
        if asked is None:
            stop.resume = resume_command(options, study.name)
            write_text(folder.path / RESUME, f"{stop.resume}\n")
            emit(f"  records in {folder.path}; {ledger.max_failures} failed trials would end it")
        stop.panel = progress.terminal
        stop.deadline = time.monotonic() + 3600 * options.hours if options.hours else None
        references = [] if asked is not None else wanted_references(study, records)
        searcher = StudySearch(ledger, progress, stop, self.resources.concurrency, references, loggers)
        tables = LiveTables(folder, study, records)

        def conclude_early() -> Exit:
            hide()
            tables.close()
            return self.conclude()  # loggers stay open: their services may hang

        with showing(progress) as hide, stop.while_trials_run(conclude_early):
            scratch = folder.path.resolve() / ".tune"
            try:
                search(searcher, self.job(), options.address, scratch, 60 * options.stall_minutes)
            finally:
                tables.close()
                loggers.close()
        self._check_written()
        return ledger.too_many_failed

    def _check_written(self) -> None:
        """Raise a FolderError if a record could not be written."""
        if isinstance(broken := self.stop.broken, FolderError):
            raise broken
        if broken:
            raise FolderError(
                f"{self.folder.path} cannot be written: {broken.strerror}; the trials recorded before are safe, and "
                f"once there is room they continue with: {self.stop.resume}"
            )

    def _safely(self, write: Callable[[Value], None]) -> Callable[[Value], None]:
        """The same, except that an error ends the study: Tune would take it for the failure of a trial."""

        def safely(value: Value) -> None:
            try:
                write(value)
            except (OSError, FolderError) as error:
                self.stop.broken = self.stop.broken or error

        return safely

    def job(self) -> Job:
        """What all trials have in common."""
        return Job(
            dataset=self.study.dataset,
            folder=folder_of(self.study),
            data=self.study.data,
            resources=self.resources,
            store=self.request.options.location,
        )

    def this_run(self) -> Run:
        """What is recorded of this process."""
        store = "none" if self.request.options.no_store else self.request.options.store or "default"
        return Run(
            started=now(),
            command=self.request.command,
            versions=machine.versions(),
            commit=machine.commit(),
            store=store,
            machine=machine.identity(),
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
    gc.freeze()  # what the imports made lives until the end: no collection visits it, which saves a second at exit
    options = request.options
    try:
        with redirect_stdout(sys.stderr) if options.print_json else nullcontext():
            driver = _ready(request, resources, stop)
    except DataError as error:
        return fail(options.program, str(error))
    if options.dry_run:
        emit(driver.plan())
        return Exit.DONE
    if options.worker:
        return Headless(request, driver.study, driver.job(), stop).run(driver.this_run())
    with driver.folder.locked():
        check_unchanged(driver.folder, request.before)
        records = driver.folder.read_records(driver.study)
        wanted = request.asked is not None or not finished(driver.study, records)
        try:
            too_many_failed = wanted and driver.run_trials(records)
        except KeyboardInterrupt:  # before the first trial
            if request.asked is not None or not driver.folder.exists():
                raise
            too_many_failed = False
        return driver.conclude(too_many_failed)


def _ready(request: Request, resources: Resources | None, stop: Stop) -> Driver:
    """The driver, once data and machine are checked; raises as `drive`, or a DataError."""
    options, study, least = request.options, request.study, request.study.space.least
    train, test = least("train_examples"), least("test_examples")
    smallest = Config(protocol=study.protocol, batch_size=1, train_examples=train, test_examples=test)
    folder = Path(study.data_folder) if study.data_folder else None
    data = load(study.dataset, folder) if request.asked is None else load_data(folder, study)
    subset(smallest, data)  # raises if a class has no image in it
    emit(wrapped(f"Data: {data.source}"))
    given = study.precision if study.data or options.precision not in (None, AUTO) else None
    if resources:
        devices(resources)
        precision = given or best_precision("cuda" if resources.gpus_per_trial else "cpu")
    else:
        before = Folder(options.studies / study.name).read_records(study) if request.before else []
        resources, precision = check_nodes(options, study.space.resources, data, folder_of(study), given, before)
    driver = Driver(request, _with_data(options, study, data, precision), resources, stop)
    if request.asked is None:
        emit(wrapped(driver.headline()))
    return driver


def _with_data(options: Options, study: Study, data: DataSet, precision: Precision) -> Study:
    """A study with everything that depends on its data; other data than a resumed study's exit with code 2."""
    if study.data == data.fingerprint:
        return study
    if study.data:
        had = f"{study.dataset} {study.data[:12]}"
        refuse_change(study, "--data", f"{data.name} {data.fingerprint[:12]}", had)
    return study.replace(
        name=study.name or free_name(options.studies, f"{data.name}-{study.space.name}"),
        sampler=samplers.resolve(study.sampler, study.space, study.trials),
        precision=precision,
        dataset=data.name,
        data=data.fingerprint,
        source=data.source,
    )
