"""A study's configs, the one with the highest estimate first."""

from collections.abc import Iterator, Sequence

import numpy as np

from study.analyze import luck
from study.analyze.analysis import Analysis
from study.analyze.layout import Column, paragraph, table
from study.select.choice import LEAST_REPLICATES, points
from study.select.model import Fit, Floats, Ints


def ranking(analysis: Analysis, rows: int, width: int) -> str:
    """The configs as a table, one row each, and how to read it; 0 rows for all."""
    fit = analysis.fits[analysis.study.objective]
    order = np.lexsort((-_means(analysis, analysis.study.objective), -fit.estimate))
    shown = order[: rows or None]
    text, left_out = table(_columns(analysis, shown), width)
    what = f"{len(order)} configs" if len(order) > 1 else "1 config"
    title = f"{what}, by estimate" if len(shown) == len(order) else f"The {len(shown)} best of {what}, by estimate"
    notes = [paragraph(note, width, "- ") for note in _caption(analysis, order, left_out)]
    return "\n".join([f"{title}:", "", text, "", *notes])


def weak_baseline(analysis: Analysis) -> Iterator[str]:
    """A sentence if the config with the highest estimate gains over its own baseline, but not over the best one."""
    best = analysis.fits[analysis.study.objective].best
    gain, beyond = (_means(analysis, column)[best] for column in ("gain", "gain_vs_best_baseline"))
    if gain > 0 > beyond:
        trial = analysis.complete[int((analysis.fits[analysis.study.objective].config_of == best).argmax())].trial
        yield (
            f"The gain of trial {trial}'s config, which has the highest estimate, is over a weak baseline: its mixture "
            f"lies {-100 * beyond:.1f} points below the best baseline that the study has on as many training examples."
        )


def _means(analysis: Analysis, column: str) -> Floats:
    """(configs,) a column of the table, averaged over each config's trials."""
    config_of = analysis.fits[analysis.study.objective].config_of
    return np.asarray(np.bincount(config_of, analysis.values(column)) / np.bincount(config_of))


def _columns(analysis: Analysis, shown: Ints) -> list[Column]:
    objective, fit = analysis.study.objective, analysis.fits[analysis.study.objective]
    trials = [np.flatnonzero(fit.config_of == config) for config in shown]
    chosen = set(analysis.choice.trials if analysis.choice else ())
    numbers = [[analysis.complete[place].trial for place in places] for places in trials]
    seeds = [[analysis.complete[place].config.seed for place in places] for places in trials]
    marks = ["*" if chosen & set(found) else "" for found in numbers]

    def percent(column: str) -> list[str]:
        return [f"{100 * value:.1f}" for value in _means(analysis, column)[shown]]

    def gains(column: str) -> list[str]:
        return [points(value) for value in _means(analysis, column)[shown]]

    estimates = [luck.shown(objective, value) for value in fit.estimate[shown]]
    errors = [f"{100 * error:.2f}" for error in fit.error[shown]]
    is_gain = objective == "gain"
    gain = Column("gain", gains("gain"), spare=0 if is_gain else 3)
    mixture = Column("mixture", percent("mixture_accuracy"), spare=3 if is_gain else 0)
    return [
        Column("trial", [mark + _listed(found) for mark, found in zip(marks, numbers, strict=True)]),
        Column("seed", [_listed(found) for found in seeds], spare=2),
        *_settings(analysis, [places[0] for places in trials]),
        Column("estimate", [f"{value} ± {error}" for value, error in zip(estimates, errors, strict=True)]),
        *((gain, mixture) if is_gain else (mixture, gain)),
        Column("vs best baseline", gains("gain_vs_best_baseline"), spare=1),
        Column("baseline", percent("baseline_accuracy"), spare=4),
        Column("seconds", [f"{value:.0f}" for value in _means(analysis, "seconds")[shown]], spare=5),
        Column("seconds reused", [f"{value:.0f}" for value in _means(analysis, "seconds_reused")[shown]], spare=6),
    ]


def _settings(analysis: Analysis, first: Sequence[int]) -> list[Column]:
    """A column for each searched parameter."""
    configs = [analysis.complete[place].config for place in first]
    return [Column(name, [str(getattr(config, name)) for config in configs]) for name in analysis.study.space.grids]


def _listed(numbers: Sequence[int]) -> str:
    """The first number, and how many more there are."""
    return f"{numbers[0]}" + (f" +{len(numbers) - 1}" if len(numbers) > 1 else "")


def _caption(analysis: Analysis, order: Ints, left_out: Sequence[str]) -> Iterator[str]:
    objective, fit = analysis.study.objective, analysis.fits[analysis.study.objective]
    raw = "gain" if objective == "gain" else "mixture"
    values = analysis.values(objective)
    scatter = f" They scatter around it by {100 * fit.noise:.2f} points." if len(values) > 1 else ""
    yield (
        f"estimate ± one standard error: what to expect of a config's {objective.replace('_', ' ')}, by a model in "
        f"which the parameters' effects add up, over {_trials(len(values))}.{scatter} Where {raw} is far above "
        "estimate, suspect luck, or parameters that act together."
    )
    assert analysis.choice
    yield luck.words(analysis.choice, fit, values, analysis.complete[values.argmax()].trial, objective)
    yield (
        "Gains are in percentage points, accuracies in %. vs best baseline: mixture less the best baseline that the "
        "study has on as many training examples."
    )
    if len(fit.estimate) < len(values):
        own = len(values) - len(fit.estimate) >= LEAST_REPLICATES
        yield (
            "+2 means two more trials of the config, with further seeds; the columns are means over all of them."
            + (" They also show what a config has beyond the sum of effects; the estimate includes it." if own else "")
        )
    chosen = analysis.choice.trials[0]
    place = int(np.flatnonzero(order == fit.config_of[[record.trial for record in analysis.complete].index(chosen)])[0])
    yield f"* what the study chooses: trial {chosen}'s config, number {place + 1} here.{_how_it_is_chosen(fit)}"
    if left_out:
        yield f"Left out for want of room: {', '.join(left_out)}; trials.csv has every column."


def _how_it_is_chosen(fit: Fit) -> str:
    if len(fit.estimate) < len(fit.config_of):
        return " It looks at each config's mean alone, shrunk towards the mean of all."
    if len(fit.estimate) > 1:
        return " With one trial per config that is the one with the largest value found; further seeds would tell."
    return ""


def _trials(number: int) -> str:
    return f"all {number} complete trials" if number > 1 else "one complete trial"
