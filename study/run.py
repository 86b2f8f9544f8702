"""`python -m study.run --trials 50`: search for the config in which the mixture beats its baseline by most.

options --> study (new, or that of the folder) --> data --> trials under Ray --> tables --> exit code
"""

import contextlib
import errno
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moe.config import Config
from study import machine
from study.definition import Wanted, define, wanted
from study.options import PROGRAM, Options, Resources, local_resources, parse
from study.records import COMPLETE, FAILED, Folder, FolderError, Study, now

if TYPE_CHECKING:
    from moe.data import DataSet
    from study.ledger import Ledger

DONE, TOO_MANY_FAILED, ENVIRONMENT, INTERRUPTED = 0, 3, 4, 75
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code."""
    options = parse(arguments)
    try:
        asked = wanted(options)
        resources = local_resources(options)
        return _with_data(options, asked, resources)
    except FolderError as error:
        return _cannot(str(error))
    except OSError as error:
        if error.errno not in _DISK:
            raise
        return _cannot(f"{error.filename or options.results}: {error.strerror}")
    except KeyboardInterrupt:
        return INTERRUPTED


def _cannot(sentence: str) -> int:
    print(f"{PROGRAM}: {sentence}", file=sys.stderr)
    return ENVIRONMENT


def _with_data(options: Options, asked: Wanted, resources: Resources) -> int:
    from moe.data import DataError, load
    from study.samplers import resolve

    try:
        data = load(asked.dataset, Path(asked.data_folder) if asked.data_folder else None)
        _check_classes(asked, data)
    except DataError as error:
        return _cannot(str(error))
    print(f"Data: {data.source}", flush=True)
    study = define(asked, data, resolve(asked.sampler, asked.space, asked.trials))
    print(_headline(study, resources), flush=True)
    if options.dry_run:
        print(_costs(study, resources))
        return DONE
    folder = Folder(options.results / study.name)
    with folder.locked():
        return _search(options, study, folder, resources)


def _check_classes(asked: Wanted, data: "DataSet") -> None:
    """Every cut of the data that the space can ask for must hold every class; the smallest ones decide."""
    from moe.pipeline import split

    fewest = {
        name: min(asked.space.grids.get(name, (asked.space.fixed.get(name, getattr(Config(), name)),)))
        for name in ("train_examples", "test_examples")
    }
    split(Config(**fewest, batch_size=1, protocol=asked.protocol), data)


def _headline(study: Study, resources: Resources) -> str:
    space = study.space
    searched = "; ".join(f"{name} {', '.join(map(str, grid))}" for name, grid in space.grids.items())
    allotment = f"{resources.cpus_per_trial} CPUs"
    if resources.gpus_per_trial:
        allotment += f" and {resources.gpus_per_trial:g} GPUs"
    return (
        f"Study {study.name}: {study.trials} trials over {space.size} points of space {space.name} "
        f"({searched or 'nothing is searched, so each trial is a further seed'})\n"
        f"  maximise {study.objective}, sampler {study.sampler}, protocol {study.protocol}, seed {study.seed}; "
        f"{resources.concurrency} at a time with {allotment} each"
    )


def _costs(study: Study, resources: Resources) -> str:
    from study.estimate import calibrate, study_seconds
    from study.progress import duration

    speed = calibrate(resources)
    whole, cheapest, dearest = study_seconds(
        study.space, study.protocol, study.trials, resources.concurrency, speed, study.seed
    )
    return (
        f"  about {duration(whole)} at most, {duration(cheapest)} to {duration(dearest)} a trial, by a short "
        "calibration; stages that stop early make it less. Nothing was written."
    )


def _search(options: Options, study: Study, folder: Folder, resources: Resources) -> int:
    from study.ledger import Ledger
    from study.progress import Progress, showing
    from study.search import ClusterError, Stop, search
    from study.tables import write_all
    from study.trial import Job

    records = folder.read_records()
    folder.write_study(study, _about(study))
    ledger = Ledger(study, records, folder.write_record)
    most = ledger.most_failures
    if len(ledger.of(COMPLETE)) < study.trials:
        print(f"  records in {folder.path}; {most} failed trials would end it", flush=True)
        stop = Stop(deadline=time.monotonic() + 3600 * options.hours if options.hours else None)
        progress = Progress(ledger, terminal=sys.stdout.isatty())
        job = Job(
            dataset=study.dataset,
            folder=Path(study.data_folder).resolve() if study.data_folder else None,
            data=study.data,
            score_examples=study.space.score_examples(),
            cpus=resources.cpus_per_trial,
            gpus=resources.gpus_per_trial,
        )
        try:
            with showing(progress):
                search(ledger, job, resources, options.address, stop, progress, (folder.path / ".tune").resolve())
        except ClusterError as error:
            return _cannot(str(error))
    write_all(folder, study, list(ledger.records.values()))
    return _ending(options, ledger, folder)


def _about(study: Study) -> dict[str, Any]:
    from study.ledger import seeds_in_words

    return {
        "seeds": seeds_in_words(study),
        "versions": machine.versions(),
        "commit": machine.commit(),
        "command": shlex.join([Path(sys.executable).name, "-m", "study.run", *sys.argv[1:]]),
        "written": now(),
    }


def _ending(options: Options, ledger: "Ledger", folder: Folder) -> int:
    """Say how the study ended."""
    complete, failed, study = ledger.of(COMPLETE), ledger.of(FAILED), ledger.study
    with contextlib.suppress(BrokenPipeError):
        print(f"\n{(folder.path / 'summary.md').read_text('utf-8')}")
        print(f"Everything is in {folder.path}: trials.csv, best.json, summary.md, study.db, trials/")
    if len(complete) >= study.trials:
        return DONE
    resume = ["python", "-m", "study.run", "--resume", "--name", study.name]
    if str(options.results) != "results":
        resume += ["--results", str(options.results)]
    if ledger.hopeless:
        print(f"{PROGRAM}: {len(failed)} trials failed; the last: {failed[-1].error}", file=sys.stderr)
        print(f"Try again with: {shlex.join(resume)}", file=sys.stderr)
        return TOO_MANY_FAILED
    print(
        f"Interrupted with {len(complete)} of {study.trials} trials. Go on with: {shlex.join(resume)}",
        file=sys.stderr,
    )
    return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
