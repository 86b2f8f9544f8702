"""What is derived from a study's records: tables of trials and epochs, the choice, a summary, a database.

    records --> trials.csv  epochs.csv  best.json  summary.md  study.db

All of it can be deleted and made again: `python -m study.analyze --rebuild results/NAME`.
"""

import csv
import dataclasses
import datetime
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any

import pandas as pd

from moe.config import VALIDATION_EXAMPLES, Config
from moe.console import duration, markdown, printable, warn
from moe.result import Epoch, StageResult
from moe.schema import fields
from study.analyze.database import MOST_AT_ONCE, write_database
from study.columns import COLUMNS, EPOCHS, Column
from study.files import write_json, write_text
from study.folder import Folder
from study.select.choice import CLAIM, COVERS, Choice, choose, points
from study.select.trials import LEAST_SEEDS
from study.space import Space
from study.study import ASK, COMPLETE, FAILED, REFINE, RUNNING, SEARCH, Phase, Record, Study

Row = tuple[Any, ...]  # the cells of a row, in the order of the columns; None where a cell is empty

METRICS = attrgetter(*fields(Epoch))
ROWS = 10  # trials in the summary's table
BESIDE: dict[Phase, str] = {REFINE: "of refining", ASK: "asked for"}  # phases beside the search
HEAD = ("trial", "seed", "config", "gain", "over reference", "mixture", "baseline", "gate", "seconds", "seconds reused")
NOTE = (
    "Gains are in percentage points, accuracies fractions of the scored images. over reference is the mixture less "
    "the best reference baseline with as many training examples: beating an under-trained baseline is meaningless."
)


def frame(study: Study, records: Sequence[Record]) -> pd.DataFrame:
    """One row per trial, one column per field, and those that are derived with the study's references."""
    return _table((_row(study, record) for record in records), COLUMNS)


def epochs(records: Sequence[Record]) -> pd.DataFrame:
    """One row per epoch that a complete trial used, in the order of trials, stages and epochs."""
    return _table(_epochs(records), EPOCHS)


def curves(study: Study, records: Sequence[Record]) -> pd.DataFrame:
    """One row per complete trial: the columns of `frame`, and for each stage the list of its epochs."""
    complete = [record for record in records if record.state == COMPLETE]
    stages = [{f"{name}_epochs": _curve(stage) for name, stage in each.done.stages.items()} for each in complete]
    return frame(study, complete).join(pd.DataFrame(stages))


def _curve(stage: StageResult) -> list[dict[str, Any]]:
    return [dict(epoch) for epoch in stage.epochs]


def _epochs(records: Iterable[Record]) -> Iterator[Row]:
    for record in records:
        for name, stage in record.result.stages.items() if record.result else ():
            for number, epoch in enumerate(stage.epochs, 1):
                reused, chosen = number <= stage.epochs_reused, number == stage.best_epoch
                yield (record.trial, name, number, *METRICS(epoch), reused, chosen)


def _table(rows: Iterable[Row], columns: dict[str, Column]) -> pd.DataFrame:
    table = pd.DataFrame(list(rows), columns=list(columns))
    return table.astype({name: column.type for name, column in columns.items()})


def _row(study: Study, record: Record, no_error: str | None = None) -> Row:
    found: dict[str, Any] = {**dict(record), **dict(record.config), "dataset": study.dataset}
    if record.result:
        found |= {**dict(record.result), **dict(record.result.score), **dict(record.result.totals)}
        found["fair_gain"] = study.value(record, "fair_gain") if study.reference else None
    found |= {"reference_accuracy": study.reference_accuracy(record.config), "error": record.error or no_error}
    found |= {name: value.isoformat() for name, value in found.items() if isinstance(value, datetime.datetime)}
    return tuple(map(found.get, COLUMNS))


def trials_csv(study: Study, records: Iterable[Record], header: bool = True) -> str:
    """The table of trials as CSV, floats unrounded, that no reader takes for anything else.

    A text that begins as a formula does gets an apostrophe, as spreadsheets have it. A column of texts without any
    would be read as numbers: no error is "none".
    """
    rows = (map(_plain, _row(study, record, no_error="none")) for record in records)
    return _csv(rows, [*COLUMNS] if header else [])


def epochs_csv(records: Iterable[Record], header: bool = True) -> str:
    """The table of epochs as CSV, floats unrounded; it has no texts of others."""
    return _csv(_epochs(records), [*EPOCHS] if header else [])


