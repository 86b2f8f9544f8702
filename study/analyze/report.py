"""The report of a study for a terminal: the choice, the configs as a table, effects and notes; and studies compared."""

import re
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from moe.config import VALIDATION_EXAMPLES, Config
from moe.console import duration, table
from study.analyze.analysis import Analysis
from study.analyze.effects import at_the_edge, effects
from study.analyze.format import GAP, Column, fitted, heading, paragraph
from study.analyze.tables import reuse, scored, settings, standing
from study.select.choice import COVERS, Choice, points, shown
from study.select.trials import LEAST_REPLICATES, LEAST_SEEDS, Ints
from study.study import COMPLETE, FAILED

CONFIG = "config"  # the column for all parameters
LEAST_WIDTH = 30  # of a study's column in a comparison


def report(analysis: Analysis, rows: int, width: int, whole: bool = True) -> str:
    """All about one study.

    Args:
        rows: configs to show; 0 for all.
        width: characters in a line.
        whole: with effects, and how everything is to be read.
    """
    parts = [heading(analysis.study.name), paragraph(standing(analysis.study, analysis.records), width)]
    if analysis.choice:
        parts.insert(1, paragraph(analysis.choice.why, width))
        parts.append(_ranking(analysis, rows, width, whole))
    if analysis.choice and whole:
        parts.append(effects(analysis, width))
    if whole:
        parts.append("\n".join(paragraph(note, width, "- ") for note in notes(analysis)))
    return "\n\n".join(parts).rstrip() + "\n"


def _ranking(analysis: Analysis, rows: int, width: int, whole: bool) -> str:
    """The configs by estimate, one row each, and how to read them."""
    fit = analysis.best
    order = np.lexsort((fit.means, fit.estimate, np.arange(len(fit.means)) == fit.best))[::-1]  # the choice first
    shown_rows = order[: rows or None]
    columns = _columns(analysis, shown_rows, width)
    text, left_out = fitted(columns, width, left=1 + (columns[1].name == CONFIG))
    configs = f"{len(order)} configs" if len(order) > 1 else "1 config"
    title = f"The {len(shown_rows)} best of {configs}" if len(shown_rows) < len(order) else configs
    notes = [paragraph(note, width, "- ") for note in _caption(analysis, left_out) if whole]
    return "\n".join([f"{title}, by estimate:", "", text, "", *notes]).rstrip()


def _columns(analysis: Analysis, configs: Ints, width: int) -> list[Column]:
    config_of = analysis.best.config_of
    records = [[analysis.complete[place] for place in np.flatnonzero(config_of == config)] for config in configs]

    def means(column: str, form: str, scale: int = 100) -> list[str]:
        return [form.format(scale * value) for value in analysis.means(column)[configs]]

    is_gain = analysis.study.objective == "gain"
    gain = Column("gain", means("gain", "{:+.2f}"), spare=0 if is_gain else 3)
    mixture = Column("mixture", means("mixture_accuracy", "{:.1f}"), spare=3 if is_gain else 0)
    trial = Column("trial", [_first_of([record.trial for record in group]) for group in records])
    estimate = Column("estimate", [estimated(analysis, config) for config in configs])
    main, other = (gain, mixture) if is_gain else (mixture, gain)
    room = width - sum(column.width for column in (trial, estimate, main))
    beyond = analysis.means("mixture_accuracy") - analysis.means("reference_accuracy")
    over = [f"{100 * value:+.2f}" for value in beyond[configs]]
    reference = [Column("over reference", over, spare=1)] if analysis.study.reference else []
    return [
        trial,
        *_settings(analysis, [group[0].config for group in records], room),
        Column("seed", [_first_of([record.config.seed for record in group]) for group in records], spare=2),
        estimate,
        main,
        other,
        *reference,
        Column("baseline", means("baseline_accuracy", "{:.1f}"), spare=4),
        Column("seconds", means("seconds", "{:.0f}", 1), spare=5),
        Column("seconds reused", means("seconds_reused", "{:.0f}", 1), spare=6),
    ]


