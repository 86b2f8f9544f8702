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
from study.options import PROGRAM, Options, Resources, local_resources, parse, resources
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
        allotted = local_resources(options) if options.address == "local" else None
        return _with_data(options, asked, allotted)
    except (FolderError, machine.ClusterError) as error:
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


def _with_data(options: Options, asked: Wanted, allotted: Resources | None) -> int:
    """Go on once the data are there.

    Args:
        allotted: what a trial gets; None where a cluster has to be asked first.
    """
    from moe.data import DataError, load
    from study.samplers import resolve

    try:
        data = load(asked.dataset, Path(asked.data_folder) if asked.data_folder else None)
        _check_classes(asked, data)
        allotted = allotted or _share_of_cluster(options)
    except DataError as error:
        return _cannot(str(error))
    print(f"Data: {data.source}", flush=True)
    study = define(asked, data, resolve(asked.sampler, asked.space, asked.trials))
    print(_headline(study, allotted), flush=True)
    if options.dry_run:
        print(_costs(study, allotted))
        return DONE
    folder = Folder(options.results / study.name)
    with folder.locked():
        return _search(options, study, folder, allotted)


def _check_classes(asked: Wanted, data: "DataSet") -> None:
    """Every cut of the data that the space can ask for must hold every class; the smallest ones decide."""
    from moe.pipeline import split

    fewest = {
        name: min(asked.space.grids.get(name, (asked.space.fixed.get(name, getattr(Config(), name)),)))
        for name in ("train_examples", "test_examples")
    }
    split(Config(**fewest, batch_size=1, protocol=asked.protocol), data)


def _headline(study: Study, allotted: Resources) -> str:
    space = study.space
    searched = "; ".join(f"{name} {', '.join(map(str, grid))}" for name, grid in space.grids.items())
    share = f"{allotted.cpus_per_trial} CPUs"
    if allotted.gpus_per_trial:
        share += f" and {allotted.gpus_per_trial:g} GPUs"
    return (
        f"Study {study.name}: {study.trials} trials over {space.size} points of space {space.name} "
        f"({searched or 'nothing is searched, so each trial is a further seed'})\n"
        f"  maximise {study.objective}, sampler {study.sampler}, protocol {study.protocol}, seed {study.seed}; "
        f"{allotted.concurrency} at a time with {share} each"
    )


def _costs(study: Study, allotted: Resources) -> str:
    from study.estimate import calibrate, study_seconds
    from study.progress import duration

    speed = calibrate(allotted)
    whole, cheapest, dearest = study_seconds(
        study.space, study.protocol, study.trials, allotted.concurrency, speed, study.seed
    )
    return (
        f"  about {duration(whole)} at most, {duration(cheapest)} to {duration(dearest)} a trial, by a short "
        "calibration; stages that stop early make it less. Nothing was written."
    )


def _share_of_cluster(options: Options) -> Resources:
    from study.search import capacity

    return resources(options, *capacity(options.address))


def _search(options: Options, study: Study, folder: Folder, allotted: Resources) -> int:
    """Run what is missing, then make everything that is derived."""
    from study.ledger import Ledger
    from study.tables import write_all

    ledger = Ledger(study, folder.read_records(), folder.write_record)
    if len(ledger.of(COMPLETE)) < study.trials:
        folder.write_study(study, _this_run())
        print(f"  records in {folder.path}; {ledger.most_failures} failed trials would end it", flush=True)
        _run_trials(options, ledger, folder, allotted)
    write_all(folder, study, list(ledger.records.values()))
    return _ending(options, ledger, folder)


def _run_trials(options: Options, ledger: "Ledger", folder: Folder, allotted: Resources) -> None:
    from study.progress import Progress, showing
    from study.search import Stop, search
    from study.trial import Job

    study = ledger.study
    job = Job(
        dataset=study.dataset,
        folder=Path(study.data_folder).resolve() if study.data_folder else None,
        data=study.data,
        score_examples=study.space.score_examples(),
        cpus=allotted.cpus_per_trial,
        gpus=allotted.gpus_per_trial,
    )
    stop = Stop(deadline=time.monotonic() + 3600 * options.hours if options.hours else None)
    progress = Progress(ledger, terminal=sys.stdout.isatty())
    with showing(progress):
        search(ledger, job, allotted, options.address, stop, progress, (folder.path / ".tune").resolve())


def _this_run() -> dict[str, Any]:
    """What a study remembers of each run that added to it."""
    return {
        "started": now(),
        "command": shlex.join(["python", "-m", "study.run", *sys.argv[1:]]),
        "commit": machine.commit(),
        "versions": machine.versions(),
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
