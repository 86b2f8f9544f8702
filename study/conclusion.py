"""How a study ends: its tables, its summary, the exit code and the command to resume it. No torch, no Ray."""

import shlex
from collections.abc import Sequence

from moe.config import HOLDOUT
from moe.console import Exit, emit, interactive, output_width, warn
from study.analyze.analysis import Analysis
from study.analyze.report import report
from study.analyze.tables import write_all
from study.definition import Request
from study.folder import Folder, FolderError, uncollected
from study.options import PROGRAM, Options, resume_command
from study.search.reference import wanted_references
from study.select.refine import replicates
from study.study import COMPLETE, FAILED, RUNNING, SEARCH, Record, Study

ROWS = 5  # configs at the end of a study in a terminal
LEAST_WIDTH = 60
TABLES = ("trials.csv", "epochs.csv", "best.json", "summary.md", "study.db")
RESUME = "resume.txt"  # in the folder of a study that is not done: the command that continues it, for a lost output


def missing(study: Study, records: Sequence[Record]) -> int:
    """How many trials still have to become complete, as far as that is known before the next stage of refining."""
    searched = sum(record.state == COMPLETE and record.phase == SEARCH for record in records)
    return max(0, study.search_trials - searched) or len(replicates(study, records))


def finished(study: Study, records: Sequence[Record]) -> bool:
    """Whether a study has all its trials, and the references that these are held against."""
    return not missing(study, records) and not wanted_references(study, records)


def check_unchanged(folder: Folder, before: Study | None) -> None:
    """Raise a FolderError if another driver began or changed the study before the folder was locked."""
    if before is None and folder.exists():
        raise FolderError(f"{folder.path} was begun by another driver meanwhile; choose another --name")
    if before is not None and folder.read_study() != before:
        raise FolderError(f"{folder.path} was changed by another driver meanwhile; run the command again")


def conclude_finished(request: Request) -> Exit | None:
    """Conclude a resumed study that has all its trials already; None if some are missing."""
    options, study = request.options, request.study
    folder = Folder(options.studies / study.name)
    with folder.locked():
        check_unchanged(folder, request.before)
        records = folder.read_records(study)
        return conclude(options, study, records=records) if finished(study, records) else None


def conclude(
    options: Options, study: Study, too_many_failed: bool = False, records: list[Record] | None = None
) -> Exit:
    """Write everything that is derived from these records, or those in the folder, and print how it ended.

    Returns the exit code.
    """
    folder, study, records = _derive(options, study, records)
    if interactive():
        emit(f"\n{report(Analysis(folder, study, records), ROWS, max(LEAST_WIDTH, output_width()), whole=False)}")
    else:
        emit(f"\n{(folder.path / 'summary.md').read_text('utf-8')}")
    written = [name for name in TABLES if (folder.path / name).exists()]  # no best.json without a complete trial
    emit(f"Everything is in {folder.path}: {', '.join(written)}, trials/")
    complete = sum(record.state == COMPLETE for record in records)
    if complete:
        emit("Next:")
        for command in ("analyze", *(["confirm"] if study.protocol == HOLDOUT else []), "reproduce"):
            emit(f"  python -m study.{command} {shlex.quote(str(folder.path))}")
    if not (left := missing(study, records)):
        (folder.path / RESUME).unlink(missing_ok=True)
        return Exit.DONE
    resume = f"Continue it with: {resume_command(options, study.name)}"
    if too_many_failed:
        failed = [record for record in records if record.state == FAILED]
        warn(PROGRAM, f"{len(failed)} trials failed; the last: {failed[-1].error}\n{resume}")
        return Exit.TOO_MANY_FAILED
    warn(PROGRAM, f"interrupted with {complete} trials complete; at least {left} are missing. {resume}")
    return Exit.INTERRUPTED


def conclude_asked(options: Options, study: Study, command: str, number: int | None) -> Exit:
    """Write everything that is derived, after the one trial that a person asked for; the exit code.

    Args:
        number: of the trial; None if it has not begun.
    """
    records = _derive(options, study)[2]
    trial = next((record for record in records if record.trial == number), None)
    if trial is None or trial.state == RUNNING:
        warn(options.program, f"interrupted; the trial starts again with: {command}")
        return Exit.INTERRUPTED
    if trial.state == FAILED:
        warn(options.program, f"trial {trial.trial} failed: {trial.error}")
        return Exit.TOO_MANY_FAILED
    return Exit.DONE


def _derive(options: Options, study: Study, records: list[Record] | None = None) -> tuple[Folder, Study, list[Record]]:
    """Write everything that is derived; the folder, the study with its references, and the records."""
    folder = Folder(options.studies / study.name)
    before = folder.read_study()
    study = study.replace(reference=before.reference)
    if study != before:  # a resume has other budgets, and no trial to run for them
        folder.write_study(study)
    with uncollected():
        records = folder.read_records(study) if records is None else records
        write_all(folder, study, records)
    return folder, study, records