def estimated(analysis: Analysis, config: int) -> str:
    """The estimate of one of the model's configs, and half its interval where that is stated."""
    fit, half = analysis.best, analysis.best.half[config]
    estimate = shown(fit.estimate[config], analysis.study.objective, unit=False)
    return estimate if np.isnan(half) else f"{estimate} ± {100 * half:.2f}"


def _settings(analysis: Analysis, configs: Sequence[Config], room: int) -> list[Column]:
    """A column for each searched parameter, or one for all of them where there is no room."""
    space = analysis.study.space
    columns = [Column(name, [str(getattr(config, name)) for config in configs]) for name in space.grids]
    if sum(column.width for column in columns) <= room + GAP:
        return columns
    texts = [textwrap.wrap(settings(config, space), room - GAP, break_long_words=False) for config in configs]
    return [Column(CONFIG, ["\n".join(lines) for lines in texts])]


def _first_of(numbers: Sequence[int]) -> str:
    """The first number, and how many more there are."""
    return f"{numbers[0]}" + (f" +{len(numbers) - 1}" if len(numbers) > 1 else "")


def _caption(analysis: Analysis, left_out: Sequence[str]) -> Iterator[str]:
    """How to read the table of configs."""
    objective, fit = analysis.study.objective, analysis.best
    trials, many = len(analysis.complete), len(analysis.complete) > 1
    scatter = f" Trials scatter around it by {100 * fit.noise:.2f} points." if many else ""
    stated = not np.isnan(fit.half).all()
    yield (
        f"estimate: a config's expected {objective.replace('_', ' ')}, by a model of the effects of parameters and of "
        f"pairs of them, over {f'all {trials} complete trials' if many else 'one complete trial'}.{scatter}"
    )
    yield (
        f"± half the 95 % interval for {COVERS}, where a config has {LEAST_SEEDS} seeds."
        if stated
        else f"No interval is stated: no config has {LEAST_SEEDS} seeds."
    )
    yield _bias(analysis)
    yield (
        "Gains are in percentage points, accuracies in %."
        + " over reference: mixture less the best reference baseline with as many training examples."
        * bool(analysis.study.reference)
    )
    if len(fit.estimate) < trials:
        own = trials - len(fit.estimate) >= LEAST_REPLICATES
        yield (
            "+2: two more trials of the config, with further seeds; the columns are means over all of them."
            + (" They also show a config's own deviation from the sum of effects; the estimate includes it." * own)
        )
    if left_out:
        yield f"Left out for lack of width: {', '.join(left_out)}; trials.csv has every column."


def _bias(analysis: Analysis) -> str:
    """What the best observed value is worth."""
    objective, fit, choice = analysis.study.objective, analysis.best, analysis.choice
    assert choice
    error = (
        f"One trial's {objective.replace('_', ' ')} has a standard error of {100 * choice.noise_image:.2f} points from "
        "its images alone; noise between seeds comes on top."
    )
    values = analysis.values(objective)
    if len(values) < 2:
        return error
    largest = int(values.argmax())
    found, estimated = (
        shown(x, objective, unit=False) for x in (values[largest], fit.estimate[fit.config_of[largest]])
    )
    fresh = (
        ""
        if choice.regression is None
        else f" On fresh seeds the refined configs fell by {100 * choice.regression:.2f} points on average."
    )
    return (
        f"{error} The best observed of {len(values)} trials is biased upward (winner's curse): trial "
        f"{analysis.complete[largest].trial} found {found}, its config's estimate is {estimated}.{fresh}"
    )


def notes(analysis: Analysis) -> Iterator[str]:
    """What else there is to know, a sentence or two each."""
    if analysis.study.protocol == "notebook":
        yield (
            "Protocol notebook: the test images that score a trial also stopped its training, so its accuracies are "
            "optimistic; they compare with published runs only."
        )
    if analysis.complete:
        yield from at_the_edge(analysis)
        yield reuse(analysis.complete)
    yield from _failures(analysis)


