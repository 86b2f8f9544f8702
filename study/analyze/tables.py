"""What is derived from a study's records: the results table, the choice, a summary, a database for dashboards.

    records --> trials.csv  best.json  summary.md  study.db

All of it can be thrown away and made again.
"""

import dataclasses
import datetime
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd

from study.columns import COLUMNS
from study.console import duration
from study.folder import Folder, write_json, write_text
from study.select.choice import Choice, choose, points, why
from study.space import Space
from study.study import COMPLETE, FAILED, Record, Study

SHOWN = 10  # trials in the summary's table


def frame(study: Study, records: Sequence[Record]) -> pd.DataFrame:
    """One row per trial, one column per field, and the derived `gain_vs_best_baseline`."""
    rows = [_row(study, record) for record in records]
    types = {name: column.type for name, column in COLUMNS.items()}
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(types)
    # a gain over a crippled baseline is no gain: hold the mixture against the best one seen at this many examples
    best_baseline = table.groupby("train_examples")["baseline_accuracy"].transform("max")
    table["gain_vs_best_baseline"] = table["mixture_accuracy"] - best_baseline
    return table


def _row(study: Study, record: Record) -> dict[str, Any]:
    found: dict[str, Any] = {**dict(record), **dict(record.config), "dataset": study.dataset}
    if record.result:
        found |= {**dict(record.result), **dict(record.result.score), **dict(record.result.totals)}
    return {name: _cell(found.get(name)) for name in COLUMNS}


def _cell(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime.datetime) else value


def write_csv(folder: Folder, study: Study, records: Sequence[Record]) -> None:
    """trials.csv; floats are unrounded."""
    write_text(folder.path / "trials.csv", frame(study, records).to_csv(index=False))


def write_all(folder: Folder, study: Study, records: Sequence[Record]) -> Choice | None:
    """Everything derived; gives the choice, None where no trial is complete."""
    from study.analyze.database import write_database  # loads Optuna, which no other table needs

    write_csv(folder, study, records)
    choice = choose(study, [record for record in records if record.state == COMPLETE])
    if choice:
        described = {
            **dataclasses.asdict(choice),
            "objective": study.objective,
            "why": why(choice, study.objective),
        }
        write_json(folder.path / "best.json", {"study": study.name, "dataset": study.dataset, **described})
    write_text(folder.path / "summary.md", summary(study, records, choice))
    try:
        write_database(folder, study, records, list(COLUMNS))
    except OSError as error:
        print(f"{folder.path / 'study.db'} could not be written: {error}; a resume makes it again", file=sys.stderr)
    return choice


def summary(study: Study, records: Sequence[Record], choice: Choice | None) -> str:
    """The study on one page of Markdown."""
    states = Counter(record.state for record in records)
    counts = ", ".join(f"{number} {state}" for state, number in states.items())
    lines = [
        f"# {study.name}",
        "",
        f"Data: {study.source}",
        "",
        f"{counts or 'no trials'}, of {study.trials} complete trials wanted. Space {study.space.name} "
        f"({study.space.size} points), sampler {study.sampler}, objective {study.objective}, "
        f"protocol {study.protocol}, {study.precision}, {_scored(study)}.",
    ]
    if saved := what_the_store_saved(records):
        lines += ["", saved]
    if choice:
        lines += [
            "",
            "## Choice",
            "",
            f"{_settings(choice.config, study.space)}.",
            "",
            f"{_capital(why(choice, study.objective))}.",
        ]
        lines += [
            "",
            "No held-out data were used to confirm it; the largest of many noisy gains flatters itself.",
        ]
        lines += ["", "## Trials", "", _ranking(study, records)]
    failed = [record for record in records if record.state == FAILED]
    if failed:
        lines += ["", "## Failed", "", *(f"- trial {record.trial}: {record.error}" for record in failed)]
    return "\n".join(lines) + "\n"


def what_the_store_saved(records: Sequence[Record]) -> str:
    """How much of the study was reused, in a sentence; none where no trial is complete."""
    totals = [record.done.totals for record in records if record.state == COMPLETE]
    trained, reused = sum(t.epochs_trained for t in totals), sum(t.epochs_reused for t in totals)
    if not trained + reused:
        return ""
    return (
        f"{trained + reused} epochs of stages were needed: {trained} were trained, {reused} "
        f"({reused / (trained + reused):.0%}) came from the store. The trials took "
        f"{duration(sum(t.seconds for t in totals))}; training what was reused had taken "
        f"{duration(sum(t.seconds_reused for t in totals))}."
    )


def _scored(study: Study) -> str:
    if study.protocol == "notebook":
        return "each trial scored on its own first test images, which also stopped its training: optimistic"
    return f"each trial scored on the same {study.space.score_examples()} validation images"


def _settings(config: dict[str, Any], space: Space) -> str:
    return ", ".join(f"{name} {config[name]}" for name in space.grids) or "every field is fixed"


def _capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def _ranking(study: Study, records: Sequence[Record]) -> str:
    """The trials with the largest objective, as a Markdown table."""
    best = sorted((r for r in records if r.state == COMPLETE), key=lambda r: -r.objective(study.objective))[:SHOWN]
    names = list(study.space.grids)
    beyond = frame(study, records).set_index("trial")["gain_vs_best_baseline"]
    head = [
        "trial",
        "seed",
        *names,
        "gain",
        "vs best baseline",
        "mixture",
        "baseline",
        "gate",
        "seconds",
        "seconds reused",
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for record in best:
        score, totals = record.done.score, record.done.totals
        accuracies = [
            f"{value:.3f}" for value in (score.mixture_accuracy, score.baseline_accuracy, score.gate_accuracy)
        ]
        cells = [record.trial, record.config.seed, *(getattr(record.config, name) for name in names)]
        cells += [points(score.gain), points(beyond[record.trial]), *accuracies]
        cells += [f"{totals.seconds:.0f}", f"{totals.seconds_reused:.0f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    note = (
        "Gains are in percentage points, accuracies fractions of the scored images. The best baseline is the study's "
        "own at as many examples: a gain over a baseline that trained too little is none."
    )
    return "\n".join([*lines, "", note])
