"""A confirmation: plan --> seeds under Ray --> the test labels, once --> verdict and exit code."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter

from moe.config import Config
from moe.console import Exit, duration, emit, fail, warn
from moe.controls import members
from moe.data import DataError, DataSet
from moe.stages import MEMBERS
from study.cluster.preflight import check_nodes
from study.confirm import price
from study.confirm.options import PROGRAM, ConfirmOptions
from study.confirm.outcome import conclude, scored
from study.confirm.plan import Confirmation, Plan, Role, file_name, planned_trials
from study.confirm.report import NAMES, opened_before
from study.confirm.seed import Ended, train_and_predict
from study.data import folder_of, load_data
from study.machine import ClusterError
from study.search.resources import Resources
from study.search.stopping import Stop
from study.search.tasks import run_tasks
from study.search.trial import Job
from study.select.choice import brief
from study.select.interval import resolves
from study.study import Record, Study

Trial = tuple[Role, Config]


@dataclass
class Confirmer:
    """A planned confirmation and what it takes to run it."""

    options: ConfirmOptions
    study: Study
    confirmation: Confirmation
    plan: Plan
    data: DataSet
    resources: Resources
    stop: Stop

    def run(self, records: Sequence[Record], command: str) -> Exit:
        """Train what is missing, then score; the exit code."""
        emit(self.announcement(records))
        if self.options.dry_run:
            emit("  Nothing was written.")
            return Exit.DONE
        if not self.confirmation.planned:
            self.confirmation.write_plan(self.plan)
        if trials := self._missing():
            self._train(trials, command)
        if self._missing():
            return self._interrupted(command)
        self._score()
        return Exit.DONE

    def _interrupted(self, command: str) -> Exit:
        missing, trials = len(self._missing()), len(planned_trials(self.plan))
        warn(
            PROGRAM,
            f"interrupted with {trials - missing} of {trials} trainings; no test label was read. "
            f"Continue with: {command}",
        )
        return Exit.INTERRUPTED

    def _missing(self) -> list[Trial]:
        """The trainings without a record."""
        present = self.confirmation.read_records(self.plan)
        return [trial for trial in planned_trials(self.plan) if file_name(trial[0], trial[1].seed) not in present]

    def announcement(self, records: Sequence[Record]) -> str:
        """What is confirmed, its price, and what it resolves."""
        plan = self.plan
        count, images = len(plan.seeds), len(self.data.test_labels)
        configs = " and ".join(f"{NAMES[each.role]} ({brief(each.config)})" for each in plan.configs)
        takes = {
            NAMES[each.role]: price.seconds(records, each.config, len(set(members(each.config)) & set(MEMBERS)))
            for each in plan.configs
        }
        total = count * sum(takes.values()) / self.resources.concurrency
        noise, seen = price.seen(records, plan.configs[0].config)
        least, twice = (100 * resolves(seeds, noise, images) for seeds in (count, 2 * count))
        origin = f"seen on {seen} seeds of the choice" if seen else "assumed, as the choice has too few seeds"
        sentences = (
            opened_before(plan.earlier),
            f"Confirm study {self.study.name}: {count} fresh seeds, from {plan.seeds[0]} on, of {configs}, each with "
            "its controls",
            f"Price: {', '.join(f'{duration(each)} a seed of {name}' for name, each in takes.items())}; about "
            f"{duration(total)} in all with {self.resources.concurrency} at a time, as the study's own trials took",
            f"Power: with {count} seeds and a standard deviation between seeds of {100 * noise.seeds:.1f} points, "
            f"{origin}, it finds gains of {least:.1f} points and more in 80 % of cases; with {2 * count} seeds, of "
            f"{twice:.1f}",
        )
        return "\n  ".join(filter(None, sentences))

    def _train(self, trials: Sequence[Trial], command: str) -> None:
        """Train and predict until the last one has ended, or a stop; prints nothing of what is predicted."""
        place = self.confirmation.path
        emit(f"  {len(trials)} trainings to go; records in {place}, scored when the last one has ended")
        numbers = itertools.count(1)

        def done(ended: Ended) -> None:
            if (record := ended.record) is None:
                raise ClusterError(ended.problem)
            self.confirmation.write_record(record)
            for sentence in ended.warnings:
                emit(f"warning: {sentence}")
            outcome = f"failed, and is not replaced: {record.error}" if record.error else duration(record.seconds)
            count = f"{next(numbers)} of {len(trials)} done"
            emit(f"seed {record.config.seed} of {NAMES[record.role]}: {outcome} | {count}")

        job = Job(
            dataset=self.study.dataset,
            folder=folder_of(self.study, self.options.data),
            data=self.study.data,
            resources=self.resources,
            store=self.options.location,
        )

        def work(trial: Trial, step: Callable[..., None]) -> Ended:
            return train_and_predict(job, *trial, step)

        stall_s = 60 * self.options.stall_minutes
        with self.stop.while_trials_run(lambda: self._interrupted(command)):
            run_tasks(work, trials, itemgetter(1), self.resources, self.options.address, self.stop, done, stall_s)

    def _score(self) -> None:
        """Open the test labels: every seed has ended."""
        confirmation, plan, labels = self.confirmation, self.plan, self.data.test_labels.numpy()
        for record in confirmation.read_records(plan).values():
            if record.predicted is not None:
                confirmation.write_record(scored(record, labels))
        outcome = conclude(plan, confirmation.read_records(plan), labels)
        confirmation.write_result(outcome)


def confirm(
    options: ConfirmOptions,
    study: Study,
    records: Sequence[Record],
    planned: tuple[Confirmation, Plan],
    command: str,
    resources: Resources | None,
    stop: Stop,
) -> Exit:
    """Run a planned confirmation; the exit code. The study's folder is locked, except for a dry run.

    Args:
        records: of the study.
        planned: the confirmation and its plan, which may be written already.
        resources: of each training; None on a cluster, whose nodes are not checked yet.

    Raises:
        ClusterError: a machine, or Ray, cannot run it.
        FolderError: its data or its records cannot be used.
    """
    try:
        data = load_data(options.data, study)
    except DataError as error:
        return fail(PROGRAM, str(error))
    if resources is None:
        rules, folder = study.space.resources, folder_of(study, options.data)
        resources, _ = check_nodes(options, rules, data, folder, study.precision, records)
    return Confirmer(options, study, *planned, data, resources, stop).run(records, command)