def _csv(rows: Iterable[Iterable[Any]], header: list[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")  # not through a DataFrame, which takes longer
    if header:
        writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _plain(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    text = printable(cell)  # first: a colour may stand before a formula
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@", "|", "%")) else text


def write_all(folder: Folder, study: Study, records: Sequence[Record], most: int = MOST_AT_ONCE) -> Choice | None:
    """Write everything derived but the figures; gives the choice, None where no trial is complete.

    Args:
        most: trials to add to study.db, which takes 15 ms each.
    """
    write_text(folder.path / "trials.csv", trials_csv(study, records))
    write_text(folder.path / "epochs.csv", epochs_csv(records))
    choice = choose(study, [record for record in records if record.state == COMPLETE])
    if choice:
        write_json(folder.path / "best.json", best(study, choice))
    else:
        (folder.path / "best.json").unlink(missing_ok=True)  # of trials whose records are gone
    write_text(folder.path / "summary.md", summary(study, records, choice))
    try:
        missing = write_database(folder, study, records, choice.why if choice else "", most)
    except OSError as error:
        warn(str(folder.path / "study.db"), f"it cannot be written: {error.strerror}; a resume writes it again")
    else:
        if missing:
            command = f"python -m study.analyze --rebuild {folder.path}"
            warn(str(folder.path / "study.db"), f"it lacks {missing} trials; {command} adds them")
    return choice


def rebuild(folder: Folder) -> None:
    """Write everything derived again, study.db from nothing.

    Raises:
        FolderError: the study is running, or something in its folder is damaged.
    """
    folder.read_study()  # else the lock would make a folder where there is no study
    with folder.locked():
        study = folder.read_study()
        records = folder.read_records(study)
        (folder.path / "study.db").unlink(missing_ok=True)
        write_all(folder, study, records, most=len(records))


def best(study: Study, choice: Choice) -> dict[str, Any]:
    """What best.json holds: the chosen config, its estimate, and what kind of claim that is."""
    low, high = choice.interval or (None, None)
    numbers = {name: value for name, value in dataclasses.asdict(choice).items() if name != "interval"}
    return {
        "study": study.name,
        "dataset": study.dataset,
        "why": choice.why,
        **numbers,
        "config": {name: value for name, value in choice.config.as_json().items() if name != "seed"},
        "fairest": choice.fairest and choice.fairest.as_json(),
        "low": low,
        "high": high,
        "interval": f"95 %, for {COVERS}" if choice.interval else f"none: it takes {LEAST_SEEDS} seeds of the config",
        "over_reference": choice.over_reference,
        "claim": CLAIM,
    }


def summary(study: Study, records: Sequence[Record], choice: Choice | None) -> str:
    """The study on one page of Markdown, the choice first."""
    paragraphs = [f"# {markdown(study.name)}"]
    if choice:
        paragraphs += [
            f"{choice.why} No held-out data confirm it.",
            f"Chosen config: {settings(choice.config, study.space)}.",
        ]
    paragraphs += [markdown(standing(study, records)), reuse(records)]
    if choice:
        paragraphs += ["## Trials by observed value", "\n".join(_markdown(study, records)), NOTE]
    if failed := [record for record in records if record.state == FAILED]:
        paragraphs += [
            "## Failed",
            "\n".join(f"- trial {each.trial}: {markdown(str(each.error))}" for each in failed),
        ]
    return "\n\n".join(filter(None, paragraphs)) + "\n"


def standing(study: Study, records: Sequence[Record]) -> str:
    """How far the study is, and what it is."""
    of = Counter(record.phase for record in records if record.state == COMPLETE)
    states = Counter(record.state for record in records)
    counts = [f"{of[SEARCH]} of {study.search_trials} trials complete"]
    counts += [f"{of[phase]} more {words}" for phase, words in BESIDE.items() if of[phase]]
    counts += [f"{states[FAILED]} failed"] * (states[FAILED] > 0)
    counts += [f"{states[RUNNING]} under way, or left by an interruption"] * (states[RUNNING] > 0)
    return (
        f"{', '.join(counts)}. Data: {study.source}. Space {study.space.name} ({study.space.size} points), "
        f"sampler {study.sampler}, objective {study.objective}, protocol {study.protocol}, {study.precision}, "
        f"each trial scored on {scored(study, records)}."
    )


def reuse(records: Sequence[Record]) -> str:
    """How much of the study was reused, in words; empty where no trial is complete."""
    totals = [record.done.totals for record in records if record.state == COMPLETE]
    trained, reused = sum(t.epochs_trained for t in totals), sum(t.epochs_reused for t in totals)
    if not trained + reused:
        return ""
    return (
        f"{trained + reused} epochs of stages were needed: {trained} were trained, {reused} "
        f"({reused / (trained + reused):.0%}) came from the store. The trials took "
        f"{duration(sum(t.seconds for t in totals))}; training the reused epochs had taken "
        f"{duration(sum(t.seconds_reused for t in totals))}."
    )


def scored(study: Study, records: Sequence[Record]) -> str:
    """Which images score a study's trials."""
    if study.protocol == "notebook":
        return "its own first test images, which also stopped its training: optimistic"
    found = [record.done.scored_examples for record in records if record.state == COMPLETE]
    return f"the same {max(found, default=VALIDATION_EXAMPLES)} validation images"


def settings(config: Config, space: Space) -> str:
    """The searched fields of a config."""
    return ", ".join(f"{name} {getattr(config, name)}" for name in space.grids) or "every field is fixed"


def _markdown(study: Study, records: Sequence[Record]) -> Iterator[str]:
    """The trials with the largest objective, as the lines of a Markdown table."""
    complete = [record for record in records if record.state == COMPLETE]
    yield f"| {' | '.join(HEAD)} |"
    yield "|" + "---|" * len(HEAD)
    for record in sorted(complete, key=lambda record: -study.value(record, study.objective))[:ROWS]:
        score, totals = record.done.score, record.done.totals
        reference = study.reference_accuracy(record.config)
        accuracies = (score.mixture_accuracy, score.baseline_accuracy, score.gate_accuracy)
        cells = [str(record.trial), str(record.config.seed), _brief(record.config, study.space), points(score.gain)]
        cells += ["" if reference is None else points(score.mixture_accuracy - reference)]
        cells += [*(f"{value:.3f}" for value in accuracies), f"{totals.seconds:.0f}", f"{totals.seconds_reused:.0f}"]
        yield f"| {' | '.join(cells)} |"


def _brief(config: Config, space: Space) -> str:
    """The searched fields of a config without the flags that are off: epochs 3, use_large_experts."""
    values = {name: getattr(config, name) for name in space.grids}
    words = [name if value is True else f"{name} {value}" for name, value in values.items() if value is not False]
    return ", ".join(words) or "-"
