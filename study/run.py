"""`python -m study.run --trials 50`: search for the config in which the mixture beats its baseline by most.

options --> study (new, or that of the folder) --> data --> trials under Ray --> tables --> exit code
"""

import errno
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from moe.config import Precision
from study import machine
from study.console import duration, say, tolerate
from study.definition import Wanted, define, wanted
from study.folder import Folder, FolderError
from study.options import PROGRAM, Options, parse
from study.search.resources import Resources, local
from study.study import COMPLETE, FAILED, Record, Run, Study, now

if TYPE_CHECKING:
    from moe.data import DataSet
    from study.search.stopping import Stop

DONE, TOO_MANY_FAILED, ENVIRONMENT, INTERRUPTED = 0, 3, 4, 75
RESUME_COMMAND = "STUDY_RESUME_COMMAND"  # the variable with the command that goes on with a study, where not this one
_PATHS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP),
}  # what is wrong with a path or a disk, and not with this program


def main() -> int:
    """Run the command; the exit code."""
    from study.search.stopping import Stop, signals

    options = parse()
    stop = Stop()
    tolerate()
    try:
        with signals(stop):
            asked = wanted(options)
            allotted = local(options) if options.address == "local" else None
            shown = _finished(options, asked)
            return _with_data(options, asked, allotted, stop) if shown is None else shown
    except (FolderError, machine.ClusterError) as error:
        return _cannot(str(error))
    except OSError as error:
        if error.errno not in _PATHS:
            raise
        return _cannot(f"{error.filename or options.results}: {error.strerror}")
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted; nothing was run", file=sys.stderr)
        return INTERRUPTED


def _cannot(sentence: str) -> int:
    print(f"{PROGRAM}: {sentence}", file=sys.stderr)
    return ENVIRONMENT


def _finished(options: Options, asked: Wanted) -> int | None:
    """Show a resumed study that has all its trials already; None where there is something to do or to check."""
    if not asked.before or options.dry_run or options.data or options.dataset:
        return None
    folder = Folder(options.results / asked.before.name)
    with folder.locked():
        _check_unchanged(folder, asked.before)
        records = folder.read_records(asked.before)
        if _missing(records, asked.trials):
            return None
        return _conclude(options, asked.before.replace(trials=asked.trials), folder, records)


def _missing(records: Sequence[Record], trials: int) -> int:
    """How many trials have to become complete."""
    return max(0, trials - sum(record.state == COMPLETE for record in records))


def _with_data(options: Options, asked: Wanted, allotted: Resources | None, stop: "Stop") -> int:
    """Go on once the data are there.

    Args:
        options: as given.
        asked: what they ask of the study.
        allotted: what a trial gets; None where a cluster has to be asked first.
        stop: whether to end before the time.
    """
    from moe.data import DataError, load
    from study.search.samplers import resolve

    try:
        data = load(asked.dataset, Path(asked.data_folder) if asked.data_folder else None)
        _check_smallest_subset(asked, data)
    except DataError as error:
        return _cannot(str(error))
    say(f"Data: {data.source}")
    allotted = _checked(options, asked, data, allotted)
    precision = _precision(asked, allotted)
    study = define(asked, data, resolve(asked.sampler, asked.space, asked.trials), precision)
    folder = Folder(options.results / study.name)
    say(_headline(study, allotted))
    if options.dry_run:
        say(_costs(study, allotted, folder) if options.address == "local" else "Nothing was written.")
        return DONE
    with folder.locked():
        _check_unchanged(folder, asked.before)
        records = folder.read_records(study)
        if not _missing(records, study.trials):
            return _conclude(options, study, folder, records)
        gave_up = _run_trials(options, study, folder, records, allotted, stop)
        return _conclude(options, study, folder, folder.read_records(study), gave_up)


def _check_unchanged(folder: Folder, before: Study | None) -> None:
    """Raise a FolderError if another driver began or changed the study before the folder was locked."""
    if before is None and folder.exists():
        raise FolderError(f"{folder.path} was begun by another driver meanwhile; choose another --name")
    if before is not None and folder.read_study() != before:
        raise FolderError(f"{folder.path} was changed by another driver meanwhile; run the command again")


def _checked(options: Options, asked: Wanted, data: "DataSet", allotted: Resources | None) -> Resources:
    """What a trial gets, once torch, or every node of the cluster, has been checked."""
    if allotted is None:
        from study.cluster.preflight import check_nodes

        folder = Path(asked.data_folder).resolve() if asked.data_folder else None
        return check_nodes(options, dataset=data.name, data_folder=folder, fingerprint=data.fingerprint)
    from study.search.trial import devices

    devices(allotted.gpus_per_trial)
    return allotted


def _precision(asked: Wanted, allotted: Resources) -> Precision:
    """The precision of the study: the one asked for, else what fits the devices, judged by this machine's CPU."""
    from moe.training.numerics import best_precision

    if asked.precision != "auto":
        return asked.precision
    return best_precision("cuda" if allotted.gpus_per_trial else "cpu")


def _check_smallest_subset(asked: Wanted, data: "DataSet") -> None:
    """Every subset that the space can ask for must hold every class; the smallest one decides."""
    from moe.data.subset import subset

    subset(
        data,
        protocol=asked.protocol,
        seed=0,
        train_examples=asked.space.least("train_examples"),
        test_examples=asked.space.least("test_examples"),
    )


