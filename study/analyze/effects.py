"""The effect of each searched parameter, level by level, and grids that may end too early."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from moe.config import IMAGES, Config
from study.analyze.analysis import Analysis
from study.analyze.format import Column, fitted, paragraph
from study.select.choice import points
from study.select.model import Importance
from study.select.trials import Floats
from study.study import Objective, Study

LEAST_LEVELS = 3  # of a grid that has an inside
NOTHING = 1e-9  # between effects: rounding, no more


def effects(analysis: Analysis, width: int) -> str:
    """The effects as one table: a row for each parameter with its share of the variance, then one for each level."""
    grids = analysis.study.space.grids
    if not grids:
        return "Nothing is searched, so there are no effects: every trial is a further seed of one config."
    rows = [row for place, name in enumerate(grids) for row in _rows(analysis, place, name)]
    names = ["parameter", "trials", *(measure.replace("_", " ") for measure in analysis.measures)]
    columns = map(Column, names, zip(*rows, strict=True), (0, 2, 0, 1, 3))
    text, left_out = fitted(list(columns), width)
    seeds = {record.config.seed for record in analysis.complete}
    notes = [
        "Effects by the same model, less the mean over the values tried, in percentage points (95 % interval)."
        + f" All trials have seed {min(seeds)}: the noise of networks that trials share is in them."
        * (len(seeds) == 1),
        "% of variance: the share of the variance over the space that a parameter's own effects explain; the rest is "
        "noise, or parameters that act together. No more than chance: none of its effects is beyond noise, all values "
        "of all parameters considered.",
        f"Left out for lack of width: {', '.join(left_out)}." if left_out else "",
    ]
    written = [paragraph(note, width, "- ") for note in notes if note]
    return "\n".join(["Effects of the searched parameters:", "", text, "", *written])


def _rows(analysis: Analysis, place: int, name: str) -> Iterator[list[str]]:
    yield [name, "", *(_share(analysis.fits[measure].importances[place]) for measure in analysis.measures)]
    for level, value in enumerate(analysis.study.space.grids[name]):
        trials = int((analysis.levels[:, place] == level).sum())
        yield [f"  {value}", str(trials), *(effect(analysis, measure, place, level) for measure in analysis.measures)]


def _share(importance: Importance) -> str:
    if importance.chance:
        return "no more than chance"
    return f"{importance.share:.0%} of variance ({importance.low:.0%} to {importance.high:.0%})"


def effect(analysis: Analysis, measure: Objective, place: int, level: int) -> str:
    """A level's effect on a measure with its 95 % interval, in points; "-" where nothing compares."""
    found, half = (values[level] for values in intervals(analysis, measure, place))
    if np.isnan(found):
        return "-"
    middle, low, high = (points(round(value, 4) + 0.0) for value in (found, found - half, found + half))  # no -0.00
    return f"{middle} ({low} to {high})"


def intervals(analysis: Analysis, measure: Objective, place: int) -> tuple[Floats, Floats]:
    """(levels,) a parameter's effects on a measure and half their 95 % intervals; nan where nothing compares."""
    fit = analysis.fits[measure]
    return fit.effects[place], fit.quantile * fit.effect_errors[place]


def at_the_edge(analysis: Analysis) -> Iterator[str]:
    """A sentence for each grid of numbers whose best level, beyond noise, is an end of it that could be passed."""
    for place, (name, grid) in enumerate(analysis.study.space.grids.items()):
        found, half = intervals(analysis, analysis.study.objective, place)
        if isinstance(grid[0], bool) or len(grid) < LEAST_LEVELS or not np.nanmax([NOTHING, *(found - half)]) > NOTHING:
            continue
        best = grid[int(np.nanargmax(found))]
        up = best == max(grid)
        if (up or best == min(grid)) and _may_pass(analysis.study, name, best, up):
            words = effect(analysis, analysis.study.objective, place, grid.index(best))
            end = "largest" if up else "smallest"
            yield f"{name}: the best value, {best}, is the {end} of its grid, {words} points; try a wider grid."


def _may_pass(study: Study, name: str, value: Any, up: bool) -> bool:
    """Whether a config may have a value beyond this one."""
    beyond = value * (2 if up else 0.5) if isinstance(value, float) else value + (1 if up else -1)
    room = Config(protocol=study.protocol, batch_size=1, train_examples=IMAGES[study.protocol]["train_examples"][1])
    try:
        room.replace(**{name: beyond})
    except ValueError:
        return False
    return True
