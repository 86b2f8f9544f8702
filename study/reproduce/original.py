"""Which trial is trained again: its record, the study, and the run of the study that made it. No torch."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from moe.cli import refuse
from study.naming import named
from study.reproduce.options import PROGRAM
from study.select.choice import choose
from study.study import COMPLETE, FAILED, RUNNING, Folder, FolderError, Record, Study

DATASETS = ("cifar10", "shapes")
MOST_THREADS = 4096


@dataclass(frozen=True, kw_only=True)
class Original:
    """A complete trial, and what the study wrote down of its making."""

    study: Study
    record: Record
    run: dict[str, Any]  # commit, versions and so on; empty where the study has none
    run_known: bool  # it made this trial; else it is only the study's last

    @property
    def result(self) -> dict[str, Any]:
        """What the trial found."""
        assert self.record.result is not None
        return self.record.result

    @property
    def threads(self) -> int | None:
        """The CPU threads that it was trained with; None where that was not recorded."""
        return self.result.get("threads")


def find(folder: Path, trial: int | None) -> Original:
    """The trial of that number, by default the first one of the config that the study chooses.

    A number that no trial has is refused with exit code 2.

    Raises:
        FolderError: the folder or the trial does not serve.
    """
    files = Folder(named(folder))
    study = files.read_study()
    if study.dataset not in DATASETS:
        raise FolderError(f"study {study.name} is on {study.dataset!r}; expected {' or '.join(DATASETS)}")
    records = {record.trial: record for record in files.read_records(study)}
    number = _best(study, files, list(records.values())) if trial is None else trial
    if number not in records:
        refuse(PROGRAM, f"--trial is {number}; expected a trial of {study.name}: {_spans(sorted(records))}")
    record = records[number]
    _check(record, files.path)
    run, known = _run(files, record)
    return Original(study=study, record=record, run=run, run_known=known)


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
    assert record.result is not None
    threads = record.result.get("threads")
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise FolderError(
            f"the record of trial {number} is damaged: threads is {threads}; expected 1 to {MOST_THREADS}"
        )


def _spans(numbers: Sequence[int]) -> str:
    """Numbers in ascending order in few words: 1 to 3, 5."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][-1] + 1:
            spans[-1][1:] = [number]
        else:
            spans.append([number])
    return ", ".join(" to ".join(map(str, span)) for span in spans) or "it has none"


def _run(folder: Folder, record: Record) -> tuple[dict[str, Any], bool]:
    """The last run that began before the trial did, else the study's last one; and whether it is the former."""
    runs = json.loads(folder.definition.read_text("utf-8")).get("runs")
    known = [run for run in runs if isinstance(run, dict)] if isinstance(runs, list) else []
    started = _time(record.started)
    before = [run for run in known if started and (began := _time(run.get("started"))) and began <= started]
    return (before or known or [{}])[-1], bool(before)


def _time(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(text).astimezone()
    except (TypeError, ValueError):
        return None