def _failures(analysis: Analysis) -> Iterator[str]:
    """Why trials failed, the most frequent reason first; reasons that differ in numbers only are one."""
    reasons = defaultdict(list)
    for record in analysis.of(FAILED):
        reasons[re.sub(r"\d+", "#", record.error or "")].append(record)
    for records in sorted(reasons.values(), key=len, reverse=True):
        numbers = [str(record.trial) for record in records]
        which = ", ".join(numbers if len(numbers) <= 5 else [*numbers[:3], "...", numbers[-1]])
        yield f"{len(records)} failed (trial{'s' if len(records) > 1 else ''} {which}): {records[0].error}"


def comparison(analyses: Sequence[Analysis], width: int) -> str:
    """The studies as columns, as many beside each other as fit, and a warning where they were not measured alike."""
    labels = max(map(len, ROWS)) + GAP
    number = max(1, (width - labels) // (LEAST_WIDTH + GAP))
    parts = [heading("Side by side")]
    for start in range(0, len(analyses), number):
        block = analyses[start : start + number]
        room = (width - labels) // len(block) - GAP
        rows = [[name, *("\n".join(textwrap.wrap(row(one), room)) for one in block)] for name, row in ROWS.items()]
        parts.append(table(["", *(one.study.name for one in block)], rows, left=1 + len(block), width=width))
    if differing := _differences(analyses):
        parts.append(paragraph(f"Not comparable: the studies differ in {' and '.join(differing)}.", width))
    return "\n\n".join(parts) + "\n"


def _observed(analysis: Analysis) -> str:
    if not analysis.complete:
        return "-"
    objective = analysis.study.objective
    values = analysis.values(objective)
    return f"{shown(values.max(), objective)} (trial {analysis.complete[values.argmax()].trial}), biased upward"


def _chosen(row: Callable[[Choice], str]) -> Callable[[Analysis], str]:
    """A row about the choice; a dash where there is none."""
    return lambda analysis: row(analysis.choice) if analysis.choice else "-"


def _estimate(choice: Choice) -> str:
    half = f" ± {50 * (choice.interval[1] - choice.interval[0]):.2f}" if choice.interval else ", no interval"
    return shown(choice.estimate, choice.objective) + half


ROWS: dict[str, Callable[[Analysis], str]] = {
    "trials complete": lambda analysis: f"{len(analysis.of(COMPLETE))} of {analysis.study.trials}",
    "failed": lambda analysis: str(len(analysis.of(FAILED))),
    "data set": lambda analysis: analysis.study.dataset,
    "protocol": lambda analysis: analysis.study.protocol,
    "scored on": lambda analysis: scored(analysis.study, analysis.complete),
    "space": lambda analysis: f"{analysis.study.space.name} ({analysis.study.space.size} points)",
    "objective": lambda analysis: analysis.study.objective,
    "best observed": _observed,
    "best estimate": _chosen(_estimate),
    "chosen config": lambda one: settings(one.choice.config, one.study.space) if one.choice else "-",
    "over reference": _chosen(
        lambda choice: "-" if choice.over_reference is None else f"{points(choice.over_reference)} points"
    ),
    "noise of a trial": _chosen(lambda choice: f"{100 * choice.noise:.2f} points"),
    "epochs trained": lambda analysis: f"{analysis.values('epochs_trained').sum():.0f}",
    "epochs reused": lambda analysis: f"{analysis.values('epochs_reused').sum():.0f}",
    "time of trials": lambda analysis: duration(analysis.values("seconds").sum()),
    "time reused": lambda analysis: duration(analysis.values("seconds_reused").sum()),
}


def _differences(analyses: Sequence[Analysis]) -> list[str]:
    """In what the studies differ, so that they cannot be compared."""
    aspects: dict[str, Callable[[Analysis], object]] = {
        "data": lambda analysis: (analysis.study.dataset, analysis.study.data),
        "protocol": lambda analysis: analysis.study.protocol,
        "scored images": _scored_images,
    }
    return [name for name, aspect in aspects.items() if len({aspect(analysis) for analysis in analyses}) > 1]


def _scored_images(analysis: Analysis) -> object:
    """How many images score a trial; in protocol notebook each number that the space has."""
    space = analysis.study.space
    if analysis.study.protocol == "notebook":
        return frozenset(space.grids.get("test_examples", (space.least("test_examples"),)))
    found = {record.done.scored_examples for record in analysis.complete}
    return frozenset(found or {VALIDATION_EXAMPLES})