def _headline(study: Study, allotted: Resources) -> str:
    space = study.space
    searched = "; ".join(f"{name} {', '.join(map(str, grid))}" for name, grid in space.grids.items())
    share = f"{allotted.cpus_per_trial} CPUs"
    if allotted.gpus_per_trial:
        share += f" and {allotted.gpus_per_trial:g} GPUs"
    return (
        f"Study {study.name}: {study.trials} trials over {space.size} points of space {space.name} "
        f"({searched or 'nothing is searched, so each trial is a further seed'})\n"
        f"  maximise {study.objective}, sampler {study.sampler}, protocol {study.protocol}, {study.precision}, "
        f"seed {study.seed}; {allotted.concurrency} at a time with {share} each"
    )


def _costs(study: Study, allotted: Resources, folder: Folder) -> str:
    from study.search.cost import calibrate, forecast

    records = folder.read_records(study)
    recorded = [record.config for record in records if record.state == COMPLETE]
    missing = _missing(records, study.trials)
    cost = forecast(study, missing, recorded, calibrate(allotted, study.space.least("batch_size"), study.precision))
    apart, shared = (duration(tally.cost / allotted.concurrency) for tally in (cost.apart, cost.shared))
    return (
        f"  {missing} trials to run, {duration(cost.cheapest)} to {duration(cost.dearest)} each without reuse. "
        f"They ask for {cost.apart.stages} stages, {cost.apart.epochs} epochs in all; {cost.shared.stages} stages, "
        f"{cost.shared.epochs} epochs, are distinct.\n"
        f"  By a short calibration on this machine: about {apart} if each trial trains everything, about {shared} with "
        "the stage store. Both are for points drawn evenly\n"
        "  and no stage stopping early; a sampler that comes back to what is good reuses more,\n"
        "  and so does a store that has stages of other studies. Nothing was written."
    )


def _run_trials(
    options: Options, study: Study, folder: Folder, records: Sequence[Record], allotted: Resources, stop: "Stop"
) -> bool:
    """Run what is missing; whether too many trials failed.

    Raises:
        FolderError: a record could not be written; the trials before it are safe.
    """
    from study.search.ledger import Ledger
    from study.search.progress import Progress, showing
    from study.search.trial import Job
    from study.search.tune import search

    def keep(record: Record) -> None:
        try:
            folder.write_record(record)
        except OSError as error:  # Tune would take it for the trial's failure
            stop.broken = stop.broken or error

    ledger = Ledger(study, records, keep)
    folder.write_study(study, _this_run(options))
    say(f"  records in {folder.path}; {ledger.most_failures} failed trials would end it")
    job = Job(
        dataset=study.dataset,
        folder=Path(study.data_folder).resolve() if study.data_folder else None,
        data=study.data,
        score_examples=study.space.score_examples(),
        cpus=allotted.cpus_per_trial,
        gpus=allotted.gpus_per_trial,
        store=options.location,
    )
    stop.deadline = time.monotonic() + 3600 * options.hours if options.hours else None
    stop.in_order = True
    stop.last_words = lambda: _conclude(options, study, folder, folder.read_records(study))
    progress = Progress(ledger, terminal=sys.stdout.isatty())
    with showing(progress):
        search(ledger, job, allotted, options.address, stop, progress, (folder.path / ".tune").resolve())
    stop.ended()
    if stop.broken:
        raise FolderError(
            f"{folder.path} cannot be written: {stop.broken.strerror}; the trials recorded before are safe, and once "
            f"there is room they go on with: {_resume_command(options, study)}"
        )
    return ledger.hopeless


def _this_run(options: Options) -> Run:
    """What a study remembers of each run that added to it."""
    return Run(
        started=now(),
        command=shlex.join(["python", "-m", "study.run", *sys.argv[1:]]),
        commit=machine.commit(),
        versions=machine.versions(),
        store="none" if options.no_store else options.store or "default",
    )


def _conclude(options: Options, study: Study, folder: Folder, records: Sequence[Record], gave_up: bool = False) -> int:
    """Make everything that is derived, and say how the study ended: the exit code."""
    from study.analyze.tables import write_all

    write_all(folder, study, records)
    say(f"\n{(folder.path / 'summary.md').read_text('utf-8')}")
    say(f"Everything is in {folder.path}: trials.csv, best.json, summary.md, study.db, trials/")
    complete = sum(record.state == COMPLETE for record in records)
    if complete >= study.trials:
        return DONE
    goes_on = f"Go on with: {_resume_command(options, study)}"
    if gave_up:
        failed = [record for record in records if record.state == FAILED]
        print(f"{PROGRAM}: {len(failed)} trials failed; the last: {failed[-1].error}\n{goes_on}", file=sys.stderr)
        return TOO_MANY_FAILED
    print(f"Interrupted with {complete} of {study.trials} trials. {goes_on}", file=sys.stderr)
    return INTERRUPTED


def _resume_command(options: Options, study: Study) -> str:
    if command := os.environ.get(RESUME_COMMAND):
        return command
    words = ["python", "-m", "study.run", "--resume", "--name", study.name]
    for name, default in (
        ("results", Path("results")),
        ("address", "local"),
        ("gpus_per_trial", None),
        ("cpus_per_trial", None),
        ("concurrency", None),
        ("store", None),
    ):
        if (value := getattr(options, name)) != default:
            words += [f"--{name.replace('_', '-')}", str(value)]
    words += ["--no-store"] * options.no_store
    return shlex.join(words)


if __name__ == "__main__":
    sys.exit(main())
