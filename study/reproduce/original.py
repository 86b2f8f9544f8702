"""Which trial is trained again: its record, the study, and the run of the study that made it. No torch."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from moe.cli import refuse
from moe.result import Result
from study.folder import Folder, FolderError, named
from study.reproduce.options import PROGRAM
from study.select.choice import choose
from study.study import COMPLETE, FAILED, RUNNING, Record, Run, Study


@dataclass(frozen=True, kw_only=True)
class Original:
    """A complete trial, and what the study wrote down of its making."""

    study: Study
    record: Record
    run: Run  # the start of the driver that made it: commit, versions and so on

    @property
    def result(self) -> Result:
        """What the trial found."""
        return self.record.done


def find(folder: Path, trial: int | None) -> Original:
    """The trial of that number, by default the first one of the config that the study chooses.

    A number that no trial has is refused with exit code 2.

    Raises:
        FolderError: the folder or the trial does not serve.
    """
    files = Folder(named(folder))
    study = files.read_study()
    records = {record.trial: record for record in files.read_records(study)}
    number = _best(study, files, list(records.values())) if trial is None else trial
    if number not in records:
        refuse(PROGRAM, f"--trial is {number}; expected a trial of {study.name}: {_spans(sorted(records))}")
    record = records[number]
    _check(record, files.path)
    return Original(study=study, record=record, run=_run(files, record))


def _best(study: Study, files: Folder, records: Sequence[Record]) -> int:
    """The first trial of the config that the study chooses, as far as it has come."""
    choice = choose(study, [record for record in records if record.state == COMPLETE])
    if not choice:
        raise FolderError(f"{files.path} has no complete trial; there is nothing to reproduce")
    return choice.trials[0]


def _check(record: Record, folder: Path) -> None:
    number = record.trial
    if record.state == FAILED:
        raise FolderError(f"trial {number} failed and left no numbers to compare: {record.error}")
    if record.state == RUNNING:
        resume = shlex.join(["--resume", "--name", folder.name, "--results", str(folder.parent)])
        raise FolderError(f"trial {number} of {folder} is not complete; python -m study.run {resume} completes it")


def _spans(numbers: Sequence[int]) -> str:
    """Numbers in ascending order in few words: 1 to 3, 5."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][-1] + 1:
            spans[-1][1:] = [number]
        else:
            spans.append([number])
    return ", ".join(" to ".join(map(str, span)) for span in spans) or "it has none"


def _run(folder: Folder, record: Record) -> Run:
    """The last run that began before the trial did."""
    runs = folder.read_runs()
    before = [run for run in runs if run.started <= record.started]
    if not before:
        raise FolderError(f"{folder.definition} has no run that began before trial {record.trial}")
    return before[-1]
