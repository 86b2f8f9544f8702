"""Which trial is trained again: the study, the trial's record, and the run of the study that made it. No torch."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from moe.result import Result
from study.folder import Folder, FolderError, named
from study.select.choice import choose
from study.study import COMPLETE, FAILED, RUNNING, Record, Run, Study


class UnknownTrialError(Exception):
    """A study has no trial of that number; the sentence begins with the number."""


@dataclass(frozen=True, kw_only=True)
class Original:
    """A complete trial and where it comes from."""

    study: Study
    record: Record
    run: Run  # the start of the driver that made the record: commit, versions and so on

    @property
    def result(self) -> Result:
        """The recorded result."""
        return self.record.done


def find(folder: Path, trial: int | None) -> Original:
    """The trial of that number, by default the first one of the config that the study chooses.

    Raises:
        UnknownTrialError: the study has no such trial.
        FolderError: the folder holds no study, is damaged, or the trial is not complete.
    """
    files = Folder(named(folder))
    try:
        study = files.read_study()
        records = {record.trial: record for record in files.read_records(study)}
        if trial is None:
            choice = choose(study, [record for record in records.values() if record.state == COMPLETE])
            if not choice:
                raise FolderError(f"{files.path} has no complete trial; there is nothing to reproduce")
            trial = choice.trials[0]
        if trial not in records:
            raise UnknownTrialError(f"{trial}; expected a trial of {study.name}: {_ranges(sorted(records))}")
        _check_complete(records[trial], files.path)
        return Original(study=study, record=records[trial], run=_run(files, records[trial]))
    except OSError as error:
        raise FolderError(f"{error.filename2 or error.filename or folder}: {error.strerror}") from None


def _check_complete(record: Record, folder: Path) -> None:
    if record.state == FAILED:
        raise FolderError(f"trial {record.trial} failed, so it has no numbers to compare: {record.error}")
    if record.state == RUNNING:
        resume = shlex.join(["--resume", "--name", folder.name, "--results", str(folder.parent)])
        raise FolderError(f"trial {record.trial} is not complete; python -m study.run {resume} completes it")


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers, shortened: 1 to 3, 5."""
    ranges = [
        [number for _, number in group] for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])
    ]
    return ", ".join(" to ".join(map(str, sorted({one[0], one[-1]}))) for one in ranges) or "it has none"


def _run(folder: Folder, record: Record) -> Run:
    """The last run that began before the trial did."""
    before = [run for run in folder.read_runs() if run.started <= record.started]
    if not before:
        raise FolderError(f"{folder.definition} has no run that began before trial {record.trial}")
    return before[-1]
