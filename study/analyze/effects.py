"""The effect of each searched parameter, level by level, its importance, and where a grid may end too early."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from moe.config import IMAGES, Config
from study.analyze.analysis import Analysis
from study.analyze.layout import Column, paragraph, table
from study.select.choice import points
from study.study import Study

LEAST_LEVELS = 3  # of a grid that has an inside
NOTHING = 1e-9  # between effects: rounding, no more


def effects(analysis: Analysis, width: int) -> str:
    """The effects as one table, parameter by parameter."""
    grids = analysis.study.space.grids
    if not grids:
        return "Nothing is searched, so there are no effects: every trial is a further seed of one config."
    levels = [(place, int(level)) for place in range(len(grids)) for level in _compared(analysis, place)]
    columns = [
        Column("value", [f"  {_grid(analysis, place)[level]}" for place, level in levels]),
        Column("trials", [str((analysis.points[:, place] == level).sum()) for place, level in levels]),
    ]
    for spare, measure in enumerate(analysis.measures):
        cells = [_effect(analysis, measure, place, level) for place, level in levels]
        columns.append(Column(measure.replace("_", " "), cells, spare=spare))
    text, left_out = table(columns, width)
    lines = text.split("\n")
    rows = iter(lines[len(lines) - len(levels) :])
    blocks = [
        "\n".join([paragraph(_title(analysis, place, name), width), *(next(rows) for _ in _compared(analysis, place))])
        for place, name in enumerate(grids)
    ]
    intro = (
        "Effects of the searched parameters by the same model, each less the mean over the values tried, in percentage "
        "points (95 % interval):"
    )
    head = "\n".join(lines[: len(lines) - len(levels)]) if levels else ""
    said = _on_importances(analysis) + (f" Left out for want of room: {', '.join(left_out)}." if left_out else "")
    notes = paragraph(said, width, "- ")
    return "\n\n".join(filter(None, [paragraph(intro, width), head])) + "\n" + "\n".join([*blocks, "", notes])


def _grid(analysis: Analysis, place: int) -> tuple[Any, ...]:
    return list(analysis.study.space.grids.values())[place]


def _compared(analysis: Analysis, place: int) -> Sequence[int]:
    """The levels of a parameter that were tried, if there are two to compare."""
    tried = sorted(set(analysis.points[:, place].tolist()))
    return tried if len(tried) > 1 else []


def _title(analysis: Analysis, place: int, name: str) -> str:
    """The parameter's name, its importance, and what was not tried of it."""
    grid, tried = _grid(analysis, place), set(analysis.points[:, place].tolist())
    if len(tried) == 1:
        return f"{name}: only {grid[tried.pop()]} was tried"
    untried = [str(value) for level, value in enumerate(grid) if level not in tried]
    parts = [_importance(analysis, name), f"not tried: {', '.join(untried)}" if untried else ""]
    return "; ".join([name, *filter(None, parts)])


def interval(analysis: Analysis, measure: str, place: int) -> tuple[Any, Any]:
    """(levels,) a parameter's effects on a measure and half their 95 % intervals; nan where untried."""
    fit = analysis.fits[measure]
    return fit.effects[place], fit.quantile * fit.effect_errors[place]


def _effect(analysis: Analysis, measure: str, place: int, level: int) -> str:
    effect, half = (values[level] for values in interval(analysis, measure, place))
    shown, low, high = (points(round(value, 4) + 0.0) for value in (effect, effect - half, effect + half))  # no -0.00
    return f"{shown} ({low} to {high})"


def _importance(analysis: Analysis, name: str) -> str:
    shares = [
        f"{found[name]:.0%} for {measure.replace('_', ' ')}"
        for measure, found in analysis.importances.items()
        if isinstance(found, dict)
    ]
    return f"importance {', '.join(shares)}" if shares else ""


def _on_importances(analysis: Analysis) -> str:
    """How to read the importances, and why a measure has none."""
    found = analysis.importances
    lines = [
        f"No importances for {name.replace('_', ' ')}: {why}." for name, why in found.items() if isinstance(why, str)
    ]
    if len(lines) < len(found):
        lines.append(
            "Importance: the parameter's share in what sets the best tenth of the trials apart, or the best five where "
            "those are more (PED-ANOVA by Optuna)."
        )
    return " ".join(lines)


def at_the_edge(analysis: Analysis) -> Iterator[str]:
    """A sentence for each grid of numbers whose best level, beyond noise, is an end of it that could be passed."""
    objective = analysis.study.objective
    for place, (name, grid) in enumerate(analysis.study.space.grids.items()):
        found, half = interval(analysis, objective, place)
        if isinstance(grid[0], bool) or len(grid) < LEAST_LEVELS or not np.nanmax([NOTHING, *(found - half)]) > NOTHING:
            continue
        best = grid[int(np.nanargmax(found))]
        up = best == max(grid)
        if (up or best == min(grid)) and _may_pass(analysis.study, name, best, up):
            yield (
                f"{name}: the best value, {best}, is the {'largest' if up else 'smallest'} of its grid, at "
                f"{_effect(analysis, objective, place, grid.index(best))} points; a wider grid might be better."
            )


def _may_pass(study: Study, name: str, value: Any, up: bool) -> bool:
    """Whether a config may have a value beyond this one."""
    beyond = value * (2 if up else 0.5) if isinstance(value, float) else value + (1 if up else -1)
    roomy: dict[str, Any] = {
        "protocol": study.protocol,
        "batch_size": 1,
        "train_examples": IMAGES[study.protocol]["train_examples"][1],
    }
    try:
        Config(**{**roomy, name: beyond})
    except ValueError:
        return False
    return True
