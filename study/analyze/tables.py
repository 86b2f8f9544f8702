"""What is derived from a study's records: the results table, the choice, a summary, a database for dashboards.

    records --> trials.csv  best.json  summary.md  study.db

All of it can be deleted and made again: `python -m study.run --resume`.
"""

import dataclasses
import datetime
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from moe.config import VALIDATION_EXAMPLES, Config
from moe.console import duration, markdown, printable, warn
from study.analyze.database import write_database
from study.columns import COLUMNS
from study.files import write_json, write_text
from study.folder import Folder
from study.select.choice import CLAIM, COVERS, Choice, choose, points
from study.select.trials import LEAST_SEEDS
from study.space import Space
from study.study import COMPLETE, FAILED, Record, Study

ROWS = 10  # trials in the summary's table
HEAD = ("gain", "over reference", "mixture", "baseline", "gate", "seconds", "seconds reused")
NOTE = (
    "Gains are in percentage points, accuracies fractions of the scored images. over reference is the mixture less "
    "the best reference baseline with as many training examples: beating an under-trained baseline is meaningless."
)


def frame(study: Study, records: Sequence[Record]) -> pd.DataFrame:
    """One row per trial, one column per field, and those that are derived with the study's references."""
    types = {name: column.type for name, column in COLUMNS.items()}
    return pd.DataFrame([_row(study, record) for record in records], columns=list(COLUMNS)).astype(types)


def _row(study: Study, record: Record) -> dict[str, Any]:
    found: dict[str, Any] = {**dict(record), **dict(record.config), "dataset": study.dataset}
    if record.result:
        found |= {**dict(record.result), **dict(record.result.score), **dict(record.result.totals)}
        found["fair_gain"] = study.value(record, "fair_gain") if study.reference else None
    found["reference_accuracy"] = study.reference_accuracy(record.config)
    return {name: _cell(found.get(name)) for name in COLUMNS}


def _cell(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime.datetime) else value


def csv(table: pd.DataFrame) -> str:
    """The table as CSV, floats unrounded, that no reader takes for anything else.

    A text that begins as a formula does gets an apostrophe, as spreadsheets have it. A column of texts without any
    would be read as numbers: no error is "none".
    """
    texts = table.assign(error=table["error"].fillna("none"))
    for name in texts.columns[texts.dtypes == "string"]:
        texts[name] = texts[name].map(_plain, na_action="ignore")
    return str(texts.to_csv(index=False))


def _plain(cell: str) -> str:
    return printable(f"'{cell}" if cell.lstrip().startswith(("=", "+", "-", "@", "|", "%")) else cell)


def write_all(folder: Folder, study: Study, records: Sequence[Record]) -> Choice | None:
    """Write everything derived; gives the choice, None where no trial is complete."""
    write_text(folder.path / "trials.csv", csv(frame(study, records)))
    choice = choose(study, [record for record in records if record.state == COMPLETE])
    if choice:
        write_json(folder.path / "best.json", best(study, choice))
    else:
        (folder.path / "best.json").unlink(missing_ok=True)  # of trials whose records are gone
    write_text(folder.path / "summary.md", summary(study, records, choice))
    try:
        missing = write_database(folder, study, records)
    except OSError as error:
        warn(str(folder.path / "study.db"), f"it cannot be written: {error.strerror}; a resume writes it again")
    else:
        if missing:
            command = f"python -m study.analyze --database {folder.path}"
            warn(str(folder.path / "study.db"), f"it lacks {missing} trials; {command} adds them")
    return choice


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
    counts = Counter(record.state for record in records)
    states = ", ".join(f"{number} {state}" for state, number in counts.items()) or "no trials"
    paragraphs += [
        f"{states}, of {study.search_trials} complete trials wanted in the search. "
        f"Space {markdown(study.space.name)} ({study.space.size} points), "
        f"sampler {study.sampler}, objective {study.objective}, protocol {study.protocol}, {study.precision}, "
        f"each trial scored on {scored(study, records)}.",
        f"Data: {markdown(study.source)}",
        reuse(records),
    ]
    if choice:
        paragraphs += ["## Trials by observed value", "\n".join(_markdown(study, records)), NOTE]
    if failed := [record for record in records if record.state == FAILED]:
        paragraphs += [
            "## Failed",
            "\n".join(f"- trial {each.trial}: {markdown(str(each.error))}" for each in failed),
        ]
    return "\n\n".join(filter(None, paragraphs)) + "\n"


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
    names = list(study.space.grids)
    head = ["trial", "seed", *names, *HEAD]
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for record in sorted(complete, key=lambda record: -study.value(record, study.objective))[:ROWS]:
        score, totals = record.done.score, record.done.totals
        reference = study.reference_accuracy(record.config)
        beyond = "" if reference is None else points(score.mixture_accuracy - reference)
        cells = [record.trial, record.config.seed, *(getattr(record.config, name) for name in names)]
        cells += [points(score.gain), beyond]
        cells += [f"{value:.3f}" for value in (score.mixture_accuracy, score.baseline_accuracy, score.gate_accuracy)]
        cells += [f"{totals.seconds:.0f}", f"{totals.seconds_reused:.0f}"]
        yield f"| {' | '.join(map(str, cells))} |"
